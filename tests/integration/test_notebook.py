"""The notebook in ``examples`` does against the application what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics import catalogue, routes
from cdp.runtime.clock import now
from cdp.settings import Settings
from cdp.storage.database import Database
from tests.support.segments import Served, make_token, serve_segments

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "segments.ipynb"
SCOPES = ("segments:read", "segments:write", "sql:read", "pii:read")


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        router = routes.create_router(found.engine, Settings())
        found.app.include_router(router)
        found.app.add_middleware(
            Guard, routes=read_requirements([router]), tokens=TokenDirectory(database)
        )
        yield found


def test_the_notebook_runs_as_it_stands_and_is_kept_without_answers(
    served: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    for event in ("Order Completed", "page"):
        served.people.event(ann, event, now() - timedelta(hours=1))
    served.people.event(bob, "page", now() - timedelta(hours=1))
    served.people.trait(ann, "plan", "pro", now() - timedelta(hours=1))
    with served.engine.write() as duck:
        catalogue.create_event_views(duck, {"page": {}}, {"page"})
    served.follow()
    token = make_token(database, *SCOPES)["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("CDP_TOKEN", token)

    def client(base_url: str, timeout: float) -> httpx.Client:
        assert base_url.startswith("http")
        return TestClient(served.app)

    monkeypatch.setattr(httpx, "Client", client)
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)

    assert names["preview"]["count"] == 1
    assert names["members"]["user_id"].tolist() == ["ann"]
    assert names["members"]["traits.plan"].tolist() == ["pro"]
    assert names["by_member"]["events"].tolist() == [2]
    assert names["moves"]["change"].tolist() == ["entered"]
    assert names["cursor"]
    assert {"name", "description", "columns"} <= set(names["tables"][0])
