"""A user's file as a table: a process that is confined reads it, and only plain columns come back."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import PurePath

import pandas as pd
import pyarrow as pa

from filters.errors import FilterError
from filters.files.columns import Column, frame_of, unpacked
from filters.sandbox.processes import Zygote
from filters.sandbox.wire import PARSE, RAISED, BadAnswer, unpack_said

TABLES = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".txt": "CSV",
    ".fits": "FITS",
    ".fit": "FITS",
    ".vot": "VOTable",
    ".votable": "VOTable",
    ".xml": "VOTable",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
MODELS = {".onnx": "ONNX"}
"""Ending of a file's name -> what it is called."""
MOST_BYTES = 100_000_000
"""Of a file."""
MEMORY, SECONDS, LONGEST_SECONDS = 768 * 2**20, 10.0, 60.0
"""Memory and processor time that a file may take, and the wait for it on a busy machine."""


class Unreadable(FilterError):
    """A file that is not read, and why."""


class FileRoom:
    """Reads files, each in a process of its own. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None

    def columns(self, name: str, raw: bytes) -> list[Column]:
        """The columns of a file.

        Parameters
        ----------
        name
            What the file is called; its ending says of which kind it is.
        raw
            Its bytes: anything that a user can write.

        Raises
        ------
        Unreadable
            When it is too large, malformed, or takes too much time or memory.
        NoSandbox
            When this machine cannot confine the process that would read it.
        """
        ending = PurePath(name).suffix.lower()
        kind = {**TABLES, **MODELS}.get(ending)
        if kind is None:
            raise Unreadable(f"{name}: files that end in {', '.join({**TABLES, **MODELS})} are read")
        if len(raw) > MOST_BYTES:
            raise Unreadable(
                f"{name} has {len(raw) / 1e6:,.1f} MB, {MOST_BYTES / 1e6:,.0f} MB may be",
                hint="an operator can add a larger one",
            )
        batch = pa.record_batch({"file": pa.array([raw], pa.large_binary())})
        with self._lock:
            if self._zygote is None or not self._zygote.runs:
                self._zygote = Zygote("filters.files.child", "files of users are not read here")
            child = self._zygote.fork(MEMORY)
        try:
            answer, body = child.ask(PARSE, {"ending": ending}, batch, SECONDS, LONGEST_SECONDS)
            if answer != RAISED:
                return unpacked(body)
            said = unpack_said(body)
        except TimeoutError:
            raise Unreadable(f"{name} is not read: it takes more than {SECONDS:.0f} s") from None
        except (EOFError, OSError):
            raise Unreadable(f"{name} is not read: it ends the process that reads it") from None
        except BadAnswer as error:
            raise Unreadable(f"{name} is not read as {kind}: {error}") from None
        finally:
            child.end()
        if said.kind == "MemoryError":
            raise Unreadable(f"{name} is not read: it takes more than {MEMORY >> 20} MB of memory")
        words = said.words.removeprefix("BadFile: ")
        raise Unreadable(f"{name} cannot be read as {kind}: {words}")

    def table(self, name: str, raw: bytes) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
        """A file as pandas, and what it says of its columns: unit and meaning.

        Parameters
        ----------
        name, raw
            As for `columns`.

        Raises
        ------
        Unreadable, NoSandbox
            As for `columns`.
        """
        if PurePath(name).suffix.lower() in MODELS:
            raise Unreadable(f"{name} is a model, no table")
        columns = self.columns(name, raw)
        return frame_of(columns), {one.name: (one.unit, one.meaning) for one in columns}

    def model(self, name: str, raw: bytes) -> list[dict[str, str]]:
        """What the graph of an ONNX file takes and gives, a row each: what, name, type, shape.

        Parameters
        ----------
        name, raw
            As for `columns`.

        Raises
        ------
        Unreadable, NoSandbox
            As for `columns`.
        """
        if PurePath(name).suffix.lower() not in MODELS:
            raise Unreadable(f"{name} is no model: one ends in {', '.join(MODELS)}")
        told = {one.name: one.values for one in self.columns(name, raw) if one.kind == "text"}
        if list(told) != ["what", "name", "type", "shape"]:
            raise Unreadable(f"{name} is not read: its answer is none")
        return [dict(zip(told, map(str, row), strict=True)) for row in zip(*told.values(), strict=True)]

    def close(self) -> None:
        """End the zygote; the kernel ends what it has forked."""
        with self._lock:
            if self._zygote is not None:
                self._zygote.close()
            self._zygote = None


@cache
def file_room() -> FileRoom:
    """The one of this process."""
    return FileRoom()
