"""Newcomers in Postgres: appended as they are. Nobody else can have, or wait for, these rows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime

from cdp.identity.facts import LinkFact
from cdp.identity.links_store import take_link_ids
from cdp.identity.newcomers import Newcomer
from cdp.identity.sightings import LinkKey, LinkSighting
from cdp.storage.copy_rows import (
    EARLIEST,
    LATEST,
    copy_rows,
    list_ranges,
    pack_bigints,
    pack_days,
    pack_text,
    pack_time,
)
from cdp.storage.database import Driver

_pack_span = struct.Struct("!hiqiqiqiq").pack
_pack_profile = struct.Struct("!hiq").pack
_pack_link = struct.Struct("!hiqiq").pack
_pack_count = struct.Struct("!h").pack
_pack_number = struct.Struct("!ii").pack
_pack_bigint = struct.Struct("!iq").pack
_SEEN = pack_text("seen")
# The first byte of jsonb is its version.
_CREATED = pack_text("created") + pack_text("\x01{}")


def write_newcomers(
    conn: Driver, people: Sequence[Newcomer], batch_id: int, now: datetime
) -> dict[LinkKey, LinkFact]:
    """Write the links and profiles of newcomers, whose nodes are written; return the links."""
    ordered = sorted(people, key=_number)
    links = _write_links(conn, [one.link for one in ordered if one.link is not None])
    copy_rows(
        conn,
        "node_profiles",
        "node_id, since, until, profile_no",
        (
            _pack_span(4, 8, node.node_id, 8, EARLIEST, 8, LATEST, 8, person.owner.node_id)
            for person in ordered
            for node in person.nodes
        ),
    )
    _write_profiles(conn, ordered, batch_id, now)
    return links


def _number(person: Newcomer) -> int:
    return person.nodes[0].node_id


def _write_profiles(conn: Driver, people: Iterable[Newcomer], batch_id: int, now: datetime) -> None:
    ids = [(one, pack_text(one.owner.profile_id)) for one in people]
    at = pack_time(now)
    copy_rows(
        conn,
        "profiles",
        "profile_no, profile_id, joined_at, changed_at",
        (
            _pack_profile(4, 8, one.owner.node_id) + profile_id + pack_time(one.joined_at) + at
            for one, profile_id in ids
        ),
    )
    end = _CREATED + _pack_bigint(8, batch_id) + at
    copy_rows(
        conn,
        "profile_changes",
        "profile_id, change, details, batch_id, at",
        (_pack_count(5) + profile_id + end for _, profile_id in ids),
    )


def _write_links(conn: Driver, links: Sequence[LinkSighting]) -> dict[LinkKey, LinkFact]:
    if not links:
        return {}
    numbers = take_link_ids(conn, len(links))
    facts = {
        (link.trusted, link.node_ids): LinkFact(
            link_id, link.trusted, link.node_ids, link.first_at, link.message_id,
            list_ranges(link.days),
        )
        for link_id, link in zip(numbers, links, strict=True)
    }  # fmt: skip
    copy_rows(
        conn,
        "links",
        "link_id, component_id, link_key, kind, node_ids, first_at, first_message_id,"
        " first_source_number, active_days",
        (_pack_row(link, fact) for link, fact in zip(links, facts.values(), strict=True)),
    )
    return facts


def _pack_row(link: LinkSighting, fact: LinkFact) -> bytes:
    return b"".join(
        (
            _pack_link(9, 8, fact.link_id, 8, fact.node_ids[0]),
            pack_text(link.key),
            _SEEN,
            pack_bigints(fact.node_ids),
            pack_time(fact.first_at),
            pack_text(fact.first_message_id),
            _pack_number(4, link.source_number),
            pack_days(fact.active_days),
        )
    )
