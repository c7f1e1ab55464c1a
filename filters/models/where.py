"""An expression that asks models: `rb > 0.5 and snn.real > 0.9`. It runs where they do, in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from filters.expressions.filter import Expression
from filters.expressions.syntax import BadExpression, parse
from filters.expressions.terms import Shared
from filters.models.model import BadModel, Model, model
from filters.view import arrays_of, index_of


class Where:
    """What a filter that is made of such an expression reads, says and gives.

    The terms that ask a model see the alerts that the terms before them have left.

    Parameters
    ----------
    text
        The expression: a model's value is NAME.VALUE.
    names
        Of the models.

    Raises
    ------
    BadExpression
        For a text that is no expression about these alerts.
    BadModel
        For a model that is not there, or has no such value.
    """

    def __init__(self, text: str, *names: str) -> None:
        self._models: dict[str, Model] = {name: model(name) for name in names}
        surveys = sorted({one.about.get("survey", "ztf") for one in self._models.values()})
        if len(surveys) != 1:
            raise BadModel(f"the models are for several surveys: {', '.join(surveys)}")
        self.survey = surveys[0]
        self._whole = Expression(text, "where", self.survey)
        if self._whole.parameters:
            raise BadExpression(
                "an expression that asks a model has no parameters: write the numbers themselves"
            )
        self._terms = {one.text: Expression(one.text, "", self.survey) for one in parse(text).terms}
        own = [name for name in self._whole.reads if not self._asked([name])]
        self.reads = list(dict.fromkeys([*own, *(c for one in self._models.values() for c in one.reads)]))
        self.gives = self._whole.gives
        for one in self._terms.values():
            self._check(one)

    def __call__(self, alerts: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
        """The cuts and the values."""
        cuts: dict[str, Any] = {}
        for text, one in self._terms.items():
            cuts[text] = self._later(one) if self._asked(one.reads) else one.mask(Shared(alerts))
        return cuts, {name: self._value(name) for name in self.gives}

    def _later(self, one: Expression) -> Callable[[pd.DataFrame], np.ndarray]:
        return lambda left: one.mask(Shared(self._with_models(left, one.reads)))

    def _value(self, name: str) -> Callable[[pd.DataFrame], Any]:
        def of(passing: pd.DataFrame) -> Any:
            given: Any = self._whole(self._with_models(passing, self._whole.reads))
            return given[1][name]

        return of

    def _asked(self, reads: Sequence[str]) -> list[str]:
        """Those of the columns that a model gives."""
        return [name for name in reads if name.partition(".")[0] in self._models]

    def _with_models(self, alerts: pd.DataFrame, reads: Sequence[str]) -> pd.DataFrame:
        """Columns of alerts and what the models say of them."""
        there, asked = arrays_of(alerts), self._asked(reads)
        columns = {name: there[name] for name in reads if name not in asked}
        for head in dict.fromkeys(name.partition(".")[0] for name in asked):
            said = self._models[head](alerts)
            columns |= {f"{head}.{name}": said[name].to_numpy() for name in said}
        return pd.DataFrame(columns, index=index_of(alerts), copy=False)

    def _check(self, one: Expression) -> None:
        for name in self._asked(one.reads):
            head, _, value = name.partition(".")
            if value not in self._models[head].values:
                known = ", ".join(self._models[head].values)
                raise BadModel(f"model {head} gives no {value}, but {known}")
        if self._asked(one.reads) and len(self._asked(one.reads)) < sum("." in name for name in one.reads):
            raise BadExpression(
                f"`{one.text}` asks a model and a history: ask the history in a term of its own"
            )
