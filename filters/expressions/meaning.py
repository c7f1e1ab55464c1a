"""What a syntax tree means for a survey's alerts: every name is known, every comparison makes sense."""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from filters.blocks import blocks_of
from filters.errors import BadParameter
from filters.expressions.syntax import BadExpression, constant, dotted, text_of
from filters.expressions.terms import (
    Aggregate,
    Calculation,
    Comparison,
    Field,
    LightCurveFeature,
    Literal,
    Logic,
    Membership,
    Missing,
    Part,
    Predicate,
    Threshold,
)
from filters.expressions.values import Kind
from filters.features import FEATURES
from filters.parameters import Parameter
from filters.values import WORDS
from schemas.dictionary import words_of
from schemas.errors import NoSuchColumn, near_names
from schemas.frame import frame_maker, may_be_external
from schemas.surveys.registry import survey_named

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_CALCULATE: dict[type, Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log10": np.log10,
    "exp": np.exp,
    "floor": np.floor,
}
"""Functions of one number."""
AGGREGATES: dict[str, Kind] = {
    "any": "flag",
    "all": "flag",
    "count": "number",
    "min": "number",
    "max": "number",
    "first": "number",
    "last": "number",
    "mean": "number",
    "sum": "number",
}
"""Words that make one value an alert of the past epochs of a history, and the kind of that value."""
_KIND_NAMES = {"number": "a number", "text": "text", "flag": "true or false", "any": "a value"}


class Reader:
    """Builds parts from syntax for one survey.

    parameters: those that the expression defines, each once: `rb > {rb_min: 0.65}`. computed: the text of
    each part of the last cut that is computed and has one value an alert, for `explain`.
    """

    def __init__(self, survey: str) -> None:
        self._survey = survey_named(survey)
        self.parameters: dict[str, Parameter] = {}
        self.computed: dict[str, Part] = {}
        self._kinds: dict[str, Kind] = {}

    def define(self, node: ast.expr) -> None:
        """Take note of the parameters within a node. Raises BadExpression, BadParameter."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Dict):
                name, parameter = _defined(inner)
                if self.parameters.get(name, parameter) != parameter:
                    raise BadParameter(f"the parameter {name} has two defaults")
                if self._is_column(name):
                    raise BadParameter(f"{name} is a column: give the parameter another name")
                self.parameters[name] = parameter

    def cut(self, node: ast.expr) -> Part:
        """One term. Raises BadExpression when it is not true or false for each alert."""
        self.computed = {}
        part = self._part(node)
        if part.history:
            raise BadExpression(f"`{text_of(node)}` has a value an epoch: {_HOW_TO_AGGREGATE}")
        if part.kind not in ("flag", "any"):
            raise BadExpression(
                f"`{text_of(node)}` is {_KIND_NAMES[part.kind]}: compare it, or ask missing(...)"
            )
        return part

    def value(self, node: ast.expr) -> Part:
        """A value of each alert. Raises BadExpression for one of each epoch."""
        self.computed = {}
        part = self._part(node)
        if part.history:
            raise BadExpression(f"`{text_of(node)}` has a value an epoch: {_HOW_TO_AGGREGATE}")
        return part

    def unit(self, part: Part, written: str | None) -> str:
        """The unit of a value: as written, "text" for words, else of the column that it is."""
        if part.kind == "text":
            return WORDS
        if written is not None:
            return written
        word = words_of(self._survey.name).get(part.name) if isinstance(part, Field) else None
        return word.unit if word is not None else ""

    def _part(self, node: ast.expr) -> Part:
        part = self._read(node)
        if isinstance(part, Threshold):
            self.computed[part.name] = part
        elif isinstance(node, ast.Call | ast.BinOp) and not part.history:
            self.computed[text_of(node)] = part
        return part

    def _read(self, node: ast.expr) -> Part:
        value = constant(node)
        if value is not None:
            return Literal(_kind_of(value), value=value)
        name = dotted(node)
        if name is not None:
            return self._named(name)
        make = _BUILDERS.get(type(node))
        if make is None:
            raise BadExpression(f"`{text_of(node)}` is not allowed here")
        return make(self, node)

    # Names

    def _named(self, name: str) -> Part:
        if name in self.parameters:
            return Threshold(_kind_of(self.parameters[name].default), name=name)
        if name in self._survey.histories:
            raise BadExpression(f"`{name}` is a history: name a field ({name}.…), or count({name})")
        history = name.partition(".")[0]
        inside = history if history in self._survey.histories else ""
        return Field(self._kind(name), inside, (name,), name)

    def _is_column(self, name: str) -> bool:
        try:
            self._kind(name)
        except NoSuchColumn:
            return False
        return True

    def _kind(self, name: str) -> Kind:
        """The kind of a column's values, as a frame without rows has it. Raises NoSuchColumn."""
        if may_be_external(name):
            return "any"
        if name not in self._kinds:
            nothing = frame_maker([name], self._survey.name).of_packets([])
            self._kinds[name] = _kind_of_column(nothing[name])
        return self._kinds[name]

    # Operators

    def _compare(self, node: ast.Compare) -> Part:
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            return self._membership(node)
        operands = tuple(self._part(part) for part in [node.left, *node.comparators])
        if any(type(op) not in _COMPARE for op in node.ops):
            raise BadExpression(f"`{text_of(node)}`: write `in` in a term of its own")
        for left, right in itertools.pairwise(operands):
            if left.kind != right.kind and "any" not in (left.kind, right.kind):
                raise BadExpression(
                    f"`{text_of(node)}` compares {_KIND_NAMES[left.kind]} with {_KIND_NAMES[right.kind]}"
                )
        operators = tuple(_COMPARE[type(op)] for op in node.ops)
        return Comparison("flag", *_of_all(operands, node), operands, operators)

    def _membership(self, node: ast.Compare) -> Part:
        listed = node.comparators[0]
        if len(node.ops) != 1 or not isinstance(listed, ast.Tuple | ast.List):
            raise BadExpression(f"`{text_of(node)}`: after `in` comes a list such as (1, 2)")
        operand = self._part(node.left)
        choices = tuple(self._part(choice) for choice in listed.elts)
        for choice in choices:
            same = operand.kind in (choice.kind, "any")
            if not isinstance(choice, Literal | Threshold) or not same:
                raise BadExpression(f"`{text_of(node)}`: the list holds {_KIND_NAMES[operand.kind]} only")
        wanted = isinstance(node.ops[0], ast.In)
        return Membership("flag", *_of_all((operand,), node), operand, choices, wanted)

    def _logic(self, node: ast.BoolOp) -> Part:
        word = "and" if isinstance(node.op, ast.And) else "or"
        operands = tuple(self._flag(value) for value in node.values)
        return Logic("flag", *_of_all(operands, node), operands, word)

    def _unary(self, node: ast.UnaryOp) -> Part:
        if isinstance(node.op, ast.Not):
            operands = (self._flag(node.operand),)
            return Logic("flag", *_of_all(operands, node), operands, "not")
        return self._calculated(node, (node.operand,), _CALCULATE[type(node.op)])

    def _binary(self, node: ast.BinOp) -> Part:
        return self._calculated(node, (node.left, node.right), _CALCULATE[type(node.op)])

    def _calculated(self, node: ast.expr, inner: tuple[ast.expr, ...], operation: Callable[..., Any]) -> Part:
        operands = tuple(self._part(part) for part in inner)
        for operand, part in zip(operands, inner, strict=True):
            if operand.kind not in ("number", "any"):
                raise BadExpression(f"`{text_of(part)}` is {_KIND_NAMES[operand.kind]}, not a number")
        return Calculation("number", *_of_all(operands, node), operands, operation)

    def _flag(self, node: ast.expr) -> Part:
        part = self._part(node)
        if part.kind not in ("flag", "any"):
            raise BadExpression(
                f"`{text_of(node)}` is {_KIND_NAMES[part.kind]}, not true or false: compare it"
            )
        return part

    # Functions

    def _call(self, node: ast.Call) -> Part:
        word = node.func.id if isinstance(node.func, ast.Name) else ""
        if word in AGGREGATES:
            return self._aggregate(word, node)
        if word in FEATURES:
            return self._feature(word, node)
        if word in blocks_of(self._survey.name):
            return self._predicate(word, node)
        if node.keywords:
            raise BadExpression(f"`{text_of(node)}`: only {', '.join(AGGREGATES)} take where=…")
        if word in FUNCTIONS and len(node.args) == 1:
            return self._calculated(node, (node.args[0],), FUNCTIONS[word])
        if word == "missing" and len(node.args) == 1:
            operand = self._part(node.args[0])
            return Missing("flag", *_of_all((operand,), node), operand)
        if word == "between" and len(node.args) == 3:
            value, low, high = node.args
            chain = ast.Compare(low, [ast.LtE(), ast.LtE()], [value, high])
            return self._compare(chain)
        known = [*FUNCTIONS, "missing", "between", *AGGREGATES, *FEATURES, *blocks_of(self._survey.name)]
        if word in known:
            raise BadExpression(f"`{text_of(node)}`: {word} does not take {len(node.args)} values")
        raise BadExpression(f"no function `{text_of(node.func)}`; {near_names(word, known)}")

    def _feature(self, word: str, node: ast.Call) -> Part:
        feature, texts = FEATURES[word], [constant(value) for value in node.args]
        if node.keywords or len(texts) != feature.texts or not all(isinstance(text, str) for text in texts):
            takes = f'{feature.texts} bands, such as {word}("g", "r")' if feature.texts else "nothing"
            raise BadExpression(f"`{text_of(node)}`: {word} takes {takes}")
        history = self._survey.light_curve.detections
        reads = _unique([*feature.own, *(f"{history}.{name}" for name in feature.rows)])
        return LightCurveFeature("number", "", reads, history, feature, tuple(map(str, texts)))

    def _predicate(self, word: str, node: ast.Call) -> Part:
        block, text = blocks_of(self._survey.name)[word], text_of(node)
        takes = ", ".join(f"{name}={p.default}" for name, p in block.parameters.items()) or "nothing"
        if node.args or any(keyword.arg not in block.parameters for keyword in node.keywords):
            raise BadExpression(f"`{text}`: {word} takes {takes}, by name")
        given = tuple((str(keyword.arg), self._part(keyword.value)) for keyword in node.keywords)
        for name, part in given:
            if not isinstance(part, Literal | Threshold) or part.kind != "number":
                raise BadExpression(f"`{text}`: {name} is a number")
        return Predicate("flag", "", block.reads, block, given)

    def _parameter(self, node: ast.Dict) -> Part:
        name, parameter = _defined(node)
        return Threshold(_kind_of(parameter.default), name=name)

    def _aggregate(self, word: str, node: ast.Call) -> Part:
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if len(node.args) != 1 or keywords.keys() - {"where"}:
            raise BadExpression(f"`{text_of(node)}`: {word} takes one value, and where=… if you like")
        of = dotted(node.args[0])
        where = self._flag(keywords["where"]) if "where" in keywords else None
        if of in self._survey.histories and word in ("any", "count"):
            operand, history = None, str(of)
        else:
            operand = self._part(node.args[0])
            history = operand.history
        if not history:
            raise BadExpression(f"`{text_of(node)}`: {word} is of a history's epochs, and here is none")
        if operand is not None and (operand.kind == "flag") != (word in ("any", "all")) and word != "count":
            wanted = "true or false" if word in ("any", "all") else "numbers"
            raise BadExpression(f"`{text_of(node)}`: {word} is of {wanted}")
        if operand is not None and operand.kind == "text":
            raise BadExpression(f"`{text_of(node)}`: {word} is not of text")
        if where is not None and where.history not in ("", history):
            raise BadExpression(f"`{text_of(node)}` mixes {history} and {where.history}")
        own = [part.reads for part in (operand, where) if part is not None]
        reads = _unique([*sum(own, ()), f"{history}.jd"])
        return Aggregate(AGGREGATES[word], "", reads, history, word, operand, where)


_BUILDERS: dict[type, Callable[[Reader, Any], Part]] = {
    ast.Compare: Reader._compare,
    ast.BoolOp: Reader._logic,
    ast.UnaryOp: Reader._unary,
    ast.BinOp: Reader._binary,
    ast.Call: Reader._call,
    ast.Dict: Reader._parameter,
}
_HOW_TO_AGGREGATE = "end it with one of " + ", ".join(f"{word}(…)" for word in AGGREGATES)


def _of_all(operands: tuple[Part, ...], node: ast.expr) -> tuple[str, tuple[str, ...]]:
    """The history that operands are of, and what they read. Raises BadExpression for two histories."""
    histories = {operand.history for operand in operands} - {""}
    if len(histories) > 1:
        raise BadExpression(f"`{text_of(node)}` mixes the epochs of {' and '.join(sorted(histories))}")
    return next(iter(histories), ""), _unique([name for operand in operands for name in operand.reads])


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _defined(node: ast.Dict) -> tuple[str, Parameter]:
    """The parameter of `{rb_min: 0.65}` or `{gap: (30, "min")}`: its default and its unit."""
    key, value = (node.keys[0], node.values[0]) if len(node.keys) == 1 else (None, None)
    unit: Any = ""
    default: Any
    if isinstance(value, ast.Tuple) and len(value.elts) == 2:
        unit, value = constant(value.elts[1]), value.elts[0]
    default = None if value is None else constant(value)
    if not isinstance(key, ast.Name) or default is None or not isinstance(unit, str):
        raise BadExpression(f'`{text_of(node)}`: a parameter is {{name: 0.65}} or {{name: (30, "min")}}')
    kind = type(default) if isinstance(default, bool | str) else float
    return key.id, Parameter(kind(default), unit, kind)


def _kind_of(value: Any) -> Kind:
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _kind_of_column(column: pd.Series) -> Kind:
    """From a pandas type; of a history's column, from the type of its values."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        inner = getattr(dtype.pyarrow_dtype, "value_type", dtype.pyarrow_dtype)
        dtype = pd.ArrowDtype(inner)
    if pd.api.types.is_bool_dtype(dtype):
        return "flag"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    if pd.api.types.is_string_dtype(dtype):
        return "text"
    raise BadExpression(f"`{column.name}` is {dtype}, which an expression cannot use")


def defaults(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Name -> default."""
    return {name: parameter.default for name, parameter in parameters.items()}
