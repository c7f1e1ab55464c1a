"""The process of one owner's filters: loads their text, judges batches, and knows nothing else.

It is confined before it sees the first line of that text. Whatever the text does to this code from then on
concerns its owner's channels alone.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import json
import linecache
import mmap
import os
import socket
import sys
import traceback
from types import ModuleType
from typing import Any

import pyarrow as pa

from filters import cuts
from filters.contract import BROKEN, Filter
from filters.load import filters_of, pick
from filters.models.model import Model, give
from filters.sandbox.batch import view_of
from filters.sandbox.wire import (
    DONE,
    JUDGE,
    LOAD,
    RAISED,
    TELL,
    Said,
    Verdicts,
    pack_said,
    pack_verdicts,
    receive,
    send,
)
from filters.values import WORDS, of_passing, split
from schemas.errors import one_line

_MODULE, _MOST_SET_UP = "uploaded", 100


class _NoMore:
    """In the place of the finders of modules: what is not there cannot be read from a file either."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Raises ModuleNotFoundError."""
        raise ModuleNotFoundError(
            f"no module {name!r} here: the sandbox has what `zads sandbox check` lists, loaded before",
            name=name,
        )


class _Nowhere(io.TextIOBase):
    """In the place of standard output and errors, which lead nowhere: what is printed is not even encoded."""

    def write(self, text: str) -> int:
        """Pretend."""
        return len(text)


def serve(channel: socket.socket) -> None:
    """Answer questions until there are no more."""
    sys.meta_path[:] = [_NoMore()]
    sys.stdout = sys.stderr = _Nowhere()
    faulthandler.register(TELL, file=channel.fileno(), all_threads=False)
    known: dict[str, Filter] = {}
    set_up: dict[str, Filter] = {}  # with parameters
    shelf: mmap.mmap | None = None
    while True:
        kind, body, file = receive(channel)
        try:
            if file is not None:
                shelf = _shelf(file)
            asked = json.loads(body)
            if kind == LOAD:
                models = _given(asked, shelf)
                known[asked["key"]] = load_text(asked["text"], asked["file"], asked["function"])
                for one in models:
                    one.open()  # else the first batch would wait for it
                answer = described(known[asked["key"]])
                set_up.clear()
            elif kind == JUDGE and shelf is not None:
                name = f"{asked['key']} {asked['values']}"
                if name not in set_up:
                    if len(set_up) > _MOST_SET_UP:
                        set_up.clear()
                    set_up[name] = known[asked["key"]].using(**asked["values"])
                answer = judged(set_up[name], memoryview(shelf)[: asked["bytes"]])
            else:
                return
        except BaseException as error:  # a stranger's code may raise anything
            send(channel, RAISED, pack_said(said(error)))
        else:
            send(channel, DONE, answer)
        gc.collect(1)  # histories know the batch that knows them


def _given(asked: dict[str, Any], shelf: mmap.mmap | None) -> list[Model]:
    """The models that come with a text, which are known to it by name."""
    if "models" not in asked or shelf is None:
        return []
    with pa.ipc.open_stream(pa.py_buffer(shelf[: asked["bytes"]])) as stream:
        graphs = stream.read_next_batch().column(0).to_pylist()
    given = {
        one["name"]: Model(one["name"], one["about"], graph)
        for one, graph in zip(asked["models"], graphs, strict=True)
    }
    give(given)
    return list(given.values())


def _shelf(file: int) -> mmap.mmap:
    """The memory where batches come from now on. Closes the file."""
    try:
        return mmap.mmap(file, os.lseek(file, 0, os.SEEK_END), prot=mmap.PROT_READ)
    finally:
        os.close(file)


def load_text(text: str, file: str, function: str) -> Filter:
    """The filter of a user's text.

    Parameters
    ----------
    text
        Of a Python file.
    file
        What it is called, for tracebacks.
    function
        The filter's name; "" where there is only one.

    Raises
    ------
    UnknownFilter
        When the text makes no such filter.
    """
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(_MODULE)
    module.__file__ = file
    sys.modules[_MODULE] = module
    broken: dict[str, Any] = {}
    token = BROKEN.set(broken)
    try:
        exec(compile(text, file, "exec"), vars(module))
    finally:
        BROKEN.reset(token)
    return pick(f"{file}:{function}", filters_of(module), function, broken)


def described(f: Filter) -> bytes:
    """What a filter declares, as JSON."""
    parameters = {name: [p.default, p.unit, p.kind.__name__] for name, p in f.parameters.items()}
    about = {
        "name": f.name,
        "surveys": list(f.surveys),
        "declared": None if f.declared is None else list(f.declared),
        "scope": f.scope,
        "parameters": parameters,
        "gives": dict(f.gives),
        "doc": f.doc[:4000],
    }
    return json.dumps(about).encode()


def judged(f: Filter, batch: memoryview) -> bytes:
    """A filter's answer to a batch."""
    view = f.restricted(view_of(batch))
    returned, given = split(f.name, f.function(view, **f.values))
    found = Verdicts(cuts.evaluate(f.name, view, returned), {}, {})
    if f.gives or given:
        values = of_passing(f.name, view, found.passing(len(view)), given, f.gives)
        for name, unit in f.gives.items():
            if unit == WORDS:
                found.words[name] = [None if one != one else str(one) for one in values[name].astype(object)]
            else:
                found.numbers[name] = values[name].to_numpy(float)
    return pack_verdicts(len(view), found)


def said(error: BaseException) -> Said:
    """What a user is told: the error, and where in their text it was raised."""
    kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame)]
    told = ["Traceback (most recent call last):\n", *traceback.format_list(own)] if own else []
    hint = getattr(error, "hint", None)
    told += traceback.format_exception_only(error) + ([f"{hint}\n"] if hint else [])
    return Said(kind, one_line(error).removeprefix(f"{kind}: "), "".join(told))


def _is_users(frame: traceback.FrameSummary) -> bool:
    known: Any = linecache.cache.get(frame.filename)
    return known is not None and len(known) > 1 and known[1] is None  # a text of no file
