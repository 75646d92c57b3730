"""Which explanations of a corpus are kept as sound and picture: a checked expression.

Fields are compared with numbers and texts, ``<``, ``<=``, ``>``, ``>=``, ``==`` and
``!=``; comparisons are joined by ``and``, ``or``, ``not`` and parentheses. Nothing else
can be written, and nothing is run as code. A comparison with a value that is missing is
false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from lmaczs.utils.errors import InputError, nearest

LONGEST = 1000
"""Characters of an expression, at most."""

NUMBERS = (
    *("similarity", "presence", "masked_similarity", "masked_presence"),
    *("residual_similarity", "residual_presence", "refine_steps"),
    *("mask_mean", "mass", "start", "stop"),
)
TEXTS = ("prompt", "verdict", "path")
FIELDS = (*TEXTS, *NUMBERS)

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Keep:
    """A condition on a row of scores.

    Parameters
    ----------
    text : str
        Such as ``presence > 0.9 and prompt == 'dog'``.

    Raises
    ------
    InputError
        If it is none, or compares a text with a number.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise self._error(f"it has more than {LONGEST} characters")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._error("it cannot be read") from error
        self._check(self._tree)

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """Whether it is true of a row; fields that the row lacks are missing values."""
        return _holds(self._tree, row)

    def _check(self, node: ast.expr) -> None:
        match node:
            case ast.BoolOp(values=values):
                for value in values:
                    self._check(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._check(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                kinds = {self._kind(one) for one in (left, *others)}
                if len(kinds) > 1:
                    raise self._error("it compares a text with a number")
                if not all(type(op) in COMPARISONS for op in ops):
                    raise self._error("comparisons are < <= > >= == !=")
            case _:
                raise self._error(f"{ast.unparse(node)!r} is no comparison")

    def _kind(self, node: ast.expr) -> type:
        match node:
            case ast.Name(id=name) if name in FIELDS:
                return str if name in TEXTS else float
            case ast.Name(id=name):
                raise self._error(f"there is no {name!r}{nearest(name, FIELDS)}")
            case ast.Constant(value=str()):
                return str
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float()):
                return float
            case ast.UnaryOp(
                op=ast.USub(), operand=ast.Constant(value=int() | float())
            ):
                return float
        raise self._error(f"{ast.unparse(node)!r} is no field, number or text")

    def _error(self, reason: str) -> InputError:
        return InputError(
            f"--keep {self.text[:80]!r}: {reason}; write such as 'presence > 0.9 and "
            f'prompt == "dog"\', with {", ".join(FIELDS)}'
        )


def _holds(node: ast.expr, row: Mapping[str, Any]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_holds(value, row) for value in values)
        case ast.BoolOp(values=values):
            return any(_holds(value, row) for value in values)
        case ast.UnaryOp(operand=operand):
            return not _holds(operand, row)
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(one, row) for one in (left, *others)]
            return None not in values and all(
                COMPARISONS[type(op)](*pair)
                for op, pair in zip(ops, pairwise(values), strict=True)
            )
    raise AssertionError(node)  # the expression was checked


def _value(node: ast.expr, row: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return row.get(name)
        case ast.UnaryOp(operand=ast.Constant(value=value)):
            return -value  # type: ignore[operator]
        case ast.Constant(value=value):
            return value
    raise AssertionError(node)
