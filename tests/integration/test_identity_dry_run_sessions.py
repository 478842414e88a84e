"""A dry-run says whose shared devices would be by the other setting."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.identity.dry_run_store import DryRun, dry_run
from cdp.model import Identifier
from cdp.storage.database import Database, driver
from tests.support.device_uses import MINUTE, SESSIONS, see, take_any_day
from tests.support.identity_rows import make_store
from tests.support.identity_world import RULES, saw

A, B, C = "user_id:a", "user_id:b", "anonymous_id:c"


def _try(database: Database, rules: Any) -> DryRun:
    with database.snapshot() as connection:
        *_, last = dry_run(driver(connection), rules)
    return last


@pytest.mark.parametrize("was", ["anonymous", "last_authenticated"])
def test_the_other_setting_for_shared_devices_changes_whose_they_are(
    database: Database, was: str
) -> None:
    take_any_day(database)
    before, after = (RULES, SESSIONS) if was == "anonymous" else (SESSIONS, RULES)
    store = make_store(before)
    see(database, store, saw(f"{A} {C}", 0), saw(f"{B} {C}", 5), saw(C, 5 + MINUTE))
    see(database, store, saw(f"{A} {C}", 7, message="again"))
    told = _try(database, after)
    assert (told.devices, told.parting, told.joining) == (1, 0, 0)
    (example,) = told.device_examples
    pieces = {example.pieces_now, example.pieces_then}
    assert example.device == Identifier("anonymous_id", "c")
    assert pieces == {2, 5}
    assert _try(database, before).devices == 0
