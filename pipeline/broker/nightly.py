"""What of a packet decides where it is published: survey, night, programid and exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from schemas.avro.fallback import records_of
from schemas.avro.framing import SchemaSource, frame
from schemas.errors import PacketError, ZadsError
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from schemas.packets.split import split_records
from schemas.surveys.definitions import night

# Night 0 of schemas.surveys.definitions.night(), 2017-01-01, the first of ZTF's `nid`.
_NIGHT_0 = date(2017, 1, 1)
_ZTF = ("candid", "objectId", "jd", "programid", "pid")


class Unplaced(ZadsError):
    """A packet that can be read but whose nightly topic cannot be told; `reason` in kebab-case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Published:
    """One packet, ready to be published.

    raw: its bytes; jd: UTC Julian date in days; pid: the quadrant exposure. None where it has no such field.
    """

    raw: bytes
    survey: str
    candid: int | None = None
    objectId: str | None = None
    jd: float | None = None
    programid: int | None = None
    pid: int | None = None

    @property
    def key(self) -> bytes | None:
        """The exposure, whose alerts then stay in one partition, in order; else the candid."""
        number = self.pid if self.pid is not None else self.candid
        return None if number is None else str(number).encode()

    @property
    def topic(self) -> str:
        """The survey's nightly topic, `ztf_20231012_programid1`. Raises Unplaced."""
        if self.survey == "unknown":
            raise Unplaced("unknown-survey", "no survey is known with this schema; name a topic with --topic")
        prefix = f"{self.survey}_{self._date():%Y%m%d}"
        if self.programid is None:
            if self.survey == "ztf":
                raise Unplaced("no-programid", "the packet has no programid, which its topic's name needs")
            return prefix
        return f"{prefix}_programid{self.programid}"

    def _date(self) -> date:
        number = math.nan if self.jd is None else float(night(self.jd, self.survey))
        try:
            return _NIGHT_0 + timedelta(days=number)
        except (ValueError, OverflowError):
            detail = f"the packet's time (jd {self.jd}) is no date, which its topic's name needs"
            raise Unplaced("no-night", detail) from None


class Sorter:
    """Reads of each packet what its topic and key need, and nothing more.

    schemas: where the writer schemas of Confluent-framed packets are found.
    """

    def __init__(self, schemas: SchemaSource | None = None) -> None:
        self._schemas = schemas
        self._reader = PacketReader(_ZTF, survey="ztf", schemas=schemas)

    def sort(self, packets: Sequence[bytes]) -> list[list[Published] | PacketError | Unplaced]:
        """For each of `packets` what it holds, usually one alert, or why it cannot be read."""
        batch = self._reader.read(packets)
        sorted_: list[list[Published] | PacketError] = [[] for _ in packets]
        for refused in batch.refused:
            sorted_[refused.index] = refused.error
        for index in batch.other_packets:
            sorted_[index] = self._of_other_survey(packets[index])
        for index, row in zip(batch.packet.tolist(), batch.table.to_pylist(), strict=True):
            found = sorted_[index]
            assert isinstance(found, list)
            found.append(Published(packets[index], "ztf", **row))
        return [_one_packet_each(found) for found in sorted_]

    def _of_other_survey(self, raw: bytes) -> list[Published] | PacketError:
        """Another survey's packet, read slowly: names differ, schemas are not known beforehand."""
        try:
            framed = frame(raw, self._schemas)
            survey = framed.writer.survey
            return [Published(raw, survey, **_fields(packet, _ZTF)) for packet in records_of(framed)]
        except PacketError as error:
            return error


def _one_packet_each(found: list[Published] | PacketError) -> list[Published] | PacketError | Unplaced:
    """A file of one alert stays as it is; one of several becomes a packet for each."""
    if isinstance(found, PacketError) or len(found) == 1:
        return found
    if not found:
        return Unplaced("no-alert", "the file is an Avro container file with no alert in it")
    singles = split_records(found[0].raw)
    return [replace(alert, raw=raw) for alert, raw in zip(found, singles, strict=True)]


# Where surveys keep what ZTF calls by these names; the first that is there counts.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "candid": ("candid", "candidate.candid", "diaSourceId", "diaSource.diaSourceId"),
    "objectId": ("objectId", "objectid", "diaSource.diaObjectId", "diaObject.diaObjectId"),
    "jd": ("candidate.jd",),
    "programid": ("candidate.programid",),
    "pid": ("candidate.pid",),
}
_MJD_TAI = "diaSource.midpointMjdTai"
_MJD_0 = 2400000.5
# TAI - UTC, unchanged since 2017 (IERS Bulletin C); days.
_TAI_UTC = 37 / 86400


def plain_fields(raw: bytes, names: Sequence[str], schemas: SchemaSource | None = None) -> dict[str, Any]:
    """ZTF's `names` from the first alert of any survey's packet, None where it has no such thing.

    Raises PacketError.
    """
    return _fields(read_packet(raw, schemas)[0], names)


def _fields(packet: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    values = {}
    for name in names:
        paths = _NAMES.get(name, (f"candidate.{name}", f"diaSource.{name}"))
        values[name] = _first(packet, paths)
    if "jd" in values and values["jd"] is None and (mjd := _first(packet, (_MJD_TAI,))) is not None:
        values["jd"] = mjd + _MJD_0 - _TAI_UTC
    if values.get("objectId") is not None:
        values["objectId"] = str(values["objectId"])
    return values


def _first(packet: Mapping[str, Any], paths: Sequence[str]) -> Any:
    for path in paths:
        value: Any = packet
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
