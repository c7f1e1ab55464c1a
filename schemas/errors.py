"""The errors, as a tree:

ZadsError
├── Unreachable            something outside does not answer: nobody's fault, try again
│   └── NoSchemaSource     a schema source cannot be reached or read
├── PacketError            this packet cannot be used; `reason` is its kebab-case word
│   ├── NotAvro            "not-avro": the bytes are in no framing that we know
│   ├── Truncated          "truncated": the packet ends too early
│   ├── Empty              "empty": a container file without a record
│   ├── UnknownSchema      "unknown-schema": no writer schema for it can be had
│   ├── UnsupportedSchema  "unsupported-schema": its writer schema cannot be used
│   ├── UnsupportedCodec   "unsupported-codec": its blocks are compressed in a way we do not know
│   ├── CorruptValue       "corrupt-value": the bytes are no value of the schema
│   ├── TooLarge           "too-large": reading it would take more memory than any alert needs
│   ├── NoName             "no-name": the alert has no candid or no objectId
│   └── NotPublic          "not-public": only public data may leave, and this alert is not
└── NoSuchColumn           a name that the survey (or frame) does not have; also a KeyError

Errors of filters are in filters/errors.py. The `hint` of an error says what a person can do about it.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class ZadsError(Exception):
    """The root of every error that this project raises on purpose."""

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Unreachable(ZadsError):
    """Something outside, such as a schema registry or an object store, does not answer now: try again."""


class NoSchemaSource(Unreachable):
    """A folder or registry of schemas cannot be reached or read. Not the fault of a packet: try again."""


class PacketError(ZadsError):
    """One packet cannot be used. Other packets of the batch are not affected."""

    @property
    def reason(self) -> str:
        """The class name as a kebab-case word, for counters and dead letters."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()


class NotAvro(PacketError):
    """The bytes are neither an Avro container file, nor Confluent-framed, nor of the known bare schema."""


class Truncated(PacketError):
    """The packet ends before what it announces."""


class Empty(PacketError):
    """A container file, whole as far as it goes, that holds no record."""


class UnknownSchema(PacketError):
    """The packet names a writer schema that no schema source has."""


class UnsupportedSchema(PacketError):
    """The writer schema is not Avro, or its types contradict the survey's."""


class UnsupportedCodec(PacketError):
    """The blocks are compressed with a codec other than null, deflate and snappy."""


class CorruptValue(PacketError):
    """The bytes are no value of the writer schema."""


class TooLarge(PacketError):
    """Reading the packet would take more memory than any alert needs."""


class NoName(PacketError):
    """The alert has no candid or no objectId, so it cannot be identified."""


class NotPublic(PacketError):
    """The alert's own programid is not 1, and only what is public was asked for."""


class NoSuchColumn(ZadsError, KeyError):
    """A name that the survey (or the frame) does not have; the message lists near names.

    Parameters
    ----------
    name
        The name that was asked for.
    known
        The names that exist.
    what
        What it names, for the message.
    """

    def __init__(self, name: str, known: Iterable[str] = (), what: str = "column") -> None:
        self.name, self.known, self.what = name, [str(n) for n in known], what
        super().__init__(f"no {what} {name!r}; {near_names(name, self.known)}")

    def __reduce__(self) -> tuple[type, tuple[str, list[str], str]]:
        return type(self), (self.name, self.known, self.what)


_MEANT = {
    "magnitude": ("mag", "magpsf"),
    "mag": ("magpsf",),
    "time": ("jd",),
    "date": ("jd", "night"),
    "mjd": ("jd",),
    "filter": ("band", "fid"),
    "score": ("rb", "reliability"),
    "real_bogus": ("rb",),
    "realbogus": ("rb",),
    "error": ("magerr", "sigmapsf"),
    "snr": ("magerr", "sigmapsf"),
    "object": ("objectId",),
    "id": ("objectId", "candid"),
    "lat": ("dec",),
    "lon": ("ra",),
    "declination": ("dec",),
    "right_ascension": ("ra",),
}
"""Usual words -> the names that they mean, where no name is spelled like them."""


def near_names(name: str, known: Iterable[str]) -> str:
    """The names that are near, or else the first of all names, as the end of a sentence."""
    names = sorted(set(known))
    meant = [one for one in _MEANT.get(name.lower(), ()) if one in names]
    if meant:
        return "did you mean " + " or ".join(map(repr, meant)) + "?"
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if not near:  # "magpsf" for "prv_candidates.magpsf", "prv.magpsf" for the same
        leaf = name.rpartition(".")[2]
        near = [n for n in names if n.rpartition(".")[2] == leaf][:3]
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    if not names:
        return "there are none"
    return f"there are: {', '.join(names[:20])}" + (", ..." if len(names) > 20 else "")


def one_line(error: BaseException) -> str:
    """The error of user code on one line: kind and message, at most 500 characters.

    One that tells of an error in another process (`raised`) has that one's words.
    """
    words = getattr(error, "raised", "") or f"{type(error).__name__}: {error}"
    return words.replace("\n", " ")[:500]
