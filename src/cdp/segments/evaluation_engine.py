"""Evaluate segments and tags in DuckDB and find what changed, set by set.

    who was touched ─► what a definition says of them ─► what that changes ─► the next unit

All of it happens in the single writer's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import pyarrow as pa

from cdp.segments.definitions import UnitName
from cdp.segments.differences_engine import Differences
from cdp.segments.findings_engine import Among, Findings, Manual, ReadRule
from cdp.segments.membership_store import Touched
from cdp.segments.mirror_engine import Duck, fetch
from cdp.segments.refresh_plan import Evaluation
from cdp.segments.scope_engine import MOST_COPIED, CopiedFacts
from cdp.segments.touched_engine import count_rows, fill_scope, find_touched

_EVERY_SCOPE = "SELECT profile_no FROM touched UNION SELECT profile_no FROM crossed"


class Evaluator:
    """One refresh in DuckDB: who was touched, what each unit says of them, what that changes."""

    def __init__(
        self,
        duck: Duck,
        *,
        now: datetime,
        timezone: str,
        read_rule: ReadRule,
    ) -> None:
        """``duck`` is the single writer's cursor, inside its transaction."""
        self.duck = duck
        self.now = now
        self.timezone = timezone
        self.read_rule = read_rule
        self.before_settling: Callable[[Evaluation], None] | None = None
        """Is told of a tag once ``found`` holds what its definition says, and may change it."""
        self._facts = CopiedFacts(duck, now)
        self._findings = Findings(
            duck, self._facts, now=now, timezone=timezone, read_rule=read_rule
        )
        self._differences = Differences(duck, now)
        self._scope: tuple[frozenset[UnitName], frozenset[str]] | None = None
        self._scope_size = 0
        self._is_copied = False

    def touch(self, touched: Touched, since: datetime) -> int:
        """Settle whose answers may have changed, and why: those that the batches name, and those

        whose future-dated facts came true in (``since``, now]. Return how many they are.
        """
        self._scope = None
        return find_touched(self.duck, touched, since, self.now)

    def are_all_few(self) -> bool:
        """Whether the touched and all whom time may have moved are few enough to be copied."""
        return count_rows(self.duck, f"({_EVERY_SCOPE})") <= MOST_COPIED

    def open_scope(
        self, dependencies: Collection[UnitName], crossings: Collection[str] = ()
    ) -> None:
        """Let ``scope`` be the touched profiles, those that ``dependencies`` changed, and those

        in ``crossings``.
        """
        asked = (frozenset(dependencies), frozenset(crossings))
        if asked == self._scope and not dependencies:
            return
        self._settle_segments()
        self._scope = asked
        self._scope_size = fill_scope(self.duck, dependencies, crossings)
        self._is_copied = False

    def read_scope_nodes(self) -> list[int]:
        """Return the nodes of the profiles in scope."""
        rows = self.duck.execute(
            f"""SELECT DISTINCT node_id FROM {self._name("node_profiles")}
                 SEMI JOIN scope USING (profile_no)"""
        ).fetchall()
        return [row[0] for row in rows]

    def read_scope_profiles(self) -> list[int]:
        """Return the profiles in scope."""
        return [row[0] for row in self.duck.execute("SELECT profile_no FROM scope").fetchall()]

    def evaluate_segment(self, evaluation: Evaluation) -> None:
        """Find who enters and who leaves, and apply it before anybody asks who is in it."""
        if not self._look_at(evaluation):
            return
        definition = evaluation.definition
        unit = self._differences.ask(evaluation)
        among = self._among(evaluation.whole)
        self._findings.add_members(unit, definition.document, among, consent=definition.consent)
        if not self._is_copied:
            self._settle_segments(whole=evaluation.whole)

    def evaluate_tag(self, evaluation: Evaluation, manual: Manual | None) -> None:
        """Find whose value changes, and apply it. ``manual`` is for a tag that is set by hand."""
        if not self._look_at(evaluation):
            return
        document = evaluation.definition.document
        among = self._among(evaluation.whole)
        if manual is not None:
            self._findings.find_manual(manual, owners=self._name("node_profiles"))
        elif "aggregate" in document:
            self._findings.find_aggregate(document["aggregate"], among)
        else:
            self._findings.find_cases(document, among, profiles=self._name("profiles"))
        self._settle(evaluation)

    def empty(self, evaluation: Evaluation) -> None:
        """Let everybody leave the segment, or lose the tag."""
        self._look_at(evaluation)
        if evaluation.definition.kind == "segment":
            self._differences.ask(evaluation)
            self._settle_segments(whole=evaluation.whole)
        else:
            self._findings.find_nobody()
            self._settle(evaluation)

    def settle_values(self, evaluation: Evaluation, values: pa.Table) -> None:
        """Let ``values`` (profile_no, value) be everybody's, or those of the profiles in scope."""
        self._findings.take_values(values)
        if self._look_at(evaluation):
            self._settle(evaluation)

    def settle_texts(self, evaluation: Evaluation, values: pa.Table) -> None:
        """The same for values that are JSON text."""
        self._findings.take_texts(values)
        if self._look_at(evaluation):
            self._settle(evaluation)

    def find_holders(self, document: Any, *, whole: bool) -> pa.Table:
        """Return the profiles (profile_no) for which a rule holds."""
        self._findings.find_members(document, self._among(whole))
        return fetch(self.duck, "SELECT profile_no FROM found ORDER BY profile_no")

    def apply_pending(self) -> None:
        """Let the mirror be as the units so far have left it, for whoever reads it as a whole."""
        self._settle_segments()
        self._differences.apply_to_mirror()

    def number_changes(self, base: int) -> tuple[pa.Table, pa.Table]:
        """Number everything that changed from ``base`` + 1 and record it in the mirror.

        Returns the changes of memberships and of tag values, as the ledger takes them.
        """
        self._settle_segments()
        return self._differences.number(base)

    def _look_at(self, evaluation: Evaluation) -> bool:
        """Get ready for a unit; return whether there is anybody whose answer may change."""
        if evaluation.whole:
            self.apply_pending()
            self._is_copied = False
        elif self._scope_size and not self._is_copied:
            if not self._facts.has_scope():
                # What is copied anew must be as the units so far have left it.
                self.apply_pending()
            self._is_copied = self._facts.cover(self._scope_size, among=_EVERY_SCOPE)
            if not self._is_copied:
                self.apply_pending()
        return evaluation.whole or self._scope_size > 0

    def _among(self, whole: bool) -> Among:
        is_copied = self._is_copied and not whole
        # Everybody in scope is copied: as many are the same.
        return Among(whole, is_copied, is_copied and self._facts.size == self._scope_size)

    def _name(self, table: str) -> str:
        """Return what a table of ``core`` is called, or its copy where that is looked at."""
        if not self._is_copied:
            return f"core.{table}"
        self._facts.copy([table])
        return f"scope_{table}"

    def _settle(self, evaluation: Evaluation) -> None:
        """Keep where ``found`` differs from a tag's values as changes, and apply them."""
        if self.before_settling is not None:
            self.before_settling(evaluation)
        has_changed = self._differences.settle_tag(
            evaluation,
            held=self._name("tag_values"),
            profiles=self._name("profiles"),
            is_copied=self._is_copied,
        )
        if has_changed and not self._is_copied:
            self._facts.forget("tag_values")

    def _settle_segments(self, *, whole: bool = False) -> None:
        """The same of the segments that were asked since. Of a few people many are settled at once;

        who refers to them, or is asked of others, comes after that.
        """
        if not self._differences.has_asked:
            return
        has_changed = self._differences.settle_segments(
            whole=whole,
            held=self._name("memberships"),
            profiles=self._name("profiles"),
            is_copied=self._is_copied,
        )
        if has_changed and not self._is_copied:
            self._facts.forget("memberships")
