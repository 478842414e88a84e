"""A device that becomes shared in the batch that parts its component goes with its own people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cdp.identity.rules import default_rules
from tests.support.identity_lab import BEGINNING, Lab
from tests.support.postgres import PostgresServer
from tests.support.wire import track

_FEW_HOT = default_rules("CN").model_copy(update={"hot_limit": 2})


def _seen(day: int, user_id: str, anonymous_id: str, **traits: str) -> dict[str, Any]:
    return track(
        "Seen", f"m{day}", at=BEGINNING + timedelta(days=day), userId=user_id,
        anonymousId=anonymous_id, context={"traits": traits},
    )  # fmt: skip


def test_what_comes_next_of_the_device_is_no_fault_of_the_data(
    postgres_server: PostgresServer,
) -> None:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, _FEW_HOT, workers=1)
        try:
            lab.post_events([_seen(1, "c", "till")])
            lab.settle()
            # The till is hot by now, and the other device has two people.
            lab.post_events(
                [_seen(2, "a", "till"), _seen(3, "b", "till"), _seen(4, "a", "d"),
                 _seen(5, "b", "d")]
            )  # fmt: skip
            lab.settle()
            lab.post_events([_seen(6, "a", "d", email="e@x.cn")])
            lab.settle()
            assert lab.ask("SELECT count(*) FROM events") == [(6,)]
            assert lab.ask(
                """SELECT count(DISTINCT component_id) FROM nodes
                    WHERE type = 'anonymous_id' AND value = 'd'"""
            ) == [(1,)]
        finally:
            lab.close()
