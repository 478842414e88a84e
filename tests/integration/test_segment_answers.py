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


def test_a_segment_names_the_tags_that_it_uses_by_their_keys(served: Served) -> None:
    for key in ("tier", "tier.old"):
        body = {"key": key, "type": "object", "definition": {"manual": True}}
        assert served.client.post("/v1/tags", json=body).status_code == 201
    rule = {
        "any": [
            {"tag": "tier.old.level", "op": "exists"},
            {"tag": "tier.level", "op": "eq", "value": "gold"},
        ]
    }

    made = served.client.post("/v1/segments", json={"key": "s", "rule": rule}).json()

    assert made["uses"] == [{"kind": "tag", "key": "tier"}, {"kind": "tag", "key": "tier.old"}]
    assert served.client.get("/v1/segments/s").json()["uses"] == made["uses"]
    assert served.client.get("/v1/segments").json()["data"][0]["uses"] == made["uses"]
