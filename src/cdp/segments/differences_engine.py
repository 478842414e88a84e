"""What a refresh changes: where what was found differs from what is held.

Changes are kept as ``pending_*`` until they are numbered for the ledger. A unit that refers to
another must see that one's, so they are applied at once to what is looked at: to the mirror, or to
the copies of a few people, from which the mirror is brought up to date when it is next read.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from cdp.segments.mirror_engine import Duck, fetch
from cdp.segments.refresh_plan import Evaluation
from cdp.storage.registered_engine import registered

_OPEN = """
CREATE OR REPLACE TEMP TABLE pending_memberships (
    unit INTEGER, segment VARCHAR, profile_no BIGINT, profile_id VARCHAR, change VARCHAR,
    cause VARCHAR, version INTEGER, held_row BIGINT);
CREATE OR REPLACE TEMP TABLE pending_tags (
    unit INTEGER, key VARCHAR, profile_no BIGINT, profile_id VARCHAR, value JSON,
    cause VARCHAR, version INTEGER);
CREATE OR REPLACE TEMP TABLE found_members (unit INTEGER, profile_no BIGINT);
"""
# Why a profile's answer changed: it vanished (its naming node lives on in another profile, or was
# erased); a new definition; something about the profile; else what the whole evaluation is for.
_CAUSE = """
CASE WHEN {gone} AND EXISTS (
          FROM core.node_profiles m JOIN core.profiles heir ON heir.profile_no = m.profile_no
         WHERE m.node_id = c.profile_no AND m.since = '-infinity') THEN 'merge'
     WHEN {gone} THEN 'privacy'
     WHEN {whole} = 'definition' THEN 'definition'
     ELSE coalesce(s.cause, {whole}) END
"""
_GONE = "NOT EXISTS (FROM core.profiles p WHERE p.profile_no = c.profile_no)"
# The same of copied people, of whom it is known who is gone.
_COPIED_CAUSE = """
coalesce((SELECT g.cause FROM scope_gone g WHERE g.profile_no = c.profile_no),
         CASE WHEN {whole} = 'definition' THEN 'definition' END, s.cause, {whole})
"""
_IN_SCOPE = "AND EXISTS (FROM scope s WHERE s.profile_no = h.profile_no)"

# Of all ``asked`` (unit, key, version, cause) at once: to plan a statement takes longer than to ask
# it of a few people.
_DIFF_SEGMENTS = """
INSERT INTO pending_memberships
WITH held AS (SELECT a.unit, h.profile_no, h.profile_id, h.{row} AS held_row
                FROM {held} h JOIN asked a ON a.key = h.segment
               WHERE true {in_scope}),
changed AS (
    SELECT f.unit, f.profile_no, p.profile_id, 'entered' AS change, NULL AS held_row
      FROM found_members f JOIN {profiles} p ON p.profile_no = f.profile_no
     WHERE NOT EXISTS (FROM held h WHERE h.unit = f.unit AND h.profile_no = f.profile_no)
    UNION ALL
    SELECT h.unit, h.profile_no, h.profile_id, 'left', h.held_row FROM held h
     WHERE NOT EXISTS (
           FROM found_members f WHERE f.unit = h.unit AND f.profile_no = h.profile_no))
SELECT c.unit, a.key, c.profile_no, c.profile_id, c.change, {cause}, a.version, c.held_row
  FROM changed c JOIN asked a ON a.unit = c.unit
  LEFT JOIN scope_causes s ON s.profile_no = c.profile_no
"""
_LEAVE_SEGMENTS = """
DELETE FROM {held} AS m USING pending_memberships AS c
 WHERE list_contains($units, c.unit) AND c.change = 'left'
   AND m.segment = c.segment AND m.profile_no = c.profile_no
"""
# Rows keep their place as long as a transaction lasts, and are found there at once.
_LEAVE_ROWS = """
DELETE FROM {held} WHERE rowid IN (
       SELECT held_row FROM pending_memberships
        WHERE list_contains($units, unit) AND change = 'left')
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
# By kind of unit: its table, and how changes are applied to it and to its copy.
_KINDS = {
    "segment": ("memberships", _LEAVE_ROWS, _LEAVE_SEGMENTS, _ENTER_SEGMENTS),
    "tag": ("tag_values", _LEAVE_TAGS, _LEAVE_TAGS, _ENTER_TAGS),
}
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


class Differences:
    """The changes of one refresh."""

    def __init__(self, duck: Duck, now: datetime) -> None:
        """``duck`` is the single writer's cursor, inside its transaction."""
        self._duck = duck
        self._now = now
        self._unit = 0
        self._asked: list[tuple[int, Evaluation]] = []
        self._unapplied: dict[str, list[int]] = {"segment": [], "tag": []}
        duck.execute(_OPEN)

    def ask(self, evaluation: Evaluation) -> int:
        """Return the unit under which ``found_members`` is to hold whom a segment means."""
        self._unit += 1
        self._asked.append((self._unit, evaluation))
        return self._unit

    @property
    def has_asked(self) -> bool:
        """Whether there are segments to settle."""
        return bool(self._asked)

    def settle_segments(self, *, whole: bool, held: str, profiles: str, is_copied: bool) -> bool:
        """Keep where what was found of the segments asked differs from ``held``, and apply it.

        ``is_copied``: ``held`` and ``profiles`` are copies of those in scope. Return whether
        anything differed.
        """
        asked, self._asked = self._asked, []
        if not asked:
            return False
        rows = [
            {
                "unit": unit,
                "key": each.definition.key,
                "version": each.definition.version,
                "cause": each.cause,
            }
            for unit, each in asked
        ]
        statement = _DIFF_SEGMENTS.format(
            held=held,
            profiles=profiles,
            row="held_row" if is_copied else "rowid",
            in_scope="" if whole else _IN_SCOPE,
            cause=_write_cause("a.cause", is_copied=is_copied),
        )
        with registered(self._duck, "asked", pa.Table.from_pylist(rows)):
            self._duck.execute(statement)
            has_changed = self._has_inserted()
        self._duck.execute("TRUNCATE found_members")
        if has_changed:
            self._note_changed("segment", [unit for unit, _ in asked], held, is_copied)
        return has_changed

    def settle_tag(
        self, evaluation: Evaluation, *, held: str, profiles: str, is_copied: bool
    ) -> bool:
        """The same of one tag, of which ``found`` holds the values."""
        self._unit += 1
        definition = evaluation.definition
        statement = _DIFF_TAG.format(
            held=held,
            profiles=profiles,
            in_scope="" if evaluation.whole else _IN_SCOPE,
            cause=_write_cause("$cause", is_copied=is_copied),
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
        has_changed = self._has_inserted()
        if has_changed:
            self._note_changed("tag", [self._unit], held, is_copied)
        return has_changed

    def _has_inserted(self) -> bool:
        """An INSERT answers with the number of its rows. Mostly nothing changed."""
        return self._duck.fetchall() != [(0,)]

    def _note_changed(self, kind: str, units: list[int], held: str, is_copied: bool) -> None:
        _, leave, leave_copy, enter = _KINDS[kind]
        self._apply(held, leave_copy if is_copied else leave, enter, units)
        if is_copied:
            self._unapplied[kind] += units

    def apply_to_mirror(self) -> None:
        """Let the mirror be as the units so far have left it, for whoever reads it as a whole."""
        for kind, units in self._unapplied.items():
            if units:
                table, leave, _, enter = _KINDS[kind]
                self._apply(f"core.{table}", leave, enter, units)
                units.clear()

    def number(self, base: int) -> tuple[pa.Table, pa.Table]:
        """Number everything that changed from ``base`` + 1 and record it in the mirror.

        Returns the changes of memberships and of tag values, as the ledger takes them.
        """
        self.apply_to_mirror()
        memberships = self._fetch(_NUMBER_MEMBERSHIPS, base)
        tags = self._fetch(_NUMBER_TAGS, base + memberships.num_rows)
        if memberships.num_rows:
            with registered(self._duck, "numbered", memberships):
                self._duck.execute(_RECORD_MEMBERSHIPS)
        return memberships, tags

    def _apply(self, held: str, leave: str, enter: str, units: list[int]) -> None:
        self._duck.execute(leave.format(held=held), {"units": units})
        self._duck.execute(enter.format(held=held), {"units": units, "now": self._now})

    def _fetch(self, query: str, base: int) -> pa.Table:
        return fetch(self._duck, query, {"base": base, "now": self._now})


def _write_cause(whole: str, *, is_copied: bool) -> str:
    """Return the expression for a change's cause; ``whole`` is that of the whole evaluation."""
    cause = _COPIED_CAUSE if is_copied else _CAUSE
    return cause.format(gone=_GONE, whole=whole)
