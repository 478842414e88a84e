"""Two spellings of one identifier: a contact and its SHA-256, a name with and without its scope.

Both were seen, and both are kept; that they are one is no observation but follows from what they
are. So the replay is given one node in place of the two, and its result holds for both: whatever
moves, parts, blocks or heats the one does so to the other. Pure.

A name without a scope is the one with a scope if there is a single such one. With two, it may be
either's, and stands for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, TypeVar

from cdp.identity.default_types import HASHED_TYPES
from cdp.identity.facts import Join, JoinRule, LinkFact, Node, ProfileKey, Refusal, Resolution
from cdp.identity.rules import Rules
from cdp.identity.scopes import SEPARATOR, split_scope
from cdp.model import Identifier

_Told = TypeVar("_Told", Join, Refusal)
_HASHED = frozenset(HASHED_TYPES)
_HASHED_OF = {clear: hashed for hashed, clear in HASHED_TYPES.items()}


class Form(NamedTuple):
    """What all spellings of one identifier have in common."""

    type: str
    form: str


def digest(value: str) -> str:
    """Return the SHA-256 of a normalised value, in lower-case hexadecimal."""
    return sha256(value.encode()).hexdigest()


def hashed_type_of(type_name: str) -> str | None:
    """Return the type of the hashed form of a clear type; ``None`` for types without one."""
    return _HASHED_OF.get(type_name)


def form_of(identifier: Identifier, rules: Rules) -> Form | None:
    """Return the form of an identifier that may have another spelling."""
    kind, value = identifier
    clear = HASHED_TYPES.get(kind)
    if clear is not None:
        return Form(clear, value)
    if kind in _HASHED_OF:
        return Form(kind, digest(value))
    if rules.rule_of(kind).scope == "app":
        return Form(kind, split_scope(value)[1])
    return None


def is_variant(identifier: Identifier) -> bool:
    """Whether it is a hashed form, or has a scope: the first of them makes forms necessary."""
    kind, value = identifier
    return kind in _HASHED or (SEPARATOR in value and split_scope(value)[0] is not None)


def list_pairs(spellings: Mapping[int, Identifier]) -> list[tuple[int, int]]:
    """Return (base, variant) of the nodes that have one form; without a base there are none."""
    bases = [n for n, identifier in spellings.items() if not is_variant(identifier)]
    return [(base, n) for base in bases for n in sorted(spellings.keys() - set(bases))]


class _Fold(NamedTuple):
    """``kept`` stands for ``gone`` in the replay."""

    gone: int
    kept: int
    link_id: int
    at: datetime
    """When both had been seen."""
    rule: JoinRule


@dataclass(frozen=True, slots=True)
class Folded:
    """Facts with one node in place of twins."""

    nodes: tuple[Node, ...]
    links: tuple[LinkFact, ...]
    folds: tuple[_Fold, ...]
    first_seen: Mapping[int, datetime]
    """Of each node by itself."""
    original: Mapping[int, LinkFact]

    def unfold(self, found: Resolution) -> Resolution:
        """Return what ``found``, the replay of the folded facts, means for every node."""
        names = self._rename()
        assignments = {
            node_id: tuple(
                part._replace(profile=names.get(part.profile, part.profile)) for part in parts
            )
            for node_id, parts in found.assignments.items()
        }
        joined_at = {names.get(key, key): at for key, at in found.joined_at.items()}
        for fold in self.folds:
            parts = assignments[fold.kept]
            assignments[fold.gone] = tuple(part._replace(node_id=fold.gone) for part in parts)
        gone_by_kept: dict[int, list[int]] = {}
        for fold in self.folds:
            gone_by_kept.setdefault(fold.kept, []).append(fold.gone)
        joins = [Join(f.link_id, f.kept, f.gone, f.at, f.rule) for f in self.folds]
        return Resolution(
            assignments,
            joined_at,
            tuple(self._tell(one, gone_by_kept) for one in found.refusals),
            (*joins, *(self._tell(one, gone_by_kept) for one in found.joins)),
            found.hot | {fold.gone for fold in self.folds if fold.kept in found.hot},
        )

    def _rename(self) -> dict[ProfileKey, ProfileKey]:
        """Let the oldest of twins name the profile that the kept one names."""
        oldest: dict[int, int] = {}
        for fold in self.folds:
            known = oldest.get(fold.kept, fold.kept)
            if self.first_seen[fold.gone] < self.first_seen[known]:
                oldest[fold.kept] = fold.gone
        return {ProfileKey(kept): ProfileKey(gone) for kept, gone in oldest.items()}

    def _tell(self, told: _Told, gone_by_kept: Mapping[int, Collection[int]]) -> _Told:
        """Name the spelling that the event carried."""
        carried = self.original[told.link_id].node_ids

        def find(node_id: int) -> int:
            if node_id in carried or node_id not in gone_by_kept:
                return node_id
            return next((gone for gone in gone_by_kept[node_id] if gone in carried), node_id)

        return told._replace(strong=find(told.strong), weak=find(told.weak))


def fold(
    nodes: Mapping[int, Node], links: Iterable[LinkFact], blocked: Collection[int]
) -> Folded | None:
    """Put one node in place of twins, if there are any; ``None`` when all stays as it is.

    A hashed contact whose clear form nobody knows counts as one more contact of the clear type:
    whoever has an e-mail address does not take in another one's for being hashed. What is
    ``blocked`` is nobody's twin.
    """
    facts = list(links)
    twins = [link for link in facts if link.kind == "twin"]
    hashed = [n for n, node in nodes.items() if node.type in HASHED_TYPES and n not in blocked]
    if not twins and not hashed:
        return None
    folds = _list_folds(nodes, twins, blocked)
    whole = dict(nodes)
    for node_id in hashed:
        whole[node_id] = whole[node_id]._replace(type=HASHED_TYPES[whole[node_id].type])
    into: dict[int, int] = {}
    for one in folds:
        gone, kept = whole.pop(one.gone), whole[one.kept]
        into[one.gone] = one.kept
        whole[one.kept] = kept._replace(
            first_seen=min(kept.first_seen, gone.first_seen),
            quarantined=kept.quarantined or gone.quarantined,
        )
    return Folded(
        tuple(whole.values()),
        tuple(_fold_links(facts, into)),
        tuple(folds),
        {node_id: node.first_seen for node_id, node in nodes.items()},
        {link.link_id: link for link in facts},
    )


def _fold_links(links: Iterable[LinkFact], into: Mapping[int, int]) -> Iterable[LinkFact]:
    for link in links:
        if link.kind == "twin":
            continue
        # In the order given: of a parting by hand the first is the one that leaves.
        node_ids = tuple(dict.fromkeys(into.get(n, n) for n in link.node_ids))
        if len(node_ids) > 1:
            yield link if node_ids == link.node_ids else link._replace(node_ids=node_ids)


def _list_folds(
    nodes: Mapping[int, Node], twins: Iterable[LinkFact], blocked: Collection[int]
) -> list[_Fold]:
    """Return the folds that twin facts make, each node gone at most once."""
    folds: dict[int, _Fold] = {}
    scoped: dict[int, list[tuple[int, LinkFact]]] = {}
    for link in twins:
        if not all(n in nodes and n not in blocked for n in link.node_ids):
            continue
        a, b = link.node_ids
        base, variant = (b, a) if is_variant(_name(nodes[a])) else (a, b)
        if nodes[variant].type in HASHED_TYPES:
            folds[variant] = _make_fold(nodes, variant, base, link, "hashed_twin")
        else:
            scoped.setdefault(base, []).append((variant, link))
    for base, variants in scoped.items():
        if len(variants) == 1:
            ((variant, link),) = variants
            folds[base] = _make_fold(nodes, base, variant, link, "scoped_twin")
    return [folds[gone] for gone in sorted(folds)]


def _make_fold(
    nodes: Mapping[int, Node], gone: int, kept: int, link: LinkFact, rule: JoinRule
) -> _Fold:
    at = max(nodes[gone].first_seen, nodes[kept].first_seen)
    return _Fold(gone, kept, link.link_id, at, rule)


def _name(node: Node) -> Identifier:
    return Identifier(node.type, node.value)
