"""The values of a packet that decide where it is published: survey, night, program and exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from schemas.avro.fallback import records_of
from schemas.avro.framing import Framer, SchemaSource
from schemas.errors import PacketError, ZadsError
from schemas.frame import computed_column
from schemas.packets.reader import Batch, PacketReader, read_by_survey
from schemas.packets.split import split_records
from schemas.surveys import strangers
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Survey
from schemas.time import night_date, night_of


class Unplaced(ZadsError):
    """A packet that can be read but whose topic is unknown; `reason` in kebab-case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Published:
    """One packet, ready to be published.

    raw: its bytes; jd: UTC Julian date in days; night: its number; exposure: what keys its message; None
    where it has no such thing. needs: values of the columns that its topic's name needs. schema: its writer
    schema, where that counts.
    """

    raw: bytes
    survey: str
    candid: int | None = None
    objectId: str | None = None
    jd: float | None = None
    night: float | None = None
    exposure: int | None = None
    needs: Mapping[str, Any] | None = None
    schema: Any = None

    @property
    def key(self) -> bytes | None:
        """The exposure, whose alerts then stay in one partition, in order; else the candid."""
        number = self.exposure if self.exposure is not None else self.candid
        return None if number is None else str(number).encode()

    @property
    def topic(self) -> str:
        """The survey's topic, such as `ztf_20231012_programid1`. Raises Unplaced."""
        if self.survey == "unknown":
            raise Unplaced("unknown-survey", "no survey is known with this schema; name a topic with --topic")
        needs = self.needs or {}
        if self.survey not in SURVEYS:
            return strangers.topic(self.survey, self._date(), needs)
        topics = SURVEYS[self.survey].topics
        night = self._date() if topics.nightly else None
        for name in topics.needs:
            if needs.get(name) is None:
                raise Unplaced(f"no-{name}", f"the packet has no {name}, which its topic's name needs")
        return topics.name(needs, night, lambda: self.schema)

    def _date(self) -> date:
        try:
            return night_date(math.nan if self.night is None else self.night)  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            detail = f"the packet's time (jd {self.jd}) is no date, which its topic's name needs"
            raise Unplaced("no-night", detail) from None


class Sorter:
    """Reads only those values of each packet that its topic and key need.

    schemas: where the writer schemas of Confluent-framed packets are found.
    """

    def __init__(self, schemas: SchemaSource | None = None) -> None:
        self._framer = Framer(schemas)
        self._readers = [PacketReader(_columns(s), s.name, schemas) for s in SURVEYS.values()]

    def sort(self, packets: Sequence[bytes]) -> list[list[Published] | PacketError | Unplaced]:
        """For each packet its alerts (usually one), or why it cannot be read."""
        sorted_: list[list[Published] | PacketError] = [[] for _ in packets]
        for reader, batch in read_by_survey(self._readers, packets):
            for refused in batch.refused:
                sorted_[refused.index] = refused.error
            for index in batch.other_packets:
                sorted_[index] = self._of_stranger(packets[index])
            for index, values in zip(batch.packet.tolist(), _values(batch, reader.survey), strict=True):
                alerts = sorted_[index]
                assert isinstance(alerts, list)
                schema = None if reader.survey.topics.nightly else self._schema(packets[index])
                alerts.append(Published(packets[index], reader.survey.name, **values, schema=schema))
        return [_one_packet_each(alerts) for alerts in sorted_]

    def _schema(self, raw: bytes) -> Any:
        return self._framer.frame(raw).writer.schema

    def _of_stranger(self, raw: bytes) -> list[Published] | PacketError:
        """A packet of a survey without a room, read slowly: its schema is not known beforehand."""
        try:
            framed = self._framer.frame(raw)
            return [_stranger(raw, framed.writer.survey, packet) for packet in records_of(framed)]
        except PacketError as error:
            return error


def _columns(survey: Survey) -> list[str]:
    """The stored columns that a topic and a key are made of."""
    names = ("candid", "objectId", "jd", survey.key, *survey.topics.needs)
    return list(dict.fromkeys(stored for name in names for stored in survey.inputs(name)))


def _values(batch: Batch, survey: Survey) -> list[dict[str, Any]]:
    """What `Published` wants to know of each row."""
    table = batch.table
    columns = {
        "objectId": computed_column(table, "objectId", survey.name).astype(object),
        "jd": computed_column(table, "jd", survey.name),
        "night": computed_column(table, "night", survey.name),
        "exposure": computed_column(table, survey.key, survey.name).astype(object),
    }
    plain = {name: [_plain(value) for value in column.tolist()] for name, column in columns.items()}
    plain["candid"] = table.column("candid").to_pylist()
    needs = {name: table.column(name).to_pylist() for name in survey.topics.needs}
    return [
        {
            **{name: column[row] for name, column in plain.items()},
            "needs": {name: column[row] for name, column in needs.items()},
        }
        for row in range(table.num_rows)
    ]


def _plain(value: Any) -> Any:
    """None for what is missing."""
    missing = value is None or value != value or str(value) == "<NA>"
    return None if missing else value


def _stranger(raw: bytes, survey: str, packet: Mapping[str, Any]) -> Published:
    read = strangers.values(packet, ("candid", "objectId", "jd", "programid", "pid"))
    jd = read["jd"]
    night = None if jd is None else float(night_of(jd))
    return Published(raw, survey, read["candid"], read["objectId"], jd, night, read["pid"], read)


def _one_packet_each(alerts: list[Published] | PacketError) -> list[Published] | PacketError | Unplaced:
    """A file of one alert stays as it is; one of several becomes a packet for each."""
    if isinstance(alerts, PacketError) or len(alerts) == 1:
        return alerts
    if not alerts:
        return Unplaced("no-alert", "the file is an Avro container file with no alert in it")
    singles = split_records(alerts[0].raw)
    return [replace(alert, raw=raw) for alert, raw in zip(alerts, singles, strict=True)]
