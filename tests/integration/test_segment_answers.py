"""What answers about segments tell a marketer: whom a preview shows, what a segment is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

EVERYBODY: dict[str, Any] = {"all": []}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def test_a_face_is_called_by_its_name_in_any_spelling_and_masked_without_pii(
    served: Served,
) -> None:
    ann, li, _ = (served.people.add(name) for name in ("ann", "li", "eve"))
    served.people.trait(ann, "First Name", "Ann")
    served.people.trait(ann, "lastName", "Lee")
    served.people.trait(ann, "plan", "pro")
    served.people.trait(li, "姓名", "李安")
    served.follow()

    def ask(client: Any) -> Any:
        return client.post("/v1/segments/preview", json={"rule": EVERYBODY}).json()["sample"]

    assert [face["name"] for face in ask(served.client)] == ["Ann Lee", "李安", None]
    assert ask(served.client)[0]["traits"] == {"First Name": "Ann", "lastName": "Lee"}
    masked = ask(served.client_with("segments:read"))
    assert [face["name"] for face in masked] == ["A***", "李***", None]
