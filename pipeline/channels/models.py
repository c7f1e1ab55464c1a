"""Models that users own, and which of them a channel's filter asks for. They lie where lists are kept."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

from filters.errors import FilterError
from filters.expressions.syntax import dotted, parse
from filters.external.store import Store, default_root, owned
from filters.sandbox.models import ModelFile
from schemas.errors import near_names

FOLDER = ".models"
"""Beside the lists: no list has such a name."""
_ASKING_WHERE = "Where"
_ASKING = {"model", _ASKING_WHERE}
"""What a text calls with the names of models."""
_EXPRESSION = '''"""{doc}"""

from filters.models.where import Where
from zads import alert_filter

WHERE = Where({where!r}, {names})


@alert_filter(survey=WHERE.survey, reads=WHERE.reads, gives=WHERE.gives)
def where(alerts):
    """An expression that asks models."""
    return WHERE(alerts)
'''


class NoSuchModel(FilterError):
    """A model that is not there, or may not be read."""


def model_store(root: str | Path | None = None) -> Store:
    """Where models are. root: the folder of lists; the usual one where it is left out."""
    return Store(Path(root or default_root()) / FOLDER)


def asked_by(text: str) -> list[str]:
    """The names of models in a Python text, as far as it writes them out: `model("snn")`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # loading it tells what is wrong
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ASKING:
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
            found += [one for one in texts if isinstance(one, str) and one.isidentifier()]
    return list(dict.fromkeys(found))


def asked_in(where: str, owner: str) -> list[str]:
    """The names of models in an expression: `snn.real > 0.9`, where the owner may read `snn`.

    Parameters
    ----------
    where
        The expression.
    owner
        Who writes it, and sees the models (see `filters.external.store.seen_by`).

    Raises
    ------
    BadExpression
        For what is none.
    """
    there = set(model_store().names())
    every = [node for term in parse(where).nodes for node in ast.walk(term) if isinstance(node, ast.expr)]
    heads = [name.partition(".")[0] for node in every if (name := dotted(node)) and "." in name]
    return [head for head in dict.fromkeys(heads) if {head, owned(owner, head)} & there]


def text_of(where: str, names: Iterable[str]) -> str:
    """An expression that asks models as a Python text, whose filter is `where`."""
    told = ", ".join(map(repr, names))
    return _EXPRESSION.format(doc=where.replace("\\", "").replace('"', "'"), where=where, names=told)


def expression_of(source: str) -> str:
    """The expression that a text of `text_of` is made of; "" of another text."""
    if f"WHERE = {_ASKING_WHERE}(" not in source:
        return ""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [one for one in calls if isinstance(one.func, ast.Name) and one.func.id == _ASKING_WHERE]
    first = named[0].args[0] if named and named[0].args else None
    told = first.value if isinstance(first, ast.Constant) else ""
    return told if isinstance(told, str) else ""


def pinned(names: Iterable[str], owner: str) -> dict[str, str]:
    """Name -> the model and its version of now, STORED@VERSION. One's own go by their short names.

    Parameters
    ----------
    names
        As a text calls them.
    owner
        Whose text it is.

    Raises
    ------
    NoSuchModel
        For one that is not there, or may not be read.
    """
    store = model_store()
    there, found = store.names(), {}
    for name in names:
        stored = next((one for one in (owned(owner, name), name) if one in there), None)
        if stored is None:
            raise NoSuchModel(
                f"no model '{name}' that you may read; {near_names(name, there)}",
                hint="`zads model add FILE.toml --name NAME` adds one of yours",
            )
        found[name] = f"{stored}@{store.current(stored)}"
    return found


def files_of(models: Mapping[str, str]) -> tuple[ModelFile, ...]:
    """Where they lie. Raises NoSuchExternal for one that is gone, or may not be read.

    models: as of `pinned`.
    """
    store = model_store()
    places = {name: one.partition("@") for name, one in sorted(models.items())}
    return tuple(ModelFile(name, str(store.folder(stored, v))) for name, (stored, _, v) in places.items())
