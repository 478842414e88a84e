"""Lists reach Postgres as the arrays they are, packed our way or psycopg's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cdp.storage.database import Database, driver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "bigint"),
        ([2**40, -1], "bigint"),
        (["安妮", "", 'a\\b"c,{}'], "text"),
        ([b"\x00\xff", b""], "bytea"),
        ([True, False], "bool"),
        ([NOON, NOON], "timestamptz"),
        ([1.5, -0.0], "float8"),
        ([], "text"),
        ([None, 5, None], "bigint"),
        ([None, None], "text"),
        ([[1, 2], [3, 4]], "bigint"),
    ],
)
def test_a_list_comes_back_as_it_went(database: Database, values: list[Any], kind: str) -> None:
    with database.transaction() as connection:
        row = driver(connection).execute(f"SELECT %b::{kind}[]", (values,)).fetchone()
    assert row is not None
    assert row[0] == values
