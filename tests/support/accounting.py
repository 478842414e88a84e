"""What every run of the program must leave behind: accounts that balance, and nothing under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

SETTLE_SECONDS = 60


def check_accounting(client: httpx.Client, seconds: float = SETTLE_SECONDS) -> None:
    """Fail when a minute of any source does not balance, or something stays in flight."""
    deadline = time.monotonic() + seconds
    sources = [row["id"] for row in _list(client, "/v1/sources")]
    waiting: list[dict[str, Any]] = []
    for source_id in sources:
        while True:
            rows = list(_list(client, f"/v1/sources/{source_id}/accounting"))
            unbalanced = [row for row in rows if not row["balanced"]]
            assert not unbalanced, f"{source_id} does not balance: {unbalanced}"
            for row in rows:
                outcomes = row["stored"] + row["duplicate"] + row["rejected"] + row["in_flight"]
                assert row["received"] == outcomes, row
            waiting = [row for row in rows if row["in_flight"]]
            if not waiting:
                break
            assert time.monotonic() < deadline, f"{source_id} stays in flight: {waiting}"
            time.sleep(0.1)


def _list(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": 1000}
    if path.endswith("accounting"):
        params["from"] = "2020-01-01T00:00:00Z"
    while True:
        answer = client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield from page["data"]
        if page["next"] is None:
            return
        params["cursor"] = page["next"]
