"""Moves between a tag's levels within a refresh: which wait, and whose time has come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from cdp.segments import moves_engine, moves_store
from cdp.segments.definitions import Definition, UnitName
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.refresh_plan import Evaluation
from cdp.segments.transitions import read_transitions
from cdp.storage.database import Driver

_CROSSING = "hold:"


def hold_back(evaluator: Evaluator, tx: Driver, evaluation: Evaluation) -> None:
    """Let what was found of a tag wait as long as its transition rules say.

    A new definition is followed at once.
    """
    definition = evaluation.definition
    transitions = read_transitions(definition.document)
    if transitions is None or 0 < definition.evaluated_version < definition.version:
        if definition.is_behind:
            moves_store.delete_moves(tx, definition.key)
        return
    profiles = None if evaluation.whole else evaluator.read_scope_profiles()
    if "sql" in definition.document and profiles is not None:
        # What the query says of them now is not known yet.
        moves_store.delete_moves_of_gone(tx, definition.key, profiles)
        return
    waiting = moves_store.read_moves(tx, definition.key, profiles)
    gone, begun = moves_engine.hold_back(
        evaluator.duck, definition.key, transitions, waiting, evaluator.now
    )
    moves_store.write_moves(tx, definition.key, gone, begun)


def find_due(
    evaluator: Evaluator, tx: Driver, definitions: Iterable[Definition]
) -> dict[UnitName, frozenset[str]]:
    """Return the tags in which somebody's time has come, each with a crossing that has them.

    To be called once ``crossed`` is filled.
    """
    if not any("transitions" in each.document for each in definitions if each.kind == "tag"):
        return {}
    people: dict[str, list[int]] = defaultdict(list)
    for key, profile_no in moves_store.list_due(tx, evaluator.now):
        people[key].append(profile_no)
    for key, profiles in people.items():
        moves_engine.cross(evaluator.duck, _CROSSING + key, profiles)
    return {UnitName("tag", key): frozenset({_CROSSING + key}) for key in people}


def join_crossed(
    crossed: Mapping[UnitName, frozenset[str]], held: Mapping[UnitName, frozenset[str]]
) -> dict[UnitName, frozenset[str]]:
    """Return the crossings of each unit in either."""
    names = crossed.keys() | held.keys()
    return {name: crossed.get(name, frozenset()) | held.get(name, frozenset()) for name in names}


def find_next_due(
    tx: Driver, definitions: Iterable[Definition], skipped: Collection[UnitName]
) -> datetime | None:
    """Return when somebody's time comes next; of tags by SQL those know themselves."""
    moving = [each for each in definitions if each.kind == "tag" and "transitions" in each.document]
    if not moving:
        return None
    without = {each.key for each in moving if "sql" in each.document or each.name in skipped}
    return moves_store.find_next_due(tx, without)
