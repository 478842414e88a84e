"""Compare memberships and tag values with what the rules say of everybody, from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cdp.segments.definitions import Definition, UnitName, find_dependencies, order_units
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.membership_store import Touched
from cdp.segments.mirror_engine import fetch
from cdp.segments.refresh_plan import EARLIEST, Evaluation

_COUNT = """
SELECT 'segment' AS kind, segment AS key, count(*) FILTER (change = 'entered') AS missing,
       count(*) FILTER (change = 'left') AS extra
  FROM pending_memberships GROUP BY segment
UNION ALL
SELECT 'tag', key, count(*) FILTER (value IS NOT NULL), count(*) FILTER (value IS NULL)
  FROM pending_tags GROUP BY key
"""
_SIZES = """
SELECT 'segment' AS kind, segment AS key, count(*) AS size FROM core.memberships GROUP BY segment
UNION ALL SELECT 'tag', key, count(*) FROM core.tag_values GROUP BY key
"""

ReadManual = Callable[[Evaluation], Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a full evaluation found of one segment or tag."""

    name: UnitName
    size: int
    """Members, or people with a value, as they were."""
    missing: int
    """Who should be a member and is not, or has another value than they should."""
    extra: int
    """Who is a member, or has a value, and should not."""

    @property
    def is_right(self) -> bool:
        return not self.missing and not self.extra

    def show(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "kind": self.name.kind,
            "key": self.name.key,
            "size": self.size,
            "missing": self.missing,
            "extra": self.extra,
            "ok": self.is_right,
        }


def check_units(
    evaluator: Evaluator, definitions: Iterable[Definition], read_manual: ReadManual
) -> list[Checked]:
    """Evaluate everything for everybody; return what differs, unit by unit.

    The caller rolls back: nothing that is found here may be written. Built-in tags and tags by
    SQL are left out, since they are computed for everybody whenever they are computed.
    """
    duck = evaluator.duck
    sizes = {
        UnitName(row["kind"], row["key"]): row["size"] for row in fetch(duck, _SIZES).to_pylist()
    }
    evaluator.touch(Touched([], [], True), EARLIEST)
    ordered = order_units(definitions)
    tag_keys = {each.key for each in ordered if each.kind == "tag"}
    checked = []
    for definition in ordered:
        if definition.kind == "tag" and not {"builtin", "sql"}.isdisjoint(definition.document):
            continue
        dependencies = frozenset(find_dependencies(definition, tag_keys))
        evaluation = Evaluation(definition, True, "definition", dependencies)
        evaluator.open_scope(dependencies)
        if definition.kind == "segment":
            evaluator.evaluate_segment(evaluation)
        else:
            evaluator.evaluate_tag(evaluation, read_manual(evaluation))
        checked.append(definition.name)
    found = {UnitName(row["kind"], row["key"]): row for row in fetch(duck, _COUNT).to_pylist()}
    return [
        Checked(
            name,
            sizes.get(name, 0),
            found.get(name, {}).get("missing", 0),
            found.get(name, {}).get("extra", 0),
        )
        for name in sorted(checked)
    ]
