"""The contract: a filter is a pure function from columns of alerts to named cuts.

    @alert_filter(survey="ztf", reads=["rb"])
    def real_bogus(alerts, *, rb_min: Annotated[float, ""] = 0.65):
        "Real rather than bogus."
        return {"real": alerts["rb"] >= rb_min}

The law that every filter keeps: f(a ++ b) = f(a) ++ f(b), f(nothing) = nothing, the input is not changed;
order and chunking do not matter. So the same object serves the live stream, a replay and a single packet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from filters import cuts, travel
from filters import traced as trace
from filters import version as source
from filters.errors import BadCut, BadParameter, FilterError, ReadsRequired
from filters.external.externals import Unchecked, frames_of
from filters.parameters import Parameter, parameters_of, with_values
from filters.tables import Group, each_value, groups
from filters.tables.tables import WHOLE_EXPOSURES, columns_of
from filters.values import Judged, is_lazy, of_passing, split
from filters.values import declared as declared_values
from filters.view import AlertView
from schemas.errors import NoSuchColumn, ZadsError, near_names
from schemas.frame import IDENTITY, FrameMaker, may_be_external
from schemas.surveys.registry import module_of, survey_having, survey_named

Cuts = Mapping[str, Any]
Answer = Cuts | tuple[Cuts, Mapping[str, Any]]
"""What a filter's function returns: its cuts, or its cuts and its values."""
SCOPES = ("alert", "exposure")


@dataclass(frozen=True)
class Verdict:
    """What a filter says of one alert: true when every cut is."""

    cuts: dict[str, bool]

    def __bool__(self) -> bool:
        return all(self.cuts.values())

    @property
    def stopped_by(self) -> str | None:
        """The first cut that is false; None for an alert that passes."""
        return next((name for name, passed in self.cuts.items() if not passed), None)


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter with its current parameter values; made by `alert_filter`, changed by `using`.

    name, doc: of the function. surveys: whose packets. reads: the columns it sees, None if not declared.
    scope: "alert", or "exposure" for one whose answer depends on the other alerts of one `exposure`.
    parameters: name -> Parameter (default, unit); values: name -> value now. gives: values that it computes
    for the alerts that pass -> unit ("text" for words; see `filters.values`).
    """

    function: Callable[..., Answer]
    surveys: tuple[str, ...]
    declared: tuple[str, ...] | None
    scope: str
    parameters: Mapping[str, Parameter]
    values: Mapping[str, Any] = field(default_factory=dict)
    extends: "tuple[Filter, ...]" = ()
    gives: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def of(self) -> str:
        """The surveys for people: "ztf" or "ztf, lsst"."""
        return ", ".join(self.surveys)

    @property
    def doc(self) -> str:
        return source.doc(self.function)

    @property
    def title(self) -> str:
        """The first sentence of `doc`."""
        return self.doc.split("\n\n")[0].replace("\n", " ")

    @cached_property
    def reads(self) -> tuple[str, ...] | None:
        """The columns to decode: those declared, those of tables, and the times that `history` needs."""
        if self.declared is None:
            return None
        return complete([*self.declared, *self.tables], self.surveys, self.scope)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The columns by which some parameter has a table of values."""
        tables = [value for value in self.values.values() if isinstance(value, Mapping)]
        return tuple(dict.fromkeys(column for table in tables for column in columns_of(table)))

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change when code or data that the verdict depends on change: see
        `filters.version`. Parameter values have no part in it."""
        parents = [parent.version for parent in self.extends]
        rooms = [module_of(name) for name in self.surveys]
        reads = None if self.declared is None else complete(self.declared, self.surveys, self.scope)
        about = (self.surveys, self.scope, reads, *([dict(self.gives)] if self.gives else []))
        return source.version(self.function, about, parents, rooms)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Everything that the filter is made from, but its function."""
        fixed = self.surveys, self.declared, self.scope
        return *fixed, dict(self.parameters), dict(self.values), self.extends, dict(self.gives)

    def require_reads(self) -> tuple[str, ...]:
        """`reads`; raises ReadsRequired for a filter that does not declare them and so cannot be enabled."""
        if self.reads is None:
            raise ReadsRequired(
                f"{self.name} does not say what it reads: add reads=[...] to its @alert_filter; "
                f"{self.name}.suggest_reads(frame) lists what it used"
            )
        return self.reads

    def require_live(self) -> None:
        """Raise ReadsRequired for a filter that no live channel can run."""
        self.require_reads()

    def using(self, **values: Any) -> "Filter":
        """This filter with other parameter values; numbers may come as text.

        A value may be a table by a column: `{"by": "band", "g": 0.7, "else": 0.65}`, or as text
        `band:g=0.7,else=0.65`. Raises BadParameter for a name it has not, or a value of another kind.
        """
        made = replace(self, values=with_values(self.name, self.parameters, self.values, values))
        if "version" in self.__dict__:  # of the code as it was read, whatever has become of it since
            made.__dict__["version"] = self.version
        made._check_tables()
        return made

    def _check_tables(self) -> None:
        """Raise BadParameter for a table by what is no column of an alert."""
        for by in self.tables:
            for survey in self.surveys:
                if by not in survey_named(survey).scalars() and not may_be_external(by):
                    near = near_names(by, survey_named(survey).scalars())
                    raise BadParameter(f"{self.name}: a table goes by a column of alerts, not '{by}'; {near}")
            if self.scope == "exposure" and by not in WHOLE_EXPOSURES:
                raise BadParameter(
                    f"{self.name} judges whole exposures: a table of it goes by {', '.join(WHOLE_EXPOSURES)}"
                )

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Boolean frame on the batch's index, one column a cut.

        Raises NoSuchColumn for a column that is not in `reads`, BadCut for a cut that is not one true or
        false for each alert.
        """
        found = self._run(frame)
        table = np.column_stack(list(found.values())) if found else np.ones((len(frame), 0), bool)
        return pd.DataFrame(table, index=frame.index, columns=list(found))

    def passes(self, frame: pd.DataFrame) -> pd.Series:
        """True where every cut is, on the batch's index."""
        found = self._run(frame)
        mask = np.logical_and.reduce(list(found.values())) if found else np.ones(len(frame), bool)
        return pd.Series(mask, index=frame.index, name=self.name, copy=False)

    def judge(self, frame: pd.DataFrame) -> Judged:
        """Who passes, and the values of those who do.

        Raises what a call does, and BadValue for values that are not those of `gives`.
        """
        view = self.restricted(frame)
        if not self.tables:
            return self._judge(view, self.values)
        parts = [(group.rows, self._judge(part, group.values)) for group, part in self._groups(view)]
        mask = np.zeros(len(frame), bool)
        for rows, judged in parts:
            mask[rows] = judged.mask
        order = np.concatenate([np.flatnonzero(rows)[judged.mask] for rows, judged in parts])
        values = pd.concat([judged.values for _, judged in parts], ignore_index=True)
        return Judged(mask, values.iloc[np.argsort(order)].reset_index(drop=True))

    def _judge(self, view: AlertView, values: Mapping[str, Any]) -> Judged:
        """The same for plain values of the parameters."""
        cuts_returned, given = split(self.name, self.function(view, **values))
        found = list(cuts.evaluate(self.name, view, cuts_returned).values())
        mask = np.logical_and.reduce(found) if found else np.ones(len(view), bool)
        if not self.gives and not given:
            return Judged(mask)
        return Judged(mask, of_passing(self.name, view, mask, given, self.gives))

    def _groups(self, view: pd.DataFrame) -> list[tuple[Group, Any]]:
        """The batch divided by what the tables give each alert."""
        found = groups(view, self.values)
        if len(found) == 1:
            return [(found[0], view)]
        if not isinstance(view, AlertView):  # of `explain`, which notes what is read
            return [(group, view[group.rows]) for group in found]
        return [(group, AlertView(view[group.rows], map(str, view))) for group in found]

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is an expression of cuts alone, with one value a parameter: our own code, and quick."""
        return hasattr(self.function, "mask") and not self.gives and not self.tables

    def mask(self, shared: Any) -> np.ndarray:
        """Who passes a plain filter, (n,) bool: as `judge`, but what expressions have in common is made once.

        shared: `filters.expressions.terms.Shared` of the frame.
        """
        function: Any = self.function
        found: np.ndarray = function.mask(shared, **self.values)
        return found

    def cuts_of(self, alerts: pd.DataFrame, **values: Any) -> dict[str, Any]:
        """The bare cuts of `alerts`, for a filter built upon this one.

        Raises FilterError where a table of this one stands: give the filter built upon it the table.
        """
        if self.tables and not values:
            raise FilterError(
                f"{self.name} has a table of values: give it to the filter that is built upon it"
            )
        return dict(split(self.name, self.function(alerts, **{**self.values, **values}))[0])

    def _run(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        return self.evaluate(self.restricted(frame))[1]

    def evaluate(self, view: pd.DataFrame) -> tuple[Cuts, dict[str, np.ndarray]]:
        """What the function returns for a restricted frame, and the plain boolean cuts made of it."""
        if not self.tables:
            return self._evaluate(view, self.values)
        parts = [(group.rows, *self._evaluate(part, group.values)) for group, part in self._groups(view)]
        if len(parts) == 1:
            return parts[0][1:]
        names = list(parts[0][2])
        whole = {name: np.zeros(len(view), bool) for name in names}
        for rows, _, found in parts:
            if list(found) != names:
                raise BadCut(f"{self.name} has other cuts with other values of its parameters")
            for name, mask in found.items():
                whole[name][rows] = mask
        return whole, whole

    def _evaluate(self, view: pd.DataFrame, values: Mapping[str, Any]) -> tuple[Cuts, dict[str, np.ndarray]]:
        returned, _ = split(self.name, self.function(view, **values))
        return returned, cuts.evaluate(self.name, view, returned)

    def _values_for(self, alert: pd.DataFrame) -> Mapping[str, Any]:
        """The parameters' plain values for a frame of one row, or of one exposure."""
        return groups(alert, self.values)[0].values if self.tables else self.values

    def computed(self, alert: pd.DataFrame) -> Mapping[str, Mapping[str, Any]]:
        """What the cuts compute of one alert on the way, for `explain`; only expressions tell.

        alert: a frame of one row, as `restricted` gives it.
        """
        tell = getattr(self.function, "computed", None)
        return {} if tell is None else tell(alert, **self._values_for(alert))

    def values_of(self, frame: pd.DataFrame, row: int = 0) -> dict[str, Any]:
        """What the filter gives of one alert whether it passes or not: name -> value.

        A value that is only computed of alerts that pass is left out of others.

        Parameters
        ----------
        frame
            The alert alone; for a filter of whole exposures the whole of its exposure.
        row
            Which row it is.
        """
        view = self.restricted(frame)
        cuts_returned, given = split(self.name, self.function(view, **self._values_for(view)))
        masks = list(cuts.evaluate(self.name, view, cuts_returned).values())
        mask = np.logical_and.reduce(masks) if masks else np.ones(len(view), bool)
        if not mask[row]:
            given = {name: value for name, value in given.items() if not is_lazy(value)}
            mask = np.arange(len(view)) == row
        units = {name: self.gives[name] for name in given if name in self.gives}
        given = {name: given[name] for name in units}
        values = of_passing(self.name, view, mask, given, units)
        return {name: trace.plain(values[name].iloc[int(mask[:row].sum())]) for name in units}

    def restricted(self, frame: pd.DataFrame) -> AlertView:
        """Only the columns that the filter declared, however many the batch brings.

        Raises NoSuchColumn when the batch lacks one of them.
        """
        names = list(map(str, frame)) if self.reads is None else [*self.reads, *IDENTITY]
        if isinstance(frame, AlertView) and frame.is_untouched(names):
            return frame
        for name in names:
            if name not in frame.columns:
                raise NoSuchColumn(name, frame.columns)
        return AlertView(frame, names)

    def funnel(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Alerts and distinct objects left after each cut: columns cut, alerts, objects; first row: all."""
        return cuts.funnel(frame, self._run(frame))

    def explain(self, frame: pd.DataFrame, candid: int) -> pd.DataFrame:
        """Each cut of the alert(s) of this candid: cut, passed, stopped (here), and the values it saw.

        A filter of whole exposures judges the alert beside those of its exposure that are in the frame: so
        the frame must have all of them. The columns `exposure` and `members` tell which, and how many.

        Parameters
        ----------
        frame
            One row an alert.
        candid
            Of the alert.

        Raises
        ------
        FilterError
            When the frame has no such alert.
        """
        rows = np.flatnonzero(frame["candid"] == candid)
        if not len(rows):
            raise FilterError(f"no alert with candid {candid} among the {len(frame)} of this frame")
        if self.scope != "exposure":
            return trace.explain(self, frame.iloc[rows])
        told: list[pd.DataFrame] = [self._explain_whole(frame, row) for row in rows.tolist()]
        return pd.concat(told, ignore_index=True)

    def _explain_whole(self, frame: pd.DataFrame, row: int) -> pd.DataFrame:
        """As `explain`, of one row beside its exposure."""
        members = exposure_of(frame, row)
        told = trace.explain(self, frame.iloc[members], int(np.searchsorted(members, row)))
        return told.assign(exposure=trace.plain(frame["exposure"].iloc[row]), members=len(members))

    def suggest_reads(self, frame: pd.DataFrame) -> list[str]:
        """The columns that the filter used on this frame: what to write in `reads`."""
        return trace.columns_used(self, frame)

    def cut_names(self) -> list[str]:
        """The names of the cuts, in their order.

        Raises ReadsRequired without declared `reads`, BadParameter for a table some value of which would make
        other cuts.
        """
        nothing = self.restricted(frames_of(self.require_reads(), self.surveys[0]).of_packets([]))
        names = [[str(name) for name in self._evaluate(nothing, one)[1]] for one in each_value(self.values)]
        if any(others != names[-1] for others in names):
            raise BadParameter(f"{self.name}: a value of {self.values} makes other cuts than another one")
        return names[-1]

    def one(self, packet: Mapping[str, Any]) -> Verdict:
        """The verdict on one packet as a plain dictionary: the same as in any batch.

        Without declared `reads` every column of the survey is made, which is slow.
        """
        survey = self._survey_of(packet)
        reads = self.reads if self.reads is not None else tuple(survey_named(survey).names())
        answer = self(frames_of(reads, survey).of_packets([packet]))
        return Verdict({str(name): bool(answer[name].iloc[0]) for name in answer.columns})

    def _survey_of(self, packet: Mapping[str, Any]) -> str:
        """Which of the filter's surveys the packet is of."""
        of = (name for name in self.surveys if survey_named(name).candidate in packet)
        return next(of, self.surveys[0])

    def on(self, alerts: Any, cuts: bool = False) -> Any:
        """The mask (or with `cuts` the cuts) of a Dask dataframe, lazily, partition by partition."""
        if cuts:
            return alerts.map_partitions(self, meta=pd.DataFrame(dtype=bool, columns=self.cut_names()))
        return alerts.map_partitions(self.passes, meta=pd.Series([], dtype=bool, name=self.name))

    def __reduce__(self) -> tuple[Callable[..., "Filter"], tuple[Any, ...]]:
        return travel.reduce(self)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"<{self.name}({values}) of {self.of}>"


def exposure_of(frame: pd.DataFrame, row: int) -> np.ndarray:
    """The numbers of the rows of a frame that are of the exposure of one of them, ascending.

    Parameters
    ----------
    frame
        With the column `exposure`.
    row
        One that has no exposure is alone.
    """
    exposures = frame["exposure"]
    same = (exposures == exposures.iloc[row]).to_numpy(dtype=bool, na_value=False, copy=True)
    same[row] = True
    return np.flatnonzero(same)


def complete(reads: Iterable[str], surveys: Sequence[str], scope: str) -> tuple[str, ...]:
    """`reads`, with the `jd` of each history touched and the alert's own.

    Parameters
    ----------
    reads
        Columns that a filter declares.
    surveys
        Names of the surveys that it is for.
    scope
        What one answer is for; with "exposure" the column `exposure` is added too.

    Raises
    ------
    NoSuchColumn
        For a name that one of the surveys does not have.
    """
    wanted = dict.fromkeys(reads)
    for of in map(survey_named, surveys):
        for name in list(wanted):
            past, _ = of.split(name)
            if past:
                wanted |= dict.fromkeys(["jd", f"{past}.jd"])
    if scope == "exposure":
        wanted["exposure"] = None
    for survey in surveys:
        FrameMaker(tuple(wanted), survey, external=Unchecked())
    return tuple(wanted)


def alert_filter(
    survey: str | Sequence[str] | None = None,
    reads: Sequence[str] | None = None,
    scope: str = "alert",
    extends: "Filter | Sequence[Filter]" = (),
    gives: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Answer]], Filter]:
    """Make a Filter of a function `f(alerts, *, parameter: Annotated[type, unit] = default)`.

    The function gets a pandas frame with the columns of `reads` and returns a dictionary: name of a cut ->
    boolean Series on the same index, or a callable from the survivors to such a Series.

    Parameters
    ----------
    survey
        The survey of its alerts, or several: then `reads` are columns that all of them have. Where left out,
        the one that has most of them; ZTF where several have as many.
    reads
        Columns that it sees; those with a dot are of a history, or of a catalogue, region or sky map.
    scope
        "alert", or "exposure" for a filter whose answer depends on the other alerts of one exposure.
    extends
        Filters whose columns and parameters this one has too; its function takes theirs as `**others`.
    gives
        Values that the function returns as a second dictionary -> unit ("text" for words).

    Raises
    ------
    NoSuchColumn
        For a column that the survey lacks.
    FilterError
        For a wrong signature or scope.
    """
    if callable(survey):
        raise FilterError('write @alert_filter(survey="ztf", reads=[...]), with parentheses')

    if survey is None:
        parents = (extends,) if isinstance(extends, Filter) else tuple(extends)
        survey = survey_having([*(reads or ()), *(name for one in parents for name in one.declared or ())])
    chosen = survey
    if BROKEN.get() is None:  # at once, where no file is being loaded
        _checked(chosen, reads, scope)

    def make(function: Callable[..., Answer]) -> Filter:
        try:
            return _made(function, chosen, reads, scope, extends, gives)
        except ZadsError as error:
            return _failed(function, error)

    return make


BROKEN: ContextVar[dict[str, ZadsError] | None] = ContextVar("BROKEN", default=None)
"""While a file is loaded: its functions that make no filter, and why."""


def _failed(function: Callable[..., Answer], error: ZadsError) -> Any:
    """Say where the function is; while a file is loaded only note it."""
    code, name = getattr(function, "__code__", None), getattr(function, "__name__", "filter")
    if code is not None:
        error.message = f"{code.co_filename}, line {code.co_firstlineno}, {name}: {error.message}"
    broken = BROKEN.get()
    if broken is None:
        raise error
    broken[name] = error
    return None


def _checked(survey: str | Sequence[str], reads: Sequence[str] | None, scope: str) -> tuple[str, ...]:
    """The surveys. Raises FilterError for a wrong declaration."""
    if isinstance(reads, str):
        raise FilterError(f'reads is a list of columns: write reads=["{reads}"]')
    if scope not in SCOPES:
        raise FilterError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    surveys = (survey,) if isinstance(survey, str) else tuple(survey)
    if not surveys:
        raise FilterError("a filter is for one survey at least")
    return surveys


def _made(
    function: Callable[..., Answer],
    survey: str | Sequence[str],
    reads: Sequence[str] | None,
    scope: str,
    extends: "Filter | Sequence[Filter]",
    gives: Mapping[str, str] | None,
) -> Filter:
    parents = (extends,) if isinstance(extends, Filter) else tuple(extends)
    surveys = _checked(survey, reads, scope)
    declared = None if reads is None else tuple(reads)
    if declared is not None:
        for parent in parents:
            declared = tuple(dict.fromkeys([*parent.require_reads(), *declared]))
        complete(declared, surveys, scope)
    inherited = {n: p for parent in parents for n, p in parent.parameters.items()}
    parameters = parameters_of(function, inherited)
    values = {name: parameter.default for name, parameter in parameters.items()}
    return Filter(function, surveys, declared, scope, parameters, values, parents, declared_values(gives))
