"""What the sandbox is asked: a filter, and the alerts to judge; and whether two answers are alike."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.sandbox.batch import packed
from filters.sandbox.models import ModelFile
from filters.sandbox.wire import Verdicts


@dataclass(frozen=True)
class Program:
    """A stranger's filter.

    owner: whose child judges it; what of the data a child may see belongs into this name. file: the name of
    the text; function: of the filter, "" for the only one. models: that the text asks for by name.
    """

    owner: str
    text: str
    file: str
    function: str
    models: tuple[ModelFile, ...] = ()

    @cached_property
    def key(self) -> str:
        """Names text, function and models."""
        models = "".join(f" {one.name}={one.version}" for one in self.models)
        return f"{content_hash(self.text)}:{self.function}{models}"


def content_hash(text: str) -> str:
    """Of a filter's text, as an operator approves it: 64 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Question:
    """A question about some alerts."""

    program: Program
    values: dict[str, Any]
    columns: Mapping[str, Any]
    index: pd.Index
    whole: str = ""

    def part(self, rows: np.ndarray) -> Question:
        """Some of its alerts, in their order."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Question(self.program, self.values, columns, self.index[rows], self.whole)

    def halves(self, chance: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """The rows of two parts, cut at random: at some row, or between exposures."""
        count = len(self.index)
        if not self.whole:
            first = np.arange(count) < chance.randint(0, count)
        else:
            codes, exposures = pd.factorize(self.columns[self.whole])
            chosen = np.array([chance.random() < 0.5 for _ in range(len(exposures) + 1)])
            first = chosen[codes]  # those without an exposure, -1, are the last
        return np.flatnonzero(first), np.flatnonzero(~first)

    @cached_property
    def packed(self) -> pa.RecordBatch:
        """The alerts as they are sent."""
        return packed(self.columns, self.index)


def is_alike(one: Verdicts, parts: Sequence[tuple[Verdicts, np.ndarray]]) -> bool:
    """Whether verdicts on a batch are those on its parts: verdicts, rows. Names of cuts do not matter."""
    mask = one.passing(sum(len(rows) for _, rows in parts))
    return all(_same(one, mask, part, rows) for part, rows in parts)


def _same(one: Verdicts, mask: np.ndarray, part: Verdicts, rows: np.ndarray) -> bool:
    """Whether verdicts on a batch, those of `mask` passing, are those of a part on its rows."""
    if (part.numbers.keys(), part.words.keys()) != (one.numbers.keys(), one.words.keys()):
        return False
    if not np.array_equal(mask[rows], part.passing(len(rows))):
        return False
    places = (np.cumsum(mask) - 1)[rows[mask[rows]]]  # among those that pass
    same_numbers = (
        np.array_equal(numbers[places], part.numbers[name], equal_nan=True)
        for name, numbers in one.numbers.items()
    )
    same_words = ([words[at] for at in places] == part.words[name] for name, words in one.words.items())
    return all(same_numbers) and all(same_words)
