"""What a definition says of people: fills the temporary table ``found``.

Of a rule ``found`` holds profile_no, of a tag value (JSON) too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from cdp.segments.compile import Compiled, compile_aggregate, compile_rule
from cdp.segments.mirror_engine import Duck
from cdp.segments.parse import parse_aggregate
from cdp.segments.rules import AllOf, Consent, Rule
from cdp.segments.scope_engine import CopiedFacts
from cdp.segments.typed_events_engine import find_typed
from cdp.storage.registered_engine import registered

ReadRule = Callable[[Any], Rule]
"""From a stored rule document to its tree."""

Manual = tuple[list[int], list[str], list[datetime]]
"""What was set by hand: nodes, JSON values, times."""

_IN_SCOPE = "AND EXISTS (FROM scope s WHERE s.profile_no = p.profile_no)"

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


class Among(NamedTuple):
    """Of whom a definition is asked."""

    whole: bool
    """Of everybody, or of the profiles in ``scope``."""
    is_copied: bool
    """Whether facts are to be read from the copies of those in ``scope``."""
    is_exact: bool = False
    """Whether there are copies of nobody else, so that none is to be left out."""


class Findings:
    """Asks the definitions of one refresh."""

    def __init__(
        self,
        duck: Duck,
        facts: CopiedFacts,
        *,
        now: datetime,
        timezone: str,
        read_rule: ReadRule,
    ) -> None:
        """``duck`` is the single writer's cursor, inside its transaction."""
        self._duck = duck
        self._facts = facts
        self._now = now
        self._timezone = timezone
        self._read_rule = read_rule

    def find_nobody(self) -> None:
        """Let there be nobody in ``found``."""
        self._duck.execute("CREATE OR REPLACE TEMP TABLE found (profile_no BIGINT, value JSON)")

    def find_members(self, document: Any, among: Among) -> None:
        """Find those for whom a rule holds."""
        compiled = self._compile(compile_rule, self._read_rule(document), among)
        self._fill("SELECT DISTINCT profile_no FROM ({sql})", compiled)

    def add_members(
        self, unit: int, document: Any, among: Among, *, consent: str | None = None
    ) -> None:
        """Add those for whom a rule holds to ``found_members`` (unit, profile_no) instead; of those

        only who gave ``consent``, when there is.
        """
        rule = self._read_rule(document)
        if consent is not None:
            rule = AllOf((rule, Consent(consent, True)))
        compiled = self._compile(compile_rule, rule, among)
        self._facts.copy(compiled.copies)
        self._duck.execute(
            f"INSERT INTO found_members SELECT DISTINCT {unit}, profile_no FROM ({compiled.sql})",
            compiled.params,
        )

    def find_aggregate(self, document: Any, among: Among) -> None:
        """Find the figure that an aggregate has for each."""
        rule = parse_aggregate(document)
        compiled = self._compile(compile_aggregate, rule, among)
        self._fill(
            "SELECT profile_no, value::JSON AS value FROM ({sql}) WHERE value IS NOT NULL",
            compiled,
        )

    def find_cases(self, document: Any, among: Among, *, profiles: str) -> None:
        """Find the value of the first case that holds for each of the relation ``profiles``."""
        self._duck.execute(
            "CREATE OR REPLACE TEMP TABLE case_hits (profile_no BIGINT, ordinal INTEGER)"
        )
        for ordinal, case in enumerate(document["cases"]):
            self.find_members(case["when"], among)
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
            self._duck.execute(
                _ELSE.format(in_scope="" if among.whole else _IN_SCOPE, profiles=profiles),
                {"value": json.dumps(document["else"])},
            )

    def find_manual(self, manual: Manual, *, owners: str) -> None:
        """Find the newest of the values set by hand for whom the relation ``owners`` says."""
        nodes, values, times = manual
        rows = pa.table(
            {
                "node_id": pa.array(nodes, pa.int64()),
                "value": pa.array(values, pa.string()),
                "at": pa.array(times, pa.timestamp("us", "UTC")),
            }
        )
        with registered(self._duck, "manual_values", rows):
            self._duck.execute(_MANUAL.format(owners=owners))

    def take_values(self, values: pa.Table) -> None:
        """Take ``values`` (profile_no, value) as they are."""
        with registered(self._duck, "computed_values", values):
            self._duck.execute(
                """CREATE OR REPLACE TEMP TABLE found AS
                   SELECT profile_no, to_json(value)::JSON AS value
                     FROM computed_values WHERE value IS NOT NULL"""
            )

    def take_texts(self, values: pa.Table) -> None:
        """The same of values that are JSON text."""
        with registered(self._duck, "computed_values", values):
            self._duck.execute(
                """CREATE OR REPLACE TEMP TABLE found AS
                   SELECT profile_no, json(value)::JSON AS value FROM computed_values"""
            )

    def _compile(self, compiler: Callable[..., Compiled], rule: Any, among: Among) -> Compiled:
        return compiler(
            rule,
            self._now,
            self._timezone,
            scope=not (among.whole or among.is_exact),
            copied=among.is_copied,
            typed={} if among.is_copied else find_typed(self._duck),
        )

    def _fill(self, query: str, compiled: Compiled) -> None:
        self._facts.copy(compiled.copies)
        statement = query.format(sql=compiled.sql)
        self._duck.execute(f"CREATE OR REPLACE TEMP TABLE found AS {statement}", compiled.params)


def _write_values(values: Sequence[Any]) -> list[str | None]:
    return [None if value is None else json.dumps(value) for value in values]
