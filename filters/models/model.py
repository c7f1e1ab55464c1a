"""A model: an ONNX file, and a TOML file that says what goes in and what comes out.

    file = "stamp_real.onnx"
    sha256 = "..."
    version = "1"

    [[inputs]]
    name = "stamp"                           # of the graph
    stamp = "cutoutDifference.stampData"     # the pixels of a stamp, about its middle
    side = 21

    [[inputs]] name = "facts" columns = ["magpsf", "rise_rate()"]      # or numbers of the alert, less
    `mean`, by `std` mean = [18.0, 0.0] std = [1.5, 0.5] missing = 0.0                            # what
    stands for a missing one after that; else there is no answer

    [[outputs]]
    name = "scores"
    values = ["real"]                        # what its columns are called

A number is a column, or an expression of columns of `survey` ("ztf" where it is not written).

An alert's answer must not depend on its neighbours, in its last digit neither. So the graph always sees the
same number of alerts, and one thread works on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from filters.errors import FilterError
from filters.expressions.filter import Number
from filters.stamps.images import images
from filters.view import index_of

ROWS = 32
"""Alerts that the graph sees at a time; what is missing to them is zero."""


_COLUMN = re.compile(r"[\w.]+")


_GIVEN: dict[str, Model] = {}
"""Name -> a model of somebody whose text runs in this process."""


class BadModel(FilterError):
    """A model that cannot be used: its file is another one, or its table does not fit the graph."""


class Model:
    """A model, loaded when it is first asked; it pickles by value, so that workers need no file.

    Parameters
    ----------
    name
        For people.
    about
        The TOML file, read.
    graph
        The bytes of the ONNX file.

    Raises
    ------
    BadModel
        When the table says another sha256, or has no inputs and outputs.
    """

    def __init__(self, name: str, about: Mapping[str, Any], graph: bytes) -> None:
        self.name, self.about, self._graph = name, dict(about), graph
        told = hashlib.sha256(graph).hexdigest()
        if told != about.get("sha256"):
            raise BadModel(
                f"model {name}: the sha256 of its file is {told}, its table says {about.get('sha256')}",
                hint="whoever changed the file changes the table, and the version",
            )
        if not about.get("inputs") or not about.get("outputs"):
            raise BadModel(f"model {name}: its table needs [[inputs]] and [[outputs]]")
        self.__zads_version__ = f"{about.get('version', '')} {told[:12]}"

    @property
    def reads(self) -> list[str]:
        """The columns that it needs."""
        names = (name for one in self.about["inputs"] for name in one.get("columns", [one.get("stamp")]))
        return list(dict.fromkeys(column for name in names for column in self._reads_of(name)))

    def _reads_of(self, name: str) -> tuple[str, ...]:
        return self._numbers[name].reads if name in self._numbers else (name,)

    @cached_property
    def _numbers(self) -> dict[str, Number]:
        """Those of its inputs that are expressions."""
        survey = self.about.get("survey", "ztf")
        names = [name for one in self.about["inputs"] for name in one.get("columns", ())]
        return {name: Number(name, survey) for name in names if not _COLUMN.fullmatch(name)}

    @property
    def values(self) -> list[str]:
        """The names of what it gives."""
        return [name for one in self.about["outputs"] for name in one["values"]]

    def open(self) -> None:
        """Load the graph now, and not when it is first asked. Raises BadModel, and what onnxruntime does."""
        _ = self._session

    @cached_property
    def _session(self) -> Any:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would tell Microsoft of each run
        import onnxruntime  # importing it takes a while, and most processes run no model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
        wanted = {one["name"] for one in self.about["inputs"]}
        if (there := {one.name for one in session.get_inputs()}) != wanted:
            raise BadModel(f"model {self.name}: its graph takes {sorted(there)}, its table {sorted(wanted)}")
        return session

    def __call__(self, alerts: pd.DataFrame) -> pd.DataFrame:
        """Its values, a column each, on the alerts' index; missing where an input is missing."""
        index = index_of(alerts)
        arrays = {one["name"]: self._input(one, alerts) for one in self.about["inputs"]}
        there = np.ones(len(index), bool)
        for array in arrays.values():
            there &= np.isfinite(array).all(1)
        found = np.full((len(index), len(self.values)), np.nan)
        rows = np.flatnonzero(there)
        for at in range(0, len(rows), ROWS):
            some = rows[at : at + ROWS]
            found[some] = self._run({name: array[some] for name, array in arrays.items()})
        return pd.DataFrame(found, index=index, columns=self.values)

    def _run(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The values of at most ROWS alerts."""
        padded = {name: np.zeros((ROWS, array.shape[1]), np.float32) for name, array in arrays.items()}
        count = 0
        for name, array in arrays.items():
            count = len(array)
            padded[name][:count] = array
        answers = self._session.run([one["name"] for one in self.about["outputs"]], padded)
        whole = np.concatenate([np.asarray(a, float).reshape(ROWS, -1) for a in answers], axis=1)
        if whole.shape[1] != len(self.values):
            raise BadModel(
                f"model {self.name}: its graph gives {whole.shape[1]} numbers, its table names"
                f" {len(self.values)}"
            )
        return whole[:count]

    def _input(self, one: Mapping[str, Any], alerts: pd.DataFrame) -> np.ndarray:
        """(n, k) float32; NaN where something is missing."""
        if "stamp" in one:
            return stamp_pixels(alerts[one["stamp"]], one["side"])
        numbers = [self._number(name, alerts) for name in one["columns"]]
        columns = np.stack(numbers, axis=1) if numbers else np.empty((len(index_of(alerts)), 0))
        mean, std = np.asarray(one.get("mean", 0.0)), np.asarray(one.get("std", 1.0))
        scaled = (columns - mean) / std
        if "missing" in one:
            scaled = np.where(np.isfinite(scaled), scaled, one["missing"])
        return np.asarray(scaled, np.float32)

    def _number(self, name: str, alerts: pd.DataFrame) -> np.ndarray:
        """One number of each alert, NaN where it is missing."""
        if name in self._numbers:
            return self._numbers[name](alerts)
        return np.asarray(alerts[name].to_numpy(dtype=float, na_value=np.nan))

    def __reduce__(self) -> tuple[Any, ...]:
        return Model, (self.name, self.about, self._graph)

    def __repr__(self) -> str:
        return f"<model {self.name}, version {self.__zads_version__}: {', '.join(self.values)}>"


def stamp_pixels(stamps: pd.Series, side: int) -> np.ndarray:
    """The pixels about the middle of stamps, by the largest absolute value there: (n, side * side) float32.

    Pixels without a measurement are 0; a stamp that is missing, or has none in the middle, is NaN throughout.
    """
    found = images(stamps, side)
    pixels = found.pixels.reshape(len(found), side * side)
    blind = ~found.there | np.isnan(pixels).all(1)
    filled = np.nan_to_num(pixels, posinf=0.0, neginf=0.0)
    scaled = filled / np.maximum(np.abs(filled).max(1, initial=0.0), np.float32(1e-6))[:, None]
    scaled[blind] = np.nan
    return np.asarray(scaled, np.float32)


def model(where: str | Path) -> Model:
    """A model by the path of its TOML file, or by the name of one that comes with zads, or was uploaded.

    Raises
    ------
    BadModel
        For a file that is not there, no TOML, or not the one that its table tells of.
    """
    if str(where) in _GIVEN:
        return _GIVEN[str(where)]
    path = Path(where)
    path = path if path.suffix == ".toml" else Path(__file__).parent / f"{where}.toml"
    try:
        about = tomllib.loads(path.read_text())
        return Model(path.stem, about, (path.parent / about["file"]).read_bytes())
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise BadModel(f"the model {where} cannot be read: {error}") from None


def give(models: Mapping[str, Model]) -> None:
    """These models, and no others, are known by name from now on: a stranger's text reads no file.

    models: name -> model.
    """
    _GIVEN.clear()
    _GIVEN.update(models)
