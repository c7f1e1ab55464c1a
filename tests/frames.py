"""Frames of packets as plain dictionaries, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from schemas.frame import frame_maker


def table_of_packets(
    packets: Sequence[Mapping[str, Any]], reads: Sequence[str], survey: str = "ztf"
) -> pa.Table:
    """The raw columns that a frame of `reads` is made of, one row a packet."""
    return frame_maker(reads, survey).table_of_packets(packets)


def frame_of_packet(packet: Mapping[str, Any], reads: Sequence[str], survey: str = "ztf") -> pd.DataFrame:
    """A frame with one row."""
    return frame_maker(reads, survey).of_packets([packet])
