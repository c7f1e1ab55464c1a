"""The few values of an alert that fit on a line: for tables, for JSON lines and for file names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.broker.listen import Alert, whole
from schemas.avro.framing import SchemaSource
from schemas.errors import PacketError
from schemas.frame import computed_column
from schemas.packets.packet import read_packet
from schemas.packets.reader import Batch, PacketReader, read_by_survey
from schemas.surveys import strangers
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Survey

_ALWAYS = ("candid", "objectId", "jd", "band", "mag", "ra", "dec")
"""What the table shows of an alert of any survey."""


class Digester:
    """Reads of alerts, in batches, what fits on a line: each survey's `digest`, and _ALWAYS.

    schemas: where the writer schemas of Confluent-framed packets are found.
    """

    def __init__(self, schemas: SchemaSource | None = None) -> None:
        self._schemas = schemas
        self._readers = [PacketReader(_stored(s), s.name, schemas) for s in SURVEYS.values()]

    def digest(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        """One dictionary of plain JSON values an alert: its values, its place, and what the headers say.

        What cannot be read or is missing is None; a packet that cannot be read has the reason as "error".
        """
        packets = [alert.raw for alert in alerts]
        read: list[dict[str, Any]] = [dict.fromkeys(_ALWAYS) for _ in packets]
        for reader, batch in read_by_survey(self._readers, packets):
            for index, values in zip(batch.packet.tolist(), _values(batch, reader.survey), strict=True):
                read[index] = values
            for index in batch.other_packets:
                read[index] |= self._of_stranger(packets[index])
            for refused in batch.refused:
                read[refused.index]["error"] = f"{refused.error.reason}: {refused.error}"
        return [_line(alert, values) for alert, values in zip(alerts, read, strict=True)]

    def _of_stranger(self, raw: bytes) -> dict[str, Any]:
        try:
            return strangers.values(read_packet(raw, self._schemas)[0], strangers.DIGEST)
        except PacketError as error:
            return {"error": f"{error.reason}: {error}"}


def _shown(survey: Survey) -> list[str]:
    return list(dict.fromkeys([*survey.digest, *_ALWAYS]))


def _stored(survey: Survey) -> list[str]:
    return list(dict.fromkeys(stored for name in _shown(survey) for stored in survey.inputs(name)))


def _values(batch: Batch, survey: Survey) -> list[dict[str, Any]]:
    """What is shown of each row; stored columns as they are."""
    table = batch.table
    columns = {
        name: table.column(name).to_pylist()
        if survey.how(name) is None
        else computed_column(table, name, survey.name).astype(object).tolist()
        for name in _shown(survey)
    }
    return [
        {**{name: column[row] for name, column in columns.items()}, "survey": survey.name}
        | {"rank": columns[survey.rank][row] if survey.rank in columns else None}
        for row in range(table.num_rows)
    ]


def _line(alert: Alert, values: Mapping[str, Any]) -> dict[str, Any]:
    headers = alert.headers
    line = {name: _json_value(value) for name, value in values.items()}
    # The headers are right even where the packet's fields were dropped or cannot be read.
    if (candid := whole(headers.get("candid"))) is not None:
        line["candid"] = candid
    line["objectId"] = headers.get("objectId") or line["objectId"]
    for field in {survey.public.field for survey in SURVEYS.values()} - {None}:
        if field and line.get(field) is None and (field in line or field in headers):
            line[field] = whole(headers.get(field))
    told: dict[str, Any] = {
        name: getattr(alert, name) for name in ("topic", "partition", "offset", "timestamp")
    }
    told |= {name: headers.get(name) for name in ("filter", "version")}
    told["parameters"] = _parsed(headers.get("parameters"))
    told |= {name: _parsed(headers[name]) for name in ("values", "external") if name in headers}
    return line | told


def _json_value(value: Any) -> Any:
    """JSON has no NaN, no infinity and no missing value of pandas'."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str) else None


def _parsed(text: str | None) -> Any:
    """Parameters travel as JSON; what a foreign producer wrote there is passed on as text."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
