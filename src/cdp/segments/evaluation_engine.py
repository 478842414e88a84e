"""Evaluate segments and tags in DuckDB and find what changed, set by set.

All of it happens in the single writer's transaction: each unit's changes are applied to the mirror
at once, so the units that refer to it see them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from cdp.segments.compile import compile_aggregate, compile_rule
from cdp.segments.definitions import Definition, UnitName
from cdp.segments.membership_store import Touched
from cdp.segments.mirror_engine import Duck, fetch
from cdp.segments.parse import parse_aggregate
from cdp.segments.refresh_plan import Evaluation
from cdp.segments.rules import AllOf, Consent, Rule
from cdp.segments.scope_engine import CopiedFacts
from cdp.storage.registered_engine import registered

ReadRule = Callable[[Any], Rule]
"""From a stored rule document to its tree."""

_OPEN = """
CREATE OR REPLACE TEMP TABLE pending_memberships (
    unit INTEGER, segment VARCHAR, profile_no BIGINT, profile_id VARCHAR, change VARCHAR,
    cause VARCHAR, version INTEGER);
CREATE OR REPLACE TEMP TABLE pending_tags (
    unit INTEGER, key VARCHAR, profile_no BIGINT, profile_id VARCHAR, value JSON,
    cause VARCHAR, version INTEGER);
CREATE OR REPLACE TEMP TABLE crossed (crossing VARCHAR, profile_no BIGINT);
"""

# Somebody whose event was dated ahead of its receipt is touched again when its time has come.
# A member whose profile is gone was absorbed by whoever holds the node that named it.
_TOUCHED = """
CREATE OR REPLACE TEMP TABLE touched AS
WITH gone AS (
    SELECT t.profile_no FROM incoming_touched t
     WHERE NOT EXISTS (FROM core.profiles p WHERE p.profile_no = t.profile_no)
       AND EXISTS (FROM core.memberships m WHERE m.profile_no = t.profile_no)),
told AS (
    SELECT profile_no, 'event' AS cause, 2 AS rank FROM incoming_touched
    UNION ALL SELECT profile_no, 'merge', 1 FROM incoming_merged
    UNION ALL SELECT np.profile_no, 'merge', 1
                FROM gone JOIN core.node_profiles np ON np.node_id = gone.profile_no
    UNION ALL SELECT profile_no, 'time', 3 FROM core.profile_events
               WHERE "at" > $since AND "at" <= $now AND "at" > received_at
    UNION ALL SELECT m.profile_no, 'time', 3
                FROM core.orders o JOIN core.node_profiles m
                  ON m.node_id = o.node_id AND o.placed_at >= m.since AND o.placed_at < m.until
               WHERE o.placed_at > $since AND o.placed_at <= $now
    UNION ALL SELECT np.profile_no, 'time', 3
                FROM core.account_members m JOIN core.node_profiles np ON np.node_id = m.node_id
               WHERE m."at" > $since AND m."at" <= $now
                  OR EXISTS (FROM core.account_facts f
                              WHERE f.account_no = m.account_no
                                AND f."at" > $since AND f."at" <= $now))
SELECT profile_no, arg_min(cause, rank) AS cause FROM told
 WHERE profile_no IS NOT NULL GROUP BY profile_no
"""

_SCOPE = """
CREATE OR REPLACE TEMP TABLE scope_causes AS
SELECT profile_no, arg_min(cause, rank) AS cause
  FROM (SELECT profile_no, cause, 1 AS rank FROM touched
        UNION ALL SELECT profile_no, cause, 2 FROM pending_memberships
                   WHERE list_contains($segments, segment)
        UNION ALL SELECT profile_no, cause, 2 FROM pending_tags WHERE list_contains($tags, key)
        UNION ALL SELECT profile_no, 'time', 3 FROM crossed
                   WHERE list_contains($crossings, crossing))
 GROUP BY profile_no
"""
_SCOPE_PROFILES = "CREATE OR REPLACE TEMP TABLE scope AS SELECT profile_no FROM scope_causes"
_EVERY_SCOPE = "SELECT profile_no FROM touched UNION SELECT profile_no FROM crossed"

# Why a profile's answer changed: it vanished (its naming node lives on in another profile, or was
# erased); a new definition; something about the profile; else what the whole evaluation is for.
_CAUSE = """
CASE WHEN {gone} AND EXISTS (
          FROM core.node_profiles m JOIN core.profiles heir ON heir.profile_no = m.profile_no
         WHERE m.node_id = c.profile_no AND m.since = '-infinity') THEN 'merge'
     WHEN {gone} THEN 'privacy'
     WHEN $cause = 'definition' THEN 'definition'
     ELSE coalesce(s.cause, $cause) END
"""
_GONE = "NOT EXISTS (FROM core.profiles p WHERE p.profile_no = c.profile_no)"
# The same of copied people, of whom it is known who is gone.
_COPIED_CAUSE = """
coalesce((SELECT g.cause FROM scope_gone g WHERE g.profile_no = c.profile_no),
         CASE WHEN $cause = 'definition' THEN 'definition' END, s.cause, $cause)
"""
_IN_SCOPE = "AND EXISTS (FROM scope s WHERE s.profile_no = h.profile_no)"

_DIFF_SEGMENT = """
INSERT INTO pending_memberships
WITH held AS (SELECT h.profile_no, h.profile_id FROM {held} h
               WHERE h.segment = $key {in_scope}),
changed AS (
    SELECT f.profile_no, p.profile_id, 'entered' AS change
      FROM found f JOIN {profiles} p ON p.profile_no = f.profile_no
     WHERE NOT EXISTS (FROM held h WHERE h.profile_no = f.profile_no)
    UNION ALL
    SELECT h.profile_no, h.profile_id, 'left' FROM held h
     WHERE NOT EXISTS (FROM found f WHERE f.profile_no = h.profile_no))
SELECT $unit, $key, c.profile_no, c.profile_id, c.change, {cause}, $version
  FROM changed c LEFT JOIN scope_causes s ON s.profile_no = c.profile_no
"""
_LEAVE_SEGMENTS = """
DELETE FROM {held} AS m USING pending_memberships AS c
 WHERE list_contains($units, c.unit) AND c.change = 'left'
   AND m.segment = c.segment AND m.profile_no = c.profile_no
"""
_ENTER_SEGMENTS = """
INSERT INTO {held} (segment, profile_no, profile_id, entered_at, version)
SELECT segment, profile_no, profile_id, $now, version FROM pending_memberships
 WHERE list_contains($units, unit) AND change = 'entered'
"""

_DIFF_TAG = """
INSERT INTO pending_tags
WITH held AS (SELECT h.profile_no, h.profile_id, h.value FROM {held} h
               WHERE h.key = $key {in_scope}),
changed AS (
    SELECT f.profile_no, p.profile_id, f.value
      FROM found f JOIN {profiles} p ON p.profile_no = f.profile_no
     WHERE NOT EXISTS (FROM held h WHERE h.profile_no = f.profile_no
                          AND h.value::VARCHAR = f.value::VARCHAR)
    UNION ALL
    SELECT h.profile_no, h.profile_id, NULL FROM held h
     WHERE NOT EXISTS (FROM found f WHERE f.profile_no = h.profile_no))
SELECT $unit, $key, c.profile_no, c.profile_id, c.value, {cause}, $version
  FROM changed c LEFT JOIN scope_causes s ON s.profile_no = c.profile_no
"""
_LEAVE_TAGS = """
DELETE FROM {held} AS v USING pending_tags AS c
 WHERE list_contains($units, c.unit) AND v.key = c.key AND v.profile_no = c.profile_no
"""
_ENTER_TAGS = """
INSERT INTO {held} (key, profile_no, profile_id, value, "at", version)
SELECT key, profile_no, profile_id, value, $now, version FROM pending_tags
 WHERE list_contains($units, unit) AND value IS NOT NULL
"""
# By kind of unit: its table, how changes are found, and how they are applied.
_KINDS = {
    "segment": ("memberships", _DIFF_SEGMENT, _LEAVE_SEGMENTS, _ENTER_SEGMENTS),
    "tag": ("tag_values", _DIFF_TAG, _LEAVE_TAGS, _ENTER_TAGS),
}

_CASES = """
CREATE OR REPLACE TEMP TABLE found AS
WITH hit AS (SELECT profile_no, min(ordinal) AS ordinal FROM case_hits GROUP BY profile_no)
SELECT h.profile_no, v.value::JSON AS value
  FROM hit h JOIN case_values v ON v.ordinal = h.ordinal WHERE v.value IS NOT NULL
"""
_ELSE = """
INSERT INTO found
SELECT p.profile_no, $value::JSON FROM {profiles} p
 WHERE NOT EXISTS (FROM case_hits h WHERE h.profile_no = p.profile_no) {in_scope}
"""
_MANUAL = """
CREATE OR REPLACE TEMP TABLE found AS
SELECT profile_no, value::JSON AS value
  FROM (SELECT np.profile_no, arg_max(m.value, m."at") AS value
          FROM manual_values m JOIN {owners} np
            ON np.node_id = m.node_id AND m."at" >= np.since AND m."at" < np.until
         GROUP BY np.profile_no)
 WHERE value <> 'null'
"""

_NUMBER_MEMBERSHIPS = """
SELECT $base + row_number() OVER (ORDER BY unit, profile_no) AS change_no, segment, profile_no,
       profile_id, change, $now::TIMESTAMPTZ AS "at", cause, version
  FROM pending_memberships ORDER BY change_no
"""
_NUMBER_TAGS = """
SELECT $base + row_number() OVER (ORDER BY unit, profile_no) AS change_no, key, profile_no,
       profile_id, value::VARCHAR AS value, $now::TIMESTAMPTZ AS "at", cause, version
  FROM pending_tags ORDER BY change_no
"""
_RECORD_MEMBERSHIPS = """
INSERT INTO core.membership_changes
       (change_no, segment, profile_no, profile_id, change, "at", cause, version)
SELECT change_no, segment, profile_no, profile_id, change, "at", cause, version FROM numbered
"""


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
        self._duck = self.duck = duck
        self._now = self.now = now
        self._timezone = self.timezone = timezone
        self.read_rule = read_rule
        self._unit = 0
        self.before_settling: Callable[[Evaluation], None] | None = None
        """Is told of a tag once ``found`` holds what its definition says, and may change it."""
        self._facts = CopiedFacts(duck)
        self._scope: tuple[frozenset[UnitName], frozenset[str]] | None = None
        self._scope_size = 0
        self._is_copied = False
        self._unapplied: dict[str, list[int]] = {"segment": [], "tag": []}
        duck.execute(_OPEN)

    def touch(self, touched: Touched, since: datetime) -> int:
        """Settle whose answers may have changed, and why: those that the batches name, and those

        whose future-dated facts came true in (``since``, now]. Return how many they are.
        """
        profiles = pa.table({"profile_no": pa.array(touched.profiles, pa.int64())})
        merged = pa.table({"profile_no": pa.array(touched.merged, pa.int64())})
        with (
            registered(self._duck, "incoming_touched", profiles),
            registered(self._duck, "incoming_merged", merged),
        ):
            self._duck.execute(_TOUCHED, {"since": since, "now": self._now})
        self._scope = None
        row: Any = self._duck.execute("SELECT count(*) FROM touched").fetchone()
        return int(row[0])

    def read_scope_nodes(self) -> list[int]:
        """Return the nodes of the profiles in scope."""
        rows = self._duck.execute(
            f"""SELECT DISTINCT node_id FROM {self._name("node_profiles")}
                 SEMI JOIN scope USING (profile_no)"""
        ).fetchall()
        return [row[0] for row in rows]

    def open_scope(
        self, dependencies: Collection[UnitName], crossings: Collection[str] = ()
    ) -> None:
        """Let ``scope`` be the touched profiles, those that ``dependencies`` changed, and those

        in ``crossings``.
        """
        asked = (frozenset(dependencies), frozenset(crossings))
        if asked == self._scope and not dependencies:
            return
        self._scope = asked
        self._duck.execute(
            _SCOPE,
            {
                "segments": [each.key for each in dependencies if each.kind == "segment"],
                "tags": [each.key for each in dependencies if each.kind == "tag"],
                "crossings": list(crossings),
            },
        )
        self._duck.execute(_SCOPE_PROFILES)
        row: Any = self._duck.execute("SELECT count(*) FROM scope").fetchone()
        self._scope_size = int(row[0])
        self._is_copied = False

    def _look_at(self, evaluation: Evaluation) -> bool:
        """Get ready for a unit; return whether there is anybody whose answer may change."""
        if evaluation.whole:
            self._is_copied = False
            self.apply_pending()
        elif self._scope_size and not self._is_copied:
            self._is_copied = self._facts.cover(self._scope_size, among=_EVERY_SCOPE)
            if not self._is_copied:
                self.apply_pending()
        return evaluation.whole or self._scope_size > 0

    def apply_pending(self) -> None:
        """Let the mirror be as the units so far have left it, for whoever reads it as a whole."""
        for kind, units in self._unapplied.items():
            if units:
                table, _, leave, enter = _KINDS[kind]
                self._apply(f"core.{table}", leave, enter, units)
                units.clear()

    def _apply(self, held: str, leave: str, enter: str, units: list[int]) -> None:
        self._duck.execute(leave.format(held=held), {"units": units})
        self._duck.execute(enter.format(held=held), {"units": units, "now": self._now})

    def evaluate_segment(self, evaluation: Evaluation) -> None:
        """Find who enters and who leaves, and apply it to the mirror."""
        if not self._look_at(evaluation):
            return
        definition = evaluation.definition
        self._find_members(definition.document, whole=evaluation.whole, consent=definition.consent)
        self._settle(evaluation)

    def empty_segment(self, evaluation: Evaluation) -> None:
        """Let everybody leave."""
        self._look_at(evaluation)
        self._duck.execute("CREATE OR REPLACE TEMP TABLE found (profile_no BIGINT)")
        self._settle(evaluation)

    def evaluate_tag(
        self, evaluation: Evaluation, manual: tuple[list[int], list[str], list[datetime]] | None
    ) -> None:
        """Find whose value changes, and apply it to the mirror.

        ``manual`` holds node ids, JSON values and times for a tag that is set by hand.
        """
        if not self._look_at(evaluation):
            return
        document = evaluation.definition.document
        if manual is not None:
            self._find_manual(manual)
        elif "aggregate" in document:
            self._find_aggregate(document["aggregate"], whole=evaluation.whole)
        else:
            self._find_cases(evaluation.definition, whole=evaluation.whole)
        self._settle(evaluation)

    def settle_values(self, evaluation: Evaluation, values: pa.Table) -> None:
        """Let ``values`` (profile_no, value) be everybody's, or those of the profiles in scope."""
        with registered(self._duck, "computed_values", values):
            self._duck.execute(
                """CREATE OR REPLACE TEMP TABLE found AS
                   SELECT profile_no, to_json(value)::JSON AS value
                     FROM computed_values WHERE value IS NOT NULL"""
            )
        if self._look_at(evaluation):
            self._settle(evaluation)

    def settle_texts(self, evaluation: Evaluation, values: pa.Table) -> None:
        """The same for values that are JSON text."""
        with registered(self._duck, "computed_values", values):
            self._duck.execute(
                """CREATE OR REPLACE TEMP TABLE found AS
                   SELECT profile_no, json(value)::JSON AS value FROM computed_values"""
            )
        if self._look_at(evaluation):
            self._settle(evaluation)

    def read_scope_profiles(self) -> list[int]:
        """Return the profiles in scope."""
        return [row[0] for row in self._duck.execute("SELECT profile_no FROM scope").fetchall()]

    def find_holders(self, document: Any, *, whole: bool) -> pa.Table:
        """Return the profiles (profile_no) for which a rule holds."""
        self._find_members(document, whole=whole)
        return fetch(self._duck, "SELECT profile_no FROM found ORDER BY profile_no")

    def empty_tag(self, evaluation: Evaluation) -> None:
        """Let everybody lose the tag."""
        self._look_at(evaluation)
        self._duck.execute("CREATE OR REPLACE TEMP TABLE found (profile_no BIGINT, value JSON)")
        self._settle(evaluation)

    def number_changes(self, base: int) -> tuple[pa.Table, pa.Table]:
        """Number everything that changed from ``base`` + 1 and record it in the mirror.

        Returns the changes of memberships and of tag values, as the ledger takes them.
        """
        self.apply_pending()
        memberships = self._fetch(_NUMBER_MEMBERSHIPS, base)
        tags = self._fetch(_NUMBER_TAGS, base + memberships.num_rows)
        if memberships.num_rows:
            with registered(self._duck, "numbered", memberships):
                self._duck.execute(_RECORD_MEMBERSHIPS)
        return memberships, tags

    def _fetch(self, query: str, base: int) -> pa.Table:
        return fetch(self._duck, query, {"base": base, "now": self._now})

    def _find_members(self, document: Any, *, whole: bool, consent: str | None = None) -> None:
        rule = self.read_rule(document)
        if consent is not None:
            rule = AllOf((rule, Consent(consent, True)))
        is_copied = self._is_copied and not whole
        compiled = compile_rule(rule, self._now, self._timezone, scope=not whole, copied=is_copied)
        self._facts.copy(compiled.copies)
        self._duck.execute(
            "CREATE OR REPLACE TEMP TABLE found AS "
            f"SELECT DISTINCT profile_no FROM ({compiled.sql})",
            compiled.params,
        )

    def _find_aggregate(self, document: Any, *, whole: bool) -> None:
        rule = parse_aggregate(document)
        is_copied = self._is_copied and not whole
        compiled = compile_aggregate(
            rule, self._now, self._timezone, scope=not whole, copied=is_copied
        )
        self._facts.copy(compiled.copies)
        self._duck.execute(
            f"""CREATE OR REPLACE TEMP TABLE found AS
                SELECT profile_no, value::JSON AS value FROM ({compiled.sql})
                 WHERE value IS NOT NULL""",
            compiled.params,
        )

    def _find_cases(self, definition: Definition, *, whole: bool) -> None:
        document = definition.document
        self._duck.execute(
            "CREATE OR REPLACE TEMP TABLE case_hits (profile_no BIGINT, ordinal INTEGER)"
        )
        for ordinal, case in enumerate(document["cases"]):
            self._find_members(case["when"], whole=whole)
            self._duck.execute("INSERT INTO case_hits SELECT profile_no, ? FROM found", [ordinal])
        values = pa.table(
            {
                "ordinal": pa.array(range(len(document["cases"])), pa.int32()),
                "value": pa.array(_write_values([c["then"] for c in document["cases"]])),
            }
        )
        with registered(self._duck, "case_values", values):
            self._duck.execute(_CASES)
        if document.get("else") is not None:
            in_scope = "" if whole else _IN_SCOPE.replace("h.profile_no", "p.profile_no")
            self._duck.execute(
                _ELSE.format(in_scope=in_scope, profiles=self._name("profiles")),
                {"value": json.dumps(document["else"])},
            )

    def _find_manual(self, manual: tuple[list[int], list[str], list[datetime]]) -> None:
        nodes, values, times = manual
        rows = pa.table(
            {
                "node_id": pa.array(nodes, pa.int64()),
                "value": pa.array(values, pa.string()),
                "at": pa.array(times, pa.timestamp("us", "UTC")),
            }
        )
        with registered(self._duck, "manual_values", rows):
            self._duck.execute(_MANUAL.format(owners=self._name("node_profiles")))

    def _name(self, table: str) -> str:
        """Return what a table of ``core`` is called, or its copy where that is looked at."""
        if not self._is_copied:
            return f"core.{table}"
        self._facts.copy([table])
        return f"scope_{table}"

    def _settle(self, evaluation: Evaluation) -> None:
        """Keep the difference between ``found`` and the mirror as changes, and apply them."""
        if self.before_settling is not None and evaluation.definition.kind == "tag":
            self.before_settling(evaluation)
        self._unit += 1
        definition = evaluation.definition
        table, diff, leave, enter = _KINDS[definition.kind]
        held = self._name(table)
        statement = diff.format(
            held=held,
            profiles=self._name("profiles"),
            in_scope="" if evaluation.whole else _IN_SCOPE,
            cause=_COPIED_CAUSE if self._is_copied else _CAUSE.format(gone=_GONE),
        )
        self._duck.execute(
            statement,
            {
                "unit": self._unit,
                "key": definition.key,
                "version": definition.version,
                "cause": evaluation.cause,
            },
        )
        # An INSERT answers with the number of its rows. Mostly nothing changed.
        if self._duck.fetchall() == [(0,)]:
            return
        self._apply(held, leave, enter, [self._unit])
        if self._is_copied:
            self._unapplied[definition.kind].append(self._unit)
        else:
            self._facts.forget(table)


def _write_values(values: Sequence[Any]) -> list[str | None]:
    return [None if value is None else json.dumps(value) for value in values]
