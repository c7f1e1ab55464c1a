"""What each part of an expression does with a batch: a tree of small objects that end in NumPy calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from filters.blocks import Block
from filters.column import Column
from filters.expressions.values import (
    Kind,
    Values,
    absent,
    among,
    both,
    calculate,
    compare,
    either,
    negated,
    of_column,
    spread,
)
from filters.features import Feature
from filters.history import History, history
from filters.view import column_of, index_of


class Shared:
    """What expressions have asked of one frame: many name the same columns and terms, each is made once.

    Parameters
    ----------
    alerts
        The frame, which nobody changes.

    Attributes
    ----------
    masks
        Term and the parameters in it -> (n,) bool, of each alert.
    """

    def __init__(self, alerts: pd.DataFrame) -> None:
        self.alerts = alerts
        self.length = len(index_of(alerts))
        self.masks: dict[Hashable, np.ndarray] = {}
        self._columns: dict[tuple[str, str], Values] = {}
        self._pasts: dict[str, History] = {}

    def column(self, name: str) -> Values:
        """A column of alerts."""
        place = ("", name)
        if place not in self._columns:
            self._columns[place] = of_column(column_of(self.alerts, name))
        return self._columns[place]

    def past(self, name: str) -> History:
        """The past epochs of a history."""
        if name not in self._pasts:
            self._pasts[name] = history(self.alerts, name)
        return self._pasts[name]

    def of_epochs(self, name: str, column: str) -> Values:
        """A field of a history ("prv_candidates.magpsf"), or the alert's own value on each past epoch."""
        place = (name, column)
        if place not in self._columns:
            past, field_name = self.past(name), column.removeprefix(f"{name}.")
            found: Column = past.alert[column] if field_name == column else past[field_name]
            self._columns[place] = of_column(found.values)
        return self._columns[place]


class Batch:
    """The alerts that an expression is evaluated on.

    alerts: the frame, or what is shared of it; parameters: name -> value now.
    """

    def __init__(self, alerts: pd.DataFrame | Shared, parameters: Mapping[str, Any]) -> None:
        self.shared = alerts if isinstance(alerts, Shared) else Shared(alerts)
        self.alerts, self.length, self.parameters = self.shared.alerts, self.shared.length, parameters

    def column(self, name: str) -> Values:
        """A column of alerts."""
        return self.shared.column(name)

    def epochs(self, name: str) -> EpochsOf:
        """The past epochs of a history."""
        return EpochsOf(self, name)


class EpochsOf:
    """The past epochs of one history: a batch whose rows are epochs."""

    def __init__(self, batch: Batch, name: str) -> None:
        self._shared, self._name, self.parameters = batch.shared, name, batch.parameters
        self.past = batch.shared.past(name)

    @property
    def length(self) -> int:
        return len(self.past)

    def column(self, name: str) -> Values:
        """A field of the history ("prv_candidates.magpsf"), or the alert's own value on each epoch."""
        return self._shared.of_epochs(self._name, name)

    def epochs(self, name: str) -> EpochsOf:
        """Never asked for: the meaning of an expression is checked before it runs."""
        raise TypeError(f"a history within another: {name}")


Rows = Batch | EpochsOf


@dataclass(frozen=True)
class Part:
    """A part of an expression. kind: of its values; history: whose epochs they are of, "" for alerts.

    reads: the columns that it needs, in the order of the text.
    """

    kind: Kind
    history: str = ""
    reads: tuple[str, ...] = ()

    def values(self, rows: Rows) -> Values:
        """Its values on these rows."""
        raise NotImplementedError

    @property
    def thresholds(self) -> tuple[str, ...]:
        """The parameters in it, sorted."""
        return tuple(sorted(set(_thresholds(self))))


def _thresholds(one: Any) -> Iterator[str]:
    if isinstance(one, Threshold):
        yield one.name
    elif isinstance(one, Part):
        for inner in vars(one).values():
            yield from _thresholds(inner)
    elif isinstance(one, tuple):
        for inner in one:
            yield from _thresholds(inner)


@dataclass(frozen=True)
class Literal(Part):
    """A number, a text, True or False."""

    value: Any = None

    def values(self, rows: Rows) -> Values:
        return Values(self.value)


@dataclass(frozen=True)
class Threshold(Part):
    """A parameter."""

    name: str = ""

    def values(self, rows: Rows) -> Values:
        return Values(rows.parameters[self.name])


@dataclass(frozen=True)
class Field(Part):
    """A column of alerts or a field of a history."""

    name: str = ""

    def values(self, rows: Rows) -> Values:
        return rows.column(self.name)


@dataclass(frozen=True)
class Comparison(Part):
    """`a < b`, and chains such as `a < b <= c`."""

    operands: tuple[Part, ...] = ()
    operators: tuple[Callable[[Any, Any], Any], ...] = ()

    def values(self, rows: Rows) -> Values:
        values = [operand.values(rows) for operand in self.operands]
        pairs = zip(self.operators, values, values[1:], strict=False)
        answers = [compare(operator, left, right) for operator, left, right in pairs]
        whole = answers[0]
        for answer in answers[1:]:
            whole = both(whole, answer)
        return whole


@dataclass(frozen=True)
class Membership(Part):
    """`a in (1, 2)` and `a not in (1, 2)`."""

    operand: Part = field(default_factory=lambda: Literal("number", value=0))
    choices: tuple[Part, ...] = ()
    wanted: bool = True

    def values(self, rows: Rows) -> Values:
        choices = [choice.values(rows).data for choice in self.choices]
        return among(self.operand.values(rows), choices, self.wanted)


@dataclass(frozen=True)
class Logic(Part):
    """`a and b`, `a or b`, `not a`."""

    operands: tuple[Part, ...] = ()
    word: str = "and"

    def values(self, rows: Rows) -> Values:
        first, *others = (operand.values(rows) for operand in self.operands)
        if self.word == "not":
            return negated(first)
        for other in others:
            first = both(first, other) if self.word == "and" else either(first, other)
        return first


@dataclass(frozen=True)
class Missing(Part):
    """`missing(x)`."""

    operand: Part = field(default_factory=lambda: Literal("number", value=0))

    def values(self, rows: Rows) -> Values:
        return absent(self.operand.values(rows))


@dataclass(frozen=True)
class Calculation(Part):
    """Arithmetic and functions of numbers."""

    operands: tuple[Part, ...] = ()
    operation: Callable[..., Any] = np.add

    def values(self, rows: Rows) -> Values:
        return calculate(self.operation, *(operand.values(rows) for operand in self.operands))


@dataclass(frozen=True)
class Aggregate(Part):
    """One value an alert from the past epochs of a history: `count(prv_candidates.magpsf < 19)`.

    operand: what is aggregated, None for the epochs themselves; where: which epochs count, None for all.
    """

    of: str = ""
    word: str = "any"
    operand: Part | None = None
    where: Part | None = None

    def values(self, rows: Rows) -> Values:
        epochs = rows.epochs(self.of)
        column = self._column(epochs)
        return of_column(getattr(column, self.word)())

    def _column(self, epochs: EpochsOf) -> Column | History:
        """The values that are aggregated, of the epochs that count."""
        past = epochs.past
        chosen = None if self.where is None else spread(self.where.values(epochs), epochs.length, "flag")
        if self.operand is None:
            return past if chosen is None else past[chosen]
        data = spread(self.operand.values(epochs), epochs.length, self.operand.kind)
        if self.word == "count" and self.operand.kind == "flag":
            return past[data if chosen is None else data & chosen]
        column = Column(past, data, self.of)
        return column if chosen is None else column[chosen]


@dataclass(frozen=True)
class LightCurveFeature(Part):
    """`rise_rate()`, `colour("g", "r")`: see `filters.features`."""

    of: str = ""
    feature: Feature | None = None
    texts: tuple[str, ...] = ()

    def values(self, rows: Rows) -> Values:
        assert isinstance(rows, Batch)
        assert self.feature is not None
        return of_column(self.feature.function(rows.alerts, rows.epochs(self.of).past, *self.texts))


@dataclass(frozen=True)
class Predicate(Part):
    """`star(radius=1)`: see `filters.blocks`. given: parameter -> a number, or one of the expression."""

    block: Block | None = None
    given: tuple[tuple[str, Part], ...] = ()

    def values(self, rows: Rows) -> Values:
        assert isinstance(rows, Batch)
        assert self.block is not None
        given = {name: part.values(rows).data for name, part in self.given}
        return of_column(self.block.function(rows.alerts, **given))
