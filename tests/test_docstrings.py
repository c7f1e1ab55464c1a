"""Public functions with three or more parameters document every one, and none that does not exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_architecture import MAY_IMPORT, files_of

ROOT = Path(__file__).resolve().parent.parent
MOST_WITHOUT = 2
"""A function with more parameters documents each one."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Documented(NamedTuple):
    """A public function and what its docstring says of its parameters."""

    name: str
    parameters: list[str]
    described: set[str]
    helped: set[str]
    """Parameters of a command, described by the help text of their option."""


def described(text: str) -> set[str]:
    """The names in a docstring's section "Parameters" (numpydoc)."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, flags=re.S | re.M)
    lines = re.findall(r"^(\S.*)$", section[1], flags=re.M) if section else []
    return {name.strip(" *") for line in lines for name in line.split(":")[0].split(",")}


def arguments(function: Function, *, bound: bool) -> list[ast.arg]:
    """The parameters, without `self` or `cls` of a bound one."""
    found = function.args
    several = [found.vararg] if found.vararg else []
    named = [found.kwarg] if found.kwarg else []
    return [*[*found.posonlyargs, *found.args][bound:], *several, *found.kwonlyargs, *named]


def is_static(function: Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)


def has_help(annotation: ast.AST | None) -> bool:
    """Whether this is `Annotated[…, typer.Option(…, help=…)]`, or a name that stands for such a type."""
    if isinstance(annotation, ast.Name):
        return annotation.id in options()
    calls = [node for node in ast.walk(annotation) if isinstance(node, ast.Call)] if annotation else []
    return any(keyword.arg == "help" for call in calls for keyword in call.keywords)


@cache
def options() -> set[str]:
    """Names of the options that several commands share."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "commands").rglob("*.py")]
    assigned = [node for tree in trees for node in tree.body if isinstance(node, ast.Assign)]
    return {
        target.id
        for node in assigned
        if isinstance(node.value, ast.Subscript) and has_help(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def functions_of(path: Path) -> Iterator[Documented]:
    """The public functions of a file and the public methods of its public classes."""
    yield from functions(ast.parse(path.read_text()).body, str(path.relative_to(ROOT)))


def functions(body: list[ast.stmt], within: str, of: ast.ClassDef | None = None) -> Iterator[Documented]:
    """Those of a module or class; `__init__` is documented by its class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, f"{within} {node.name}", of=node)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield documented(
                node, f"{within} {node.name}", node, bound=of is not None and not is_static(node)
            )
        elif isinstance(node, Function) and node.name == "__init__" and of is not None:
            yield documented(node, within, of, bound=True)


def documented(function: Function, name: str, by: Function | ast.ClassDef, *, bound: bool) -> Documented:
    found = arguments(function, bound=bound)
    helped = {one.arg for one in found if has_help(one.annotation)}
    return Documented(name, [one.arg for one in found], described(ast.get_docstring(by) or ""), helped)


SAMPLE = '''
class Box:
    """Something.

    Parameters
    ----------
    width
        In m.

    Raises
    ------
    ValueError
        For a negative one.
    """

    def __init__(self, width, high): ...

    def ask(self, what, *more, **rest):
        """Ask.

        Parameters
        ----------
        what : str
            The question.
        *more, other
            Not there.
        """

def find(name: str, limit: Annotated[int, typer.Option(help="At most so many.")] = 3): ...

def _private(one, two, three): ...
'''


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_parameter_is_described(room: str) -> None:
    for function in (one for path in files_of(room) for one in functions_of(path)):
        names = set(function.parameters)
        if len(names) > MOST_WITHOUT:
            missing = names - function.described - function.helped
            assert not missing, f"{function.name} does not document {sorted(missing)}"
        strange = function.described - names
        assert not strange, f"{function.name} has no parameter {sorted(strange)}"


def test_what_is_read_in_a_docstring() -> None:
    tree = ast.parse(SAMPLE)
    made, ask, find = functions(tree.body, "sample.py")
    assert made == ("sample.py Box", ["width", "high"], {"width"}, set())
    assert ask == ("sample.py Box ask", ["what", "more", "rest"], {"what", "more", "other"}, set())
    assert find == ("sample.py find", ["name", "limit"], set(), {"limit"})
