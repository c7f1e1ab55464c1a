"""From text to a syntax tree that holds nothing but what an expression may hold.

The grammar is Python's, parsed by `ast` and never compiled or run: a tree is data. What is not on the list
below is refused, so that no expression can read a file, import a module or call anything but our functions.
"""

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filters.errors import FilterError

MOST_CHARACTERS = 4_000
MOST_PARTS = 500
DEEPEST = 40

_ALLOWED = (
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.UAdd,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Mod,
    ast.Pow,
    ast.Compare,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Eq,
    ast.NotEq,
    ast.In,
    ast.NotIn,
    ast.Name,
    ast.Load,
    ast.Attribute,
    ast.Constant,
    ast.Call,
    ast.keyword,
    ast.Tuple,
    ast.List,
    ast.Dict,
)

_INSTEAD = {
    ast.BitAnd: "`and`",
    ast.BitOr: "`or`",
    ast.Invert: "`not`",
    ast.IfExp: "`and` and `or`",
    ast.Subscript: "a dot: prv_candidates.magpsf",
    ast.Is: "`missing(x)`",
    ast.IsNot: "`not missing(x)`",
}


class BadExpression(FilterError):
    """The text is not an expression that zads allows; the message shows where."""


@dataclass(frozen=True)
class Term:
    """One cut: a part that the others are joined to by `and`, and its own text, which is its name."""

    text: str
    node: ast.expr


@dataclass(frozen=True)
class Given:
    """One value, `name = part` or `name = (part, "unit")`. unit: None where none is written."""

    name: str
    node: ast.expr
    unit: str | None


@dataclass(frozen=True)
class Parsed:
    """The terms that a top-level `and` joins, in their order, with unique names; and the values after `;`."""

    terms: tuple[Term, ...]
    given: tuple[Given, ...]

    @property
    def nodes(self) -> list[ast.expr]:
        """The trees of all of them."""
        return [*(term.node for term in self.terms), *(one.node for one in self.given)]


def parse(text: str) -> Parsed:
    """What a text holds. Raises BadExpression with the place of what is wrong."""
    if len(text) > MOST_CHARACTERS:
        raise BadExpression(f"the expression has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed")
    source = _source(text)
    condition, *others = _parsed(source)
    if not isinstance(condition, ast.Expr):
        raise BadExpression(
            "an expression begins with a condition, values come after a semicolon: rb > 0.65; score = rb"
        )
    _check([condition.value], source)
    terms: list[Term] = []
    for node in _joined(condition.value):
        name = ast.get_source_segment(source, node) or ast.unparse(node)
        again = sum(1 for term in terms if term.text.split(" (#")[0] == name)
        terms.append(Term(f"{name} (#{again + 1})" if again else name, node))
    return Parsed(tuple(terms), _values(others, source))


def with_heads(text: str, called: Mapping[str, str]) -> str:
    """An expression in which what stands before a dot is called otherwise: `near.sep < 2`, `x.near` not.

    Parameters
    ----------
    text
        The expression.
    called
        Name before the dot -> what it is called.

    Raises
    ------
    BadExpression
        For what is none.
    """
    parse(text)
    source = _source(text)
    raw = source.encode()
    nodes = (node for statement in _parsed(source) for node in ast.walk(statement))
    heads = (node.value for node in nodes if isinstance(node, ast.Attribute))
    named = [one for one in heads if isinstance(one, ast.Name) and one.id in called]
    for one in sorted(named, key=lambda one: one.col_offset, reverse=True):
        raw = raw[: one.col_offset] + called[one.id].encode() + raw[one.end_col_offset :]
    return raw.decode()


def _source(text: str) -> str:
    """The text as it is parsed: one line."""
    return re.sub(r"\s+", " ", text).strip()


def _values(statements: list[ast.stmt], source: str) -> tuple[Given, ...]:
    """The values `name = part`. Raises BadExpression for anything else, and for a name given twice."""
    found: dict[str, Given] = {}
    for one in statements:
        target = one.targets[0] if isinstance(one, ast.Assign) and len(one.targets) == 1 else None
        if not isinstance(one, ast.Assign) or not isinstance(target, ast.Name):
            shown = ast.get_source_segment(source, one)
            raise BadExpression(f"`{shown}`: after a semicolon comes a value, such as score = rb")
        node, unit = one.value, None
        if isinstance(one.value, ast.Tuple) and len(one.value.elts) == 2:
            node, unit = one.value.elts[0], constant(one.value.elts[1])
            if not isinstance(unit, str):
                raise BadExpression(
                    f'`{target.id}`: the unit of a value is text: {target.id} = (part, "mag")'
                )
        if target.id in found:
            raise BadExpression(f"the value {target.id} is given twice")
        _check([node], source)
        found[target.id] = Given(target.id, node, unit)
    return tuple(found.values())


def _parsed(source: str) -> list[ast.stmt]:
    if not source:
        raise BadExpression("the expression is empty; write for example: rb > 0.65 and magpsf < 19")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "1 in (1)" and the like: we say what is wrong
            if ";" in source:
                return ast.parse(source).body
            return [ast.Expr(ast.parse(source, mode="eval").body)]
    except SyntaxError as error:
        place = f"\n  {source}\n  {' ' * max(0, (error.offset or 1) - 1)}^" if len(source) < 200 else ""
        raise BadExpression(f"this is not an expression: {error.msg}{place}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise BadExpression(f"this is not an expression: {error or 'it is nested too deeply'}") from None


def _check(trees: list[ast.expr], source: str) -> None:
    """Only allowed parts, and not too many of them, whatever the order of the tree."""
    level: list[ast.AST] = list(trees)
    parts = 0
    for _ in range(DEEPEST):
        parts += len(level)
        for node in level:
            _check_node(node, source)
        if parts > MOST_PARTS:
            raise BadExpression(f"the expression has more than {MOST_PARTS} parts")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise BadExpression(f"the expression is nested more than {DEEPEST} levels deep")


def _check_node(node: ast.AST, source: str) -> None:
    if not isinstance(node, _ALLOWED):
        instead = _INSTEAD.get(type(node))
        what = ast.get_source_segment(source, node) if isinstance(node, ast.expr) else None
        shown = f"`{what or type(node).__name__}`"
        raise BadExpression(f"{shown} is not allowed here" + (f"; use {instead}" if instead else ""))
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str):
        raise BadExpression(f"{node.value!r} is no number, text, True or False")


def _joined(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _joined(value)]
    return [node]


def dotted(node: ast.expr) -> str | None:
    """The dotted name that a node is ("prv_candidates.magpsf"); None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def constant(node: ast.expr) -> Any:
    """The number, text or boolean that a node is, its sign included; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = constant(node.operand)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    return None


def text_of(node: ast.expr) -> str:
    """A node as a person would write it, for messages."""
    return ast.unparse(node)
