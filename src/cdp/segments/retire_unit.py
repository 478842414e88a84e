"""A segment or a tag is deleted: first everybody leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cdp.errors import Conflict
from cdp.segments import segments_store
from cdp.segments.definitions import Definition, UnitName, find_users
from cdp.segments.definitions_store import delete_definition
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.membership_store import Touched
from cdp.segments.mirror_engine import write_segments
from cdp.segments.refresh_plan import Evaluation
from cdp.storage.database import Driver


class UserName(NamedTuple):
    """What uses a segment or a tag: another of them, or a destination."""

    kind: str
    key: str


FindUsers = Callable[[Driver, UnitName], list[UserName]]


def find_retiring(
    tx: Driver, name: UnitName, definitions: list[Definition], find_more_users: FindUsers
) -> Definition | None:
    """Return the definition that is to go, or ``None`` when there is none of that name.

    Raises ``Conflict`` while something refers to it.
    """
    found = {each.name: each for each in definitions}.get(name)
    if found is not None:
        _require_unused(name, find_users(name, definitions), find_more_users(tx, name))
    return found


def retire(evaluator: Evaluator, tx: Driver, definition: Definition) -> None:
    """Let everybody leave the segment, or lose the tag, and delete its definition."""
    evaluator.touch(Touched([], [], True), evaluator.now)
    evaluator.open_scope(())
    evaluator.empty(Evaluation(definition, True, "definition", frozenset()))
    delete_definition(tx, definition.name)
    if definition.kind == "segment":
        write_segments(evaluator.duck, segments_store.list_segments(tx))


def _require_unused(name: UnitName, *users: Iterable[tuple[str, str]]) -> None:
    found = [UserName(*user) for each in users for user in each]
    if found:
        named = ", ".join(f"{user.kind} {user.key}" for user in found)
        raise Conflict(
            f"{name.kind}_in_use",
            f"{name.kind} {name.key} is used by {named}; change them first",
            details={"used_by": [user._asdict() for user in found]},
        )
