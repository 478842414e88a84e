"""An alias of somebody who is known already asks for two people in one: refused, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cdp.identity.rules import default_rules
from cdp.runtime.clock import format_time
from tests.support.identity_lab import Lab
from tests.support.postgres import PostgresServer
from tests.support.wire import RECEIVED_AT, track


@pytest.fixture(scope="module")
def lab(postgres_server: PostgresServer) -> Iterator[Lab]:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, default_rules("CN"), workers=1)
        yield lab
        lab.close()


def _alias(message: str, user: str, previous: str) -> dict[str, Any]:
    at = format_time(RECEIVED_AT - timedelta(hours=1))
    return {"type": "alias", "messageId": message, "timestamp": at, "userId": user,
            "previousId": previous}  # fmt: skip


def _see(name: str) -> dict[str, Any]:
    return track("In", f"in {name}", at=RECEIVED_AT - timedelta(hours=2), userId=name)


def _refused(lab: Lab, message: str) -> list[tuple[Any, ...]]:
    return lab.ask(
        """SELECT a.type, a.value, b.type, b.value, r.reason
             FROM refusals r JOIN nodes a ON a.node_id = r.node_a
             JOIN nodes b ON b.node_id = r.node_b JOIN links l ON l.link_id = r.link_id
            WHERE l.first_message_id = %s""",
        message,
    )


def test_an_alias_of_two_known_people_is_refused_with_its_reason(lab: Lab) -> None:
    lab.post_events([_see("a1"), _see("a2")])
    lab.settle()
    lab.post_events([_alias("al1", "a2", "a1")])
    lab.settle()
    assert _refused(lab, "al1") == [("user_id", "a1", "user_id", "a2", "unique_conflict")]
    home = lab.ask(
        "SELECT n.value FROM events e JOIN nodes n USING (node_id) WHERE e.message_id = 'al1'"
    )
    assert home == [("a2",)]
    assert lab.ask("SELECT count(*) FROM nodes WHERE type = 'anonymous_id'") == [(0,)]


def test_it_is_so_when_all_arrive_at_once(lab: Lab) -> None:
    lab.post_events([_alias("al2", "b2", "b1"), _see("b1"), _see("b2")])
    lab.settle()
    assert [row[4] for row in _refused(lab, "al2")] == ["unique_conflict"]


def test_an_alias_of_an_anonymous_visitor_joins_him(lab: Lab) -> None:
    lab.post_events([_alias("al3", "c2", "visitor")])
    lab.settle()
    assert _refused(lab, "al3") == []
    assert lab.ask("SELECT type FROM nodes WHERE value = 'visitor'") == [("anonymous_id",)]


def test_a_browser_may_not_even_ask(lab: Lab) -> None:
    lab.post_events([_see("d1"), _see("d2")])
    lab.post_events([_alias("al4", "d2", "d1")], kind="web")
    lab.settle()
    assert lab.ask("SELECT type FROM nodes WHERE value = 'd1' ORDER BY 1") == [
        ("anonymous_id",), ("user_id",)]  # fmt: skip
