"""Link facts in Postgres. Those that were seen only ever grow: an earlier first time, more days."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime

from psycopg.types.multirange import Multirange

from cdp.identity.facts import DayRange, LinkFact, LinkKind
from cdp.identity.sightings import LinkKey, LinkSighting
from cdp.storage.database import Driver
from cdp.storage.numbers import take_numbers

# Most links were seen on one day, and to read a multirange takes longer than all the rest.
_DAYS = """CASE WHEN active_days = datemultirange(daterange(
                         (first_at AT TIME ZONE 'UTC')::date,
                         (first_at AT TIME ZONE 'UTC')::date + 1))
                THEN NULL ELSE active_days END"""
_COLUMNS = f"link_id, link_key, node_ids, first_at, first_message_id, {_DAYS}, kind"


def read_links(conn: Driver, keys: Iterable[str]) -> dict[LinkKey, LinkFact]:
    """Return those links that exist, by (trusted, ascending node ids)."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM links WHERE link_key = ANY(%b)", (sorted(keys),)
    ).fetchall()
    return _by_key(_read_row(row) for row in rows)


def read_component_links(conn: Driver, component_ids: Iterable[int]) -> list[LinkFact]:
    """Return the links of components that still stand."""
    rows = conn.execute(
        f"""SELECT {_COLUMNS} FROM links
             WHERE component_id = ANY(%b) AND retracted_at IS NULL""",
        (sorted(component_ids),),
    ).fetchall()
    return [_read_row(row) for row in rows]


def read_links_for_replay(
    conn: Driver, component_ids: Iterable[int], contacts: Iterable[int]
) -> list[LinkFact]:
    """Return the links of components that still stand; days only for those that hold contacts,

    because the days of others decide nothing, and reading them costs as much as all the rest.
    """
    rows = conn.execute(
        """SELECT link_id, link_key, node_ids, first_at, first_message_id,
                  CASE WHEN node_ids && %b::bigint[] THEN active_days ELSE '{}' END, kind
             FROM links WHERE component_id = ANY(%b) AND retracted_at IS NULL""",
        (sorted(contacts), sorted(component_ids)),
    ).fetchall()
    return [_read_row(row) for row in rows]


def read_links_of(conn: Driver, node_ids: Iterable[int]) -> list[LinkFact]:
    """Return everything that was seen with some nodes, and their twins. Reads the whole table."""
    rows = conn.execute(
        f"""SELECT {_COLUMNS} FROM links
             WHERE node_ids && %b::bigint[] AND kind IN ('seen', 'twin')
               AND retracted_at IS NULL""",
        (sorted(node_ids),),
    ).fetchall()
    return [_read_row(row) for row in rows]


def read_some_links(conn: Driver, link_ids: Collection[int]) -> list[LinkFact]:
    """Return the links of these numbers."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM links WHERE link_id = ANY(%b)", (sorted(link_ids),)
    ).fetchall()
    return [_read_row(row) for row in rows]


def write_links(
    conn: Driver, sightings: Iterable[LinkSighting], components: Mapping[LinkKey, int]
) -> dict[LinkKey, LinkFact]:
    """Make links, or add what was seen to those that exist; return them as they are now.

    ``components`` says where a new link belongs. In the order of the keys, so that workers wait
    for each other in one direction only. Message ids compare by code point, as in Python.
    """
    rows = sorted(((seen.key, seen) for seen in sightings), key=lambda row: row[0])
    if not rows:
        return {}
    seen = [row[1] for row in rows]
    written = conn.execute(
        f"""INSERT INTO links AS l (link_key, kind, node_ids, component_id, first_at,
                                    first_message_id, first_source_number, active_days)
           SELECT s.link_key, 'seen', s.node_ids::bigint[], s.component_id, s.first_at,
                  s.message_id, s.source_number, s.days::datemultirange
             FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::timestamptz[], %b::text[],
                         %b::int[], %b::text[])
                  AS s (link_key, node_ids, component_id, first_at, message_id,
                        source_number, days)
           ON CONFLICT (link_key) DO UPDATE
              SET active_days = l.active_days + excluded.active_days,
                  (first_at, first_message_id, first_source_number) = (
                      SELECT f.* FROM (VALUES
                          (l.first_at, l.first_message_id, l.first_source_number),
                          (excluded.first_at, excluded.first_message_id,
                           excluded.first_source_number)) AS f (at, message_id, source_number)
                      ORDER BY f.at, f.message_id COLLATE "C" LIMIT 1)
           RETURNING {_COLUMNS}""",
        (
            [key for key, _ in rows],
            ["{" + ",".join(map(str, link.node_ids)) + "}" for link in seen],
            [components.get((link.trusted, link.node_ids), 0) for link in seen],
            [link.first_at for link in seen],
            [link.message_id for link in seen],
            [link.source_number for link in seen],
            [_days_text(link.days) for link in seen],
        ),
    ).fetchall()
    return _by_key(_read_row(row) for row in written)


def take_link_ids(conn: Driver, count: int) -> list[int]:
    """Return ``count`` numbers that no other link has."""
    return take_numbers(conn, "links", "link_id", count)


def relabel_links(conn: Driver, labels: Mapping[int, int]) -> None:
    """Move the links of absorbed components (old label → new label)."""
    moved = sorted(labels.items())
    conn.execute(
        """UPDATE links l SET component_id = m.new_id
             FROM unnest(%b::bigint[], %b::bigint[]) AS m (old_id, new_id)
            WHERE l.component_id = m.old_id""",
        ([old for old, _ in moved], [new for _, new in moved]),
    )


def _by_key(links: Iterable[LinkFact]) -> dict[LinkKey, LinkFact]:
    return {(link.trusted, link.node_ids): link for link in links}


def _read_row(
    row: tuple[int, str, list[int], datetime, str, Multirange[date] | None, LinkKind],
) -> LinkFact:
    trusted = row[6] != "seen" or row[1].startswith("1:")
    if row[5] is None:
        day = row[3].astimezone(UTC).toordinal()
        days: tuple[DayRange, ...] = ((day, day + 1),)
    else:
        days = _read_days(row[5])
    return LinkFact(row[0], trusted, tuple(row[2]), row[3], row[4], days, row[6])


def _read_days(days: Multirange[date]) -> tuple[DayRange, ...]:
    ranges = []
    for span in days:
        assert span.lower is not None
        assert span.upper is not None
        ranges.append((span.lower.toordinal(), span.upper.toordinal()))
    return tuple(ranges)


def _days_text(days: Iterable[int]) -> str:
    spans = [f"[{date.fromordinal(day)},{date.fromordinal(day + 1)})" for day in sorted(days)]
    return "{" + ",".join(spans) + "}"
