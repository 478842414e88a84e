"""Rules over accounts as DuckDB sets: who belongs to an account that satisfies the rule.

An account has one value per trait, so its traits stand side by side in one row, and the rule is
one expression over that row.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdp.segments.compile_members import Members, as_members
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters, json_holds
from cdp.segments.rules import AllOf, AnyAccount, AnyOf, Not, Path, Rule, Trait

# Whichever of a person's identifiers was named last decides.
_NEWEST = '(m."at", m.message_id, m.source_number, -m.node_id)'


def account_members(rule: AnyAccount, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles that belong to an account which satisfies the rule."""
    belonging = (
        "SELECT o.profile_no, m.account_no "
        f"FROM {scope.table('account_members')} m JOIN {scope.owners()} o "
        'ON m.node_id = o.node_id AND m."at" >= o.since AND m."at" < o.until '
        f"WHERE m.fact = 'member' AND m.\"at\" <= {parameters.add(scope.now)} "
        f"GROUP BY o.profile_no, m.account_no HAVING arg_max(m.value::VARCHAR, {_NEWEST}) = 'true'"
    )
    satisfying = _Accounts(scope, parameters).select(rule.rule)
    return as_members(
        f"SELECT DISTINCT profile_no FROM ({belonging}) SEMI JOIN ({satisfying}) USING (account_no)"
    )


class _Accounts:
    """The accounts that satisfy a rule."""

    def __init__(self, scope: Scope, parameters: Parameters) -> None:
        self._scope = scope
        self._parameters = parameters
        self._traits: dict[str, str] = {}
        self._values: dict[Path, str] = {}

    def select(self, rule: Rule) -> str:
        test = self._test(rule)
        now = self._parameters.add(self._scope.now)
        traits = "".join(
            f", max(f.value::VARCHAR) FILTER (f.name = {self._parameters.add(name)})::JSON"
            f" AS {column}"
            for name, column in self._traits.items()
        )
        rows = (
            f"SELECT a.account_no{traits} FROM core.accounts a LEFT JOIN core.account_facts f "
            f"ON f.account_no = a.account_no AND f.kind = 'trait' AND f.\"at\" <= {now} "
            "GROUP BY a.account_no"
        )
        values = "".join(
            f", {json_at(self._traits[path[0]], path[1:], self._parameters, is_object=False)}"
            f" AS {column}"
            for path, column in self._values.items()
        )
        return f"SELECT account_no FROM (SELECT account_no{values} FROM ({rows})) WHERE {test}"

    def _test(self, rule: Rule) -> str:
        match rule:
            case AllOf(rules=rules):
                return _join([self._test(inner) for inner in rules], "AND", "TRUE")
            case AnyOf(rules=rules):
                return _join([self._test(inner) for inner in rules], "OR", "FALSE")
            case Not(rule=inner):
                return f"(NOT {self._test(inner)})"
            case Trait(path=path, comparison=comparison):
                self._traits.setdefault(path[0], f"t{len(self._traits)}")
                column = self._values.setdefault(path, f"v{len(self._values)}")
                return json_holds(column, comparison, self._scope.now, self._parameters)
            case _:
                raise TypeError("not a rule over an account")


def _join(tests: Sequence[str], word: str, empty: str) -> str:
    """Join as a balanced tree: a chain would nest too deep."""
    if not tests:
        return empty
    if len(tests) == 1:
        return tests[0]
    middle = len(tests) // 2
    return f"({_join(tests[:middle], word, empty)} {word} {_join(tests[middle:], word, empty)})"
