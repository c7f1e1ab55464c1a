"""Filters without Python: `rb > 0.65 and count(prv_candidates.magpsf < 19) >= 2`.

`syntax` (text to a tree that is allowed) and `values` (arrays that know what is missing) ← `terms` (what each
part of an expression does) ← `meaning` (names, kinds and histories checked) ← `filter`.
"""

from filters.expressions.filter import expression, is_expression
from filters.expressions.syntax import BadExpression

__all__ = ["BadExpression", "expression", "is_expression"]
