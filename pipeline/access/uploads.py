"""Files that are longer than a record: a user sends them in parts, then the request that is about them.

A file is known by its hash, and a part by its place in it: so a part that comes twice, late or in any order
is the same part, and what is put together is the file or nothing. Parts lie on disk until they are used, or
too old; whoever starts again goes on with them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from pipeline.access.lists import MOST_FILE, PART_BYTES, FilePart, ListRequest
from pipeline.access.requests import Answer, ask
from pipeline.access.roles import REQUESTS
from pipeline.broker.client import BrokerError, producer_settings
from schemas.errors import ZadsError

MOST_BYTES = 100_000_000
"""Of one file, and of all the parts of a user that lie there."""
KEPT_SECONDS = 3600.0
"""So long after its last part a file is kept."""
_USED = "used"
_TIMES = 3
_SLOWEST = 50_000.0
"""Bytes in a second that a user may send at least: a quota slows them down."""


class UploadError(ZadsError):
    """A file that did not come, or may not."""


class Missing(UploadError):
    """Parts that have not come. parts: their numbers."""

    def __init__(self, parts: tuple[int, ...], of: int) -> None:
        told = ", ".join(str(one + 1) for one in parts[:10]) + (", …" if len(parts) > 10 else "")
        super().__init__(
            f"{len(parts)} of {of} parts of the file have not come ({told})", hint="send them, and ask again"
        )
        self.parts = parts


class Uploads:
    """The parts that lie on disk. One thread a user.

    Parameters
    ----------
    folder
        Where: FOLDER/USER/HASH/NUMBER.
    most
        Bytes of one user.
    """

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self._folder, self._most = folder, most

    def put(self, user: str, part: FilePart) -> None:
        """Keep a part; the same one again changes nothing.

        Parameters
        ----------
        user
            Whose it is.
        part
            The part.

        Raises
        ------
        UploadError
            When it did not arrive as it was sent, or would be more than a user may have.
        """
        try:
            raw = base64.b64decode(part.data, validate=True)
        except binascii.Error:
            raise UploadError("this part did not arrive as it was sent") from None
        place = self._folder / user / part.sha256
        there = place / f"{part.number:03d}"
        before = there.stat().st_size if there.exists() else 0
        self._make_room(user, place, len(raw) - before)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = there.with_suffix(".new")
        fresh.write_bytes(raw)
        fresh.replace(there)

    def whole(self, user: str, sha256: str, parts: int) -> bytes:
        """The file of this hash, in so many parts; it is kept for a while, in case it is asked for again.

        Parameters
        ----------
        user
            Whose it is.
        sha256
            64 hexadecimal digits.
        parts
            How many.

        Raises
        ------
        Missing
            When some have not come.
        UploadError
            When they are another file: then they are gone.
        """
        place = self._folder / user / sha256
        wanted = [place / f"{number:03d}" for number in range(parts)]
        if missing := tuple(number for number, one in enumerate(wanted) if not one.exists()):
            raise Missing(missing, parts)
        raw = b"".join(one.read_bytes() for one in wanted)
        if hashlib.sha256(raw).hexdigest() != sha256:
            shutil.rmtree(place)
            raise UploadError(
                "the parts are not the file that was named: they are gone", hint="send it again"
            )
        (place / _USED).touch()
        return raw

    def expire(self, now: float | None = None) -> list[tuple[str, str]]:
        """Take away what is old; user and words for each file that was never asked for.

        now: seconds since 1970, the present where it is left out.
        """
        told = []
        for place in sorted(self._folder.glob("*/*")):
            newest = max((one.stat().st_mtime for one in place.iterdir()), default=0.0)
            if (now or time.time()) - newest > KEPT_SECONDS:
                if not (place / _USED).exists():
                    told.append((place.parent.name, _given_up(place)))
                shutil.rmtree(place)
        return told

    def _make_room(self, user: str, place: Path, more: int) -> None:
        """For so many bytes: files that have been used go first. Raises UploadError."""
        others = [one for one in (self._folder / user).glob("*") if one != place and (one / _USED).exists()]
        while self._taken(user) + more > self._most:
            if not others:
                raise UploadError(
                    f"more than {self._most / 1e6:,.0f} MB of files in parts",
                    hint=f"what is not finished is gone after {KEPT_SECONDS / 60:.0f} minutes;"
                    " an operator can add a larger file",
                )
            shutil.rmtree(others.pop())

    def _taken(self, user: str) -> int:
        return sum(one.stat().st_size for one in (self._folder / user).glob("*/*"))


def _given_up(place: Path) -> str:
    count = sum(one.name.isdigit() for one in place.iterdir())
    return (
        f"a file of which {count} parts had come (sha256 {place.name[:12]}…) is given up: no more came within"
        f" {KEPT_SECONDS / 60:.0f} minutes"
    )


def parts_of(raw: bytes, sha256: str, numbers: tuple[int, ...] | None = None) -> Iterator[FilePart]:
    """The parts of a file.

    Parameters
    ----------
    raw
        The file.
    sha256
        Its hash.
    numbers
        Which parts; None: all.
    """
    for number in range(-(-len(raw) // PART_BYTES)) if numbers is None else numbers:
        piece = raw[number * PART_BYTES : (number + 1) * PART_BYTES]
        yield FilePart(sha256=sha256, number=number, data=base64.b64encode(piece).decode())


def ask_with_file(
    request: ListRequest, raw: bytes, user: str, bootstrap: str, seconds: float = 120.0, **kafka: Any
) -> Answer:
    """Send a request that is about a file, in parts where it is long; parts that get lost are sent again.

    Parameters
    ----------
    request
        What is wished.
    raw
        The file.
    user
        Who wishes it.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    seconds
        How long to wait for the answer.

    Raises
    ------
    UploadError
        For a file that is too long.
    BrokerError
        When the broker refuses it, or nobody answers in time.
    """
    if len(raw) <= MOST_FILE:
        file = base64.b64encode(raw).decode()
        return ask(request.model_copy(update={"file": file}), user, bootstrap, seconds, **kafka)
    if len(raw) > MOST_BYTES:
        raise UploadError(
            f"{request.file_name} has {len(raw) / 1e6:,.1f} MB, {MOST_BYTES / 1e6:,.0f} MB may be",
            hint="an operator can add a larger one",
        )
    sha256, missing = hashlib.sha256(raw).hexdigest(), None
    for attempt in range(_TIMES):
        _send(parts_of(raw, sha256, missing), len(raw), user, bootstrap, **kafka)
        about = {"file_hash": sha256, "parts": -(-len(raw) // PART_BYTES), "id": f"{request.id}-{attempt}"}
        answer = ask(request.model_copy(update=about), user, bootstrap, seconds, **kafka)
        if not (missing := answer.missing):
            break
    return answer


def _send(parts: Iterator[FilePart], size: int, user: str, bootstrap: str, **kafka: Any) -> None:
    """Raises BrokerError when the broker does not take them."""
    failed: list[Any] = []
    producer = Producer(producer_settings(bootstrap, **kafka))
    for part in parts:
        producer.produce(
            REQUESTS + user,
            part.model_dump_json().encode(),
            partition=0,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.poll(0)
    if producer.flush(30.0 + size / _SLOWEST) or failed:
        raise BrokerError(f"the file is not taken: {failed[0].str() if failed else 'no answer'}")
