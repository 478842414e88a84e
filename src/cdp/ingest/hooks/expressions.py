"""JMESPath expressions, evaluated within bounds. Pure.

The language has no loops of its own, yet ``[@, @] | [@, @] | …`` doubles with every step. Work is
therefore counted: steps of the interpreter, and parts of whatever an expression makes. The count,
unlike a clock, gives the same outcome for the same document everywhere.

https://jmespath.org/specification.html
"""

from __future__ import annotations

from typing import Any

from jmespath import functions, parser, visitor
from jmespath.exceptions import JMESPathError

LONGEST_EXPRESSION = 1_000
MOST_WORK = 100_000
"""Steps and made parts of all expressions of a delivery together: some tenths of a second."""
_LONGEST_TEXT = 1_000_000


class ExpressionError(ValueError):
    """The expression is none, or cannot be evaluated on this document."""


class Expression:
    """One expression, ready to be evaluated."""

    def __init__(self, text: str) -> None:
        """Raises ``ExpressionError`` for what is no expression."""
        if len(text) > LONGEST_EXPRESSION:
            raise ExpressionError(f"an expression has at most {LONGEST_EXPRESSION} characters")
        try:
            self._tree = parser.Parser().parse(text).parsed
        except (JMESPathError, RecursionError, ValueError) as error:
            raise ExpressionError(f"no JMESPath expression: {_first_line(error)}") from error

    def evaluate(self, document: Any, budget: Budget) -> Any:
        """Return what the expression finds in ``document``; ``None`` for nothing.

        Raises ``ExpressionError`` when the document is not of the shape that the expression needs,
        or when ``budget`` is used up.
        """
        try:
            return _BoundedInterpreter(budget).visit(self._tree, document)
        except ExpressionError:
            raise
        except (JMESPathError, RecursionError, ArithmeticError, ValueError, TypeError) as error:
            raise ExpressionError(_first_line(error)) from error


class Budget:
    """How much work is left for the expressions of one delivery."""

    def __init__(self, work: int = MOST_WORK) -> None:
        self.left = work

    def spend(self, work: int) -> None:
        """Take ``work`` off. Raises ``ExpressionError`` when there is not enough."""
        self.left -= work
        if self.left < 0:
            raise ExpressionError("the expressions take too much work on this document")


class _BoundedInterpreter(visitor.TreeInterpreter):
    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._calls = functions.Functions()

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._budget.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_multi_select_list(self, node: Any, value: Any) -> Any:
        return self._measure(super().visit_multi_select_list(node, value))

    def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
        return self._measure(super().visit_multi_select_dict(node, value))

    def visit_flatten(self, node: Any, value: Any) -> Any:
        return self._measure(super().visit_flatten(node, value))

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        if node["value"] == "join":
            # Joined text is as long as its parts together, however few steps that takes.
            return self._join(node, value)
        return self._measure(super().visit_function_expression(node, value))

    def _join(self, node: Any, value: Any) -> Any:
        arguments = [self.visit(child, value) for child in node["children"]]
        if len(arguments) == 2 and isinstance(arguments[1], list):
            between, parts = arguments
            length = sum(len(p) + len(between or "") for p in parts if isinstance(p, str))
            if length > _LONGEST_TEXT:
                raise ExpressionError("join makes too long a text")
        return self._calls.call_function("join", arguments)

    def _measure(self, made: Any) -> Any:
        """Pay for every part of ``made``, as often as it is repeated in it."""
        waiting = [made]
        while waiting:
            one = waiting.pop()
            if isinstance(one, dict):
                waiting.extend(one.values())
            elif isinstance(one, list):
                waiting.extend(one)
            else:
                continue
            self._budget.spend(len(one) + 1)
        return made


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
