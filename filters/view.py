"""The frame that one filter gets: exactly its columns, though the batch has those of all filters.

Cutting a frame of forty columns down to ten costs pandas 100 to 340 µs a filter, more than most filters do.
So this is lazy: as long as a filter only asks for columns by name, no smaller frame is made. Whatever else is
asked of the view (`loc`, `eval`, assignment ...) makes it, and from then on this is the plain frame.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from schemas.errors import NoSuchColumn, ZadsError, near_names
from schemas.surveys.registry import SURVEYS

_NUMBERS = (np.dtype("float64"), np.dtype("int64"))
_COLUMN: Any = type(pd.Series([0.0])._mgr)


class AlertColumn(pd.Series):
    """A column of alerts in which no comparison with a missing value is true, `!=` included.

    pandas says that NaN differs from everything; a column of epochs says the same as this one.
    """

    @property
    def _constructor(self) -> Any:
        return type(self)

    @classmethod
    def of_array(cls, array: Any, index: pd.Index, name: str) -> "AlertColumn":
        """A column of an array as it is, without pandas' questions about what it may be.

        Parameters
        ----------
        array
            NumPy or pandas array, (n,).
        index
            The labels of the n rows.
        name
            Of the column.
        """
        made: Any = cls._from_mgr(_COLUMN.from_array(array, index), [index])  # type: ignore[attr-defined]
        object.__setattr__(made, "_name", name)
        return made

    def _another(self) -> "AlertColumn":
        """A column of its own with the same values: what is done to it leaves this one as it is."""
        made = self._constructor_from_mgr(self._mgr.copy(deep=False), self.axes)
        object.__setattr__(made, "_name", self._name)
        return made

    def _cmp_method(self, other: Any, op: Callable[[Any, Any], Any]) -> Any:
        # A number against numbers is what most cuts are, and pandas asks twenty questions before it compares.
        values: Any = self._values
        if type(self) is AlertColumn and type(other) in (int, float) and values.dtype in _NUMBERS:
            blocks = type(self._mgr).from_array(op(values, other), self.index)
            made = self._constructor_from_mgr(blocks, self.axes)
            object.__setattr__(made, "_name", self._name)
            return made
        return super()._cmp_method(other, op)  # type: ignore[misc]

    def _constructor_from_mgr(self, mgr: Any, axes: Any) -> Any:
        # pandas makes the answer of each operation on a subclass twice: as a Series, and again of that.
        made: Any = type(self)._from_mgr(mgr, axes)  # type: ignore[attr-defined]
        object.__setattr__(made, "_name", None)
        return made

    def __bool__(self) -> Any:  # type: ignore[misc]
        raise NotOneTruth(
            "a column has a value for each alert, and is neither true nor false as a whole",
            hint="write & for `and`, | for `or`, ~ for `not`, each comparison in parentheses:"
            ' (alerts["rb"] > 0.65) & (alerts["nbad"] == 0); instead of `if` make it a cut',
        )

    def __ne__(self, other: Any) -> Any:
        differs = super().__ne__(other) & self.notna()
        return differs & pd.notna(other) if pd.api.types.is_list_like(other) or pd.isna(other) else differs

    def ne(self, other: Any, *args: Any, **kwargs: Any) -> Any:
        """As `!=`: false where either side is missing.

        Parameters
        ----------
        other
            What to compare with.
        args, kwargs
            As in pandas.
        """
        return super().ne(other, *args, **kwargs) & self.notna() & pd.notna(other)


class OfFrame:
    """The columns of a frame.

    Parameters
    ----------
    batch
        The frame.
    """

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    @property
    def index(self) -> pd.Index:
        """The labels of the rows."""
        return self._batch.index

    def frame(self, names: list[str]) -> pd.DataFrame:
        """Some columns as a frame of their own."""
        return pd.DataFrame(self._batch[names]).copy(deep=False)

    def column(self, name: str) -> AlertColumn:
        """One column, which is copied when it is written to."""
        return AlertColumn(self._batch[name], copy=False)

    def arrays(self) -> Mapping[str, Any]:
        """Every column as its NumPy or pandas array, without a Series of each."""
        return dict(zip(self._batch.columns, self._batch._iter_column_arrays(), strict=True))


class OfArrays:
    """Columns of which no frame is made before somebody wants one: that alone costs 300 µs.

    Parameters
    ----------
    arrays
        Name -> NumPy or pandas array, (n,).
    index
        The labels of the n rows.
    """

    def __init__(self, arrays: Mapping[str, Any], index: pd.Index) -> None:
        self._arrays, self.index = arrays, index

    def frame(self, names: list[str]) -> pd.DataFrame:
        """Some columns as a frame of their own."""
        return pd.DataFrame({name: self._arrays[name] for name in names}, index=self.index)

    def column(self, name: str) -> AlertColumn:
        """One column, which is copied when it is written to."""
        return AlertColumn.of_array(self._arrays[name], self.index, name)

    def arrays(self) -> Mapping[str, Any]:
        """Every column as its array."""
        return self._arrays


class AlertView(pd.DataFrame):
    """A pandas frame of the declared columns of a batch; what is derived from it is a plain DataFrame.

    Reading another column raises NoSuchColumn, however many the batch has.
    """

    def __init__(self, batch: pd.DataFrame | OfArrays, names: Iterable[str]):
        own = self.__dict__
        own["_batch"] = batch if isinstance(batch, OfArrays) else OfFrame(batch)
        own["_names"] = dict.fromkeys(names)
        own["_taken"], own["_blocks"], own["_computed"] = {}, None, None
        own["_attrs"], own["_flags"] = {}, pd.Flags(self, allows_duplicate_labels=True)  # type: ignore[attr-defined]

    # pandas keeps a frame's data in `_mgr`; here it is made when somebody wants it.
    @property
    def _mgr(self) -> Any:
        own = self.__dict__
        if own["_blocks"] is None:
            own["_blocks"] = own["_batch"].frame(list(own["_names"]))._mgr
        return own["_blocks"]

    @_mgr.setter
    def _mgr(self, blocks: Any) -> None:
        self.__dict__["_blocks"] = blocks

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @property
    def _is_whole_frame(self) -> bool:
        return self.__dict__["_blocks"] is not None

    def has(self, name: str) -> bool:
        """True for a column that can be read."""
        return name in self.columns if self._is_whole_frame else name in self.__dict__["_names"]

    def names(self) -> list[str]:
        """The columns that can be read."""
        return list(self.columns) if self._is_whole_frame else list(self.__dict__["_names"])

    def remember(self) -> None:
        """Keep what is computed of it, for filters that share it, until it is to `forget`."""
        self.__dict__["_computed"] = {}

    def forget(self) -> None:
        """Let go of what was kept, which knows this view in turn: the batch is then free at once."""
        self.__dict__["_computed"] = None

    def computed(self, name: str, compute: Callable[[], Any]) -> Any:
        """What was computed of the untouched view under this name before, else now."""
        known = self.__dict__["_computed"]
        if known is None or self._is_whole_frame:
            return compute()
        if name not in known:
            known[name] = compute()
        return known[name]

    def is_untouched(self, names: Iterable[str]) -> bool:
        """Whether it has exactly these columns, as the batch has them."""
        return not self._is_whole_frame and list(self.__dict__["_names"]) == list(dict.fromkeys(names))

    def rows(self) -> pd.Index:
        """The index."""
        return self.index if self._is_whole_frame else self.__dict__["_batch"].index

    def arrays(self) -> dict[str, Any]:
        """Each column as its NumPy or pandas array."""
        batch: OfFrame | OfArrays = OfFrame(self) if self._is_whole_frame else self.__dict__["_batch"]
        every = batch.arrays()
        return {name: every[name] for name in self.names()}

    def __len__(self) -> int:
        return len(self.rows())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.names())

    def __getitem__(self, key: Any) -> Any:
        own = self.__dict__
        if not isinstance(key, str):
            self._check(key)
            return super().__getitem__(key)
        if self._is_whole_frame:
            if key not in self.columns:
                raise no_column(key, self.columns)
            return AlertColumn(super().__getitem__(key), copy=False)
        if key not in own["_names"]:
            raise no_column(key, own["_names"])
        if key not in own["_taken"]:
            own["_taken"][key] = own["_batch"].column(key)
        return own["_taken"][key]._another()

    def _check(self, key: Any) -> None:
        if isinstance(key, list):
            for name in key:
                if isinstance(name, str) and not self.has(name):
                    raise no_column(name, self.names())

    def __getattr__(self, name: str) -> Any:  # type: ignore[misc]
        if name.startswith("_") or self.has(name):
            return super().__getattr__(name)
        raise UndeclaredAttribute(name, self.names())


def no_column(name: str, declared: Iterable[str]) -> NoSuchColumn:
    """What to raise for a column that a filter did not declare, or that no survey has."""
    if any(name in survey.names() for survey in SURVEYS.values()):
        return NotDeclared(name, declared)
    return NoSuchColumn(name, declared)


class NotDeclared(NoSuchColumn):
    """A column that a filter may read, but that its `reads` do not name.

    Parameters
    ----------
    name
        The column.
    known
        The columns that are declared.
    what
        What it names, for the message.
    """

    def __init__(self, name: str, known: Iterable[str] = (), what: str = "column") -> None:
        super().__init__(name, known, what)
        there = [n for n in self.known if n not in ("candid", "objectId")]
        near = near_names(name, there)
        self.message = f"the filter reads the column {name!r} without declaring it: add it to reads; {near}"
        self.hint = f"reads={[*there, name]!r}; `zads filter check` lists all that are missing"

    def __str__(self) -> str:
        return self.message


class NotOneTruth(ZadsError, ValueError):
    """A column used as one truth, as by `and`, `or`, `not` and `if`."""


def index_of(alerts: pd.DataFrame) -> pd.Index:
    """The index of a frame, without making a view whole."""
    return alerts.rows() if isinstance(alerts, AlertView) else alerts.index


def arrays_of(alerts: pd.DataFrame) -> dict[str, Any]:
    """The columns of a frame as pandas arrays."""
    if isinstance(alerts, AlertView):
        return alerts.arrays()
    return {str(name): alerts[name].array for name in alerts.columns}


def column_of(alerts: pd.DataFrame, name: str) -> pd.Series:
    """A column of any frame; raises NoSuchColumn."""
    if not isinstance(alerts, AlertView) and name not in alerts.columns:
        raise NoSuchColumn(name, alerts.columns)
    return alerts[name]


class UndeclaredAttribute(NoSuchColumn, AttributeError):  # type: ignore[misc]
    """`alerts.rb` where `rb` is not declared; also an AttributeError, as Python expects of attributes."""
