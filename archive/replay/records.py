"""Some source records, by partition and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Records:
    """Offsets low <= offset < high of a partition. high: None, to its end."""

    topic: str
    partition: int
    low: int
    high: int | None

    def among(self, topic: Any, partition: Any, offset: np.ndarray) -> np.ndarray:
        """Which of some records are among these, (n,) bool.

        Parameters
        ----------
        topic, partition
            Columns of pandas, (n,).
        offset
            (n,) float, NaN for what came from a file.
        """
        here = ((topic == self.topic) & (partition == self.partition)).to_numpy(dtype=bool, na_value=False)
        inside: np.ndarray = (offset >= self.low) & (offset < (np.inf if self.high is None else self.high))
        return here & inside


def held_by(some: Sequence[Records], topic: Any, partition: Any, offset: Any) -> np.ndarray:
    """Which records are among any of these, (n,) bool.

    Parameters
    ----------
    some
        Ranges of records.
    topic, partition, offset
        Columns of pandas, (n,).
    """
    offsets = offset.to_numpy(float, na_value=np.nan)
    keep = np.zeros(len(offsets), bool)
    for one in some:
        keep |= one.among(topic, partition, offsets)
    return keep
