"""One packet as a plain dictionary -> the one-row frame that a filter sees, by the way that batches go."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from schemas.avro.fallback import fitted
from schemas.errors import CorruptValue
from schemas.frame import split, stored_columns, survey_named, to_frame
from schemas.surveys.registry import Survey


def frame_of_packet(packet: Mapping[str, Any], reads: Sequence[str], survey: str = "ztf") -> pd.DataFrame:
    """A frame with one row. A field that the packet lacks is missing, as in a batch.

    Raises CorruptValue for a value that does not fit the survey's schema, NoSuchColumn for an unknown name.
    """
    return to_frame(table_of_packets([packet], reads, survey), reads, survey)


def table_of_packets(
    packets: Sequence[Mapping[str, Any]], reads: Sequence[str], survey: str = "ztf"
) -> pa.Table:
    """The raw Arrow columns of `stored_columns(reads)`, one row a packet."""
    of = survey_named(survey)
    columns = {}
    for name in stored_columns(reads, survey):
        kind = of.arrow_type(name)
        try:
            columns[name] = fitted([_value(packet, name, of) for packet in packets], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise CorruptValue(f"{name} does not fit {kind}: {error}") from error
    return pa.table(columns)


def _value(packet: Mapping[str, Any], name: str, survey: Survey) -> Any:
    history, field = split(name, survey)
    if history:
        return [row.get(field) for row in packet.get(history) or []]
    for place in survey.places(name):
        value: Any = packet
        for step in place.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
