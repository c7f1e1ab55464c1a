"""The few values of an alert that fit on a line: for tables, for JSON lines and for file names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.broker.listen import Alert, whole
from pipeline.broker.nightly import plain_fields
from schemas.avro.framing import SchemaSource
from schemas.errors import PacketError
from schemas.packets.reader import PacketReader

# From the packet; the first two are in the headers of a channel's alerts as well.
FIELDS = ("candid", "objectId", "programid", "jd", "fid", "ra", "dec", "magpsf", "sigmapsf", "rb")


class Digester:
    """Reads FIELDS of alerts in batches.

    schemas: where the writer schemas of Confluent-framed packets are found.
    """

    def __init__(self, schemas: SchemaSource | None = None) -> None:
        self._schemas = schemas
        self._reader = PacketReader(FIELDS, survey="ztf", schemas=schemas)

    def digest(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        """One dictionary of plain JSON values an alert: its place, FIELDS, and what the headers say.

        What cannot be read or is missing is None; a packet that cannot be read has the reason as "error".
        """
        packets = [alert.raw for alert in alerts]
        batch = self._reader.read(packets)
        read: list[dict[str, Any]] = [dict.fromkeys(FIELDS) for _ in packets]
        for index, row in zip(batch.packet.tolist(), batch.table.to_pylist(), strict=True):
            read[index] = row
        for index in batch.other_packets:
            read[index] |= self._of_other_survey(packets[index])
        for refused in batch.refused:
            read[refused.index]["error"] = f"{refused.error.reason}: {refused.error}"
        return [_line(alert, values) for alert, values in zip(alerts, read, strict=True)]

    def _of_other_survey(self, raw: bytes) -> dict[str, Any]:
        try:
            return plain_fields(raw, FIELDS, self._schemas)
        except PacketError as error:
            return {"error": f"{error.reason}: {error}"}


def _line(alert: Alert, values: Mapping[str, Any]) -> dict[str, Any]:
    headers = alert.headers
    told: dict[str, Any] = {
        name: getattr(alert, name) for name in ("topic", "partition", "offset", "timestamp")
    }
    line = {name: _json_value(values[name]) for name in FIELDS}
    # The headers are right even where the packet's fields were dropped or cannot be read.
    if (candid := whole(headers.get("candid"))) is not None:
        line["candid"] = candid
    line["objectId"] = headers.get("objectId") or line["objectId"]
    if line["programid"] is None:
        line["programid"] = whole(headers.get("programid"))
    told |= {name: headers.get(name) for name in ("filter", "version")}
    told["parameters"] = _parsed(headers.get("parameters"))
    return line | told | ({"error": values["error"]} if "error" in values else {})


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(text: str | None) -> Any:
    """Parameters travel as JSON; what a foreign producer wrote there is passed on as text."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
