"""Finds twins in Postgres: nodes whose identifiers have one form. See ``twins``.

The table is kept from the first hashed or scoped identifier on; until then nobody pays for it. What
was there before is entered by ``fill_next``, piece by piece. Two workers that make two spellings
of one identifier at once meet in the row of their form, so the later one sees both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from psycopg.types.json import Jsonb

from cdp.identity.facts import LinkFact
from cdp.identity.rules import Rules
from cdp.identity.rules_store import count_generation, hold_rules
from cdp.identity.twins import Form, form_of, list_pairs
from cdp.model import Identifier
from cdp.storage.database import Driver

Pair = tuple[int, int]
"""Two nodes that are spellings of one identifier: the base and its variant."""

_PROGRESS = "identifier_forms"


def are_forms_kept(conn: Driver) -> bool:
    """Whether the workspace has had an identifier with another spelling."""
    row = conn.execute("SELECT 1 FROM workspace WHERE name = %s", (_PROGRESS,)).fetchone()
    return row is not None


def begin_forms(conn: Driver) -> None:
    """Keep forms from this transaction on. Waits until nobody makes nodes without doing so."""
    hold_rules(conn)
    if not are_forms_kept(conn):
        restart_filling(conn, begin=True)
        count_generation(conn)


def restart_filling(conn: Driver, *, begin: bool = False) -> None:
    """Look at all nodes of now again, if forms are kept: the rules may give them other forms."""
    conn.execute(
        """INSERT INTO workspace AS w (name, value)
           SELECT %(name)s, jsonb_build_object(
                      'done', 0, 'until', coalesce((SELECT max(node_id) FROM nodes), 0))
            WHERE %(begin)s OR EXISTS (SELECT FROM workspace WHERE name = %(name)s)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
        {"name": _PROGRESS, "begin": begin},
    )


def read_progress(conn: Driver) -> tuple[int, int]:
    """Return up to which node the forms of before are entered, and up to which they must be."""
    row = conn.execute("SELECT value FROM workspace WHERE name = %s", (_PROGRESS,)).fetchone()
    return (0, 0) if row is None else (int(row[0]["done"]), int(row[0]["until"]))


def write_progress(conn: Driver, done: int, until: int) -> None:
    """Keep how far the forms of before are entered."""
    conn.execute(
        "UPDATE workspace SET value = %s WHERE name = %s",
        (Jsonb({"done": done, "until": until}), _PROGRESS),
    )


def add_forms(conn: Driver, names: Mapping[int, Identifier], rules: Rules) -> list[Pair]:
    """Enter nodes under their forms; return the pairs of spellings that they make.

    In the order of the forms, so that workers wait for each other in one direction only.
    """
    entered: dict[Form, list[int]] = {}
    for node_id, identifier in names.items():
        form = form_of(identifier, rules)
        if form is not None:
            entered.setdefault(form, []).append(node_id)
    if not entered:
        return []
    rows = sorted(entered.items())
    found = conn.execute(
        """INSERT INTO identifier_forms AS f (type, form, node_ids)
           SELECT e.type, e.form, e.node_ids::bigint[]
             FROM unnest(%b::text[], %b::text[], %b::text[]) AS e (type, form, node_ids)
           ON CONFLICT (type, form) DO UPDATE
              SET node_ids = ARRAY(SELECT DISTINCT n FROM unnest(f.node_ids || excluded.node_ids)
                                       AS n ORDER BY n)
           RETURNING node_ids""",
        (
            [form.type for form, _ in rows],
            [form.form for form, _ in rows],
            ["{" + ",".join(map(str, node_ids)) + "}" for _, node_ids in rows],
        ),
    ).fetchall()
    groups = [row[0] for row in found if len(row[0]) > 1]
    if not groups:
        return []
    spelt = _read_names(conn, {node_id for group in groups for node_id in group})
    return [
        pair for group in groups for pair in list_pairs({n: spelt[n] for n in group if n in spelt})
    ]


def _read_names(conn: Driver, node_ids: Collection[int]) -> dict[int, Identifier]:
    rows = conn.execute(
        "SELECT node_id, type, value FROM nodes WHERE node_id = ANY(%b) AND variant = ''",
        (sorted(node_ids),),
    ).fetchall()
    return {row[0]: Identifier(row[1], row[2]) for row in rows}


def write_twins(conn: Driver, homes: Mapping[Pair, int]) -> list[LinkFact]:
    """Keep the facts that pairs are twins, each in its component; return them."""
    if not homes:
        return []
    rows = sorted((tuple(sorted(pair)), home) for pair, home in homes.items())
    written = conn.execute(
        """INSERT INTO links AS l (link_key, kind, node_ids, component_id, first_at,
                                   first_message_id, active_days)
           SELECT 'twin:' || t.a || ',' || t.b, 'twin', ARRAY[t.a, t.b], t.component_id,
                  (SELECT max(first_seen) FROM nodes WHERE node_id IN (t.a, t.b)), '', '{}'
             FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[]) AS t (a, b, component_id)
           ON CONFLICT (link_key) DO UPDATE SET link_key = excluded.link_key
           RETURNING link_id, node_ids, first_at""",
        ([a for (a, _), _ in rows], [b for (_, b), _ in rows], [home for _, home in rows]),
    ).fetchall()
    return [LinkFact(row[0], True, tuple(row[1]), row[2], "", (), "twin") for row in written]


def find_spelling(conn: Driver, asked: Identifier) -> Identifier | None:
    """Return what a name without its scope stands for, if that is one name."""
    rows = conn.execute(
        """SELECT n.type, n.value
             FROM identifier_forms f JOIN nodes n ON n.node_id = ANY(f.node_ids)
            WHERE f.type = %s AND f.form = %s AND n.type = f.type AND n.variant = ''""",
        tuple(asked),
    ).fetchall()
    return Identifier(rows[0][0], rows[0][1]) if len(rows) == 1 else None
