"""The routes of imports: what is refused before anything is kept, dry runs, cancelling, lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cdp.errors import Unavailable
from cdp.ingest import sources_store
from cdp.ingest.imports import progress_store
from cdp.ingest.imports.runner import ImportRunner
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.import_desk import ImportDesk, run_desk

WIRE = b'{"type":"track","event":"E","userId":"u"}\n'
LIMIT = 100_000


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[ImportDesk]:
    with run_desk(database, tmp_path, Settings(max_import_bytes=LIMIT)) as running:
        yield running


def kept(desk: ImportDesk) -> list[str]:
    folder = desk.uploads.folder
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_mistakes_in_the_form_are_named_and_nothing_is_kept(desk: ImportDesk) -> None:
    csv = b"a,b\n1,2\n"
    web, off = desk.add_source("web"), desk.add_source()
    with desk.database.transaction() as connection:
        sources_store.patch_source(driver(connection), off.source_id, disabled=True)
    desk.directory.refresh()
    cases: list[tuple[httpx.Response, int, str, str | None]] = [
        (desk.post(WIRE, None), 422, "invalid_kind", "/kind"),
        (desk.post(WIRE, "people"), 422, "invalid_kind", "/kind"),
        (desk.post(None, "events"), 422, "missing", "/file"),
        (desk.post(b"", "events"), 422, "unreadable_file", "/file"),
        (desk.post(WIRE, colour="red"), 422, "unknown_field", "/colour"),
        (desk.post(WIRE, source="src_none"), 422, "unknown_source", "/source"),
        (desk.post(WIRE, "orders", source=web.source_id), 403, "public_source", None),
        (desk.post(WIRE, source=off.source_id), 409, "source_disabled", None),
        (desk.post(csv, mapping={"columns": {"c": "userId"}}), 422, "unknown_column",
         "/mapping/columns/c"),
        (desk.post(csv, mapping={"columns": {"a": "userid"}}), 422, "invalid_target",
         "/mapping/columns/a"),
        (desk.post(WIRE, preset="till"), 422, "unknown_preset", "/mapping/preset"),
        (desk.post(WIRE, preset="pos-receipts"), 422, "unknown_preset", "/mapping/preset"),
        (desk.post(WIRE, dry_run="perhaps"), 422, "invalid_field", "/dry_run"),
        (desk.post(WIRE, digest="00"), 409, "file_changed", None),
        (desk.post(b"x" * (LIMIT + 1)), 413, "file_too_large", None),
        (desk.client.post("/v1/imports", json={}), 400, "not_multipart", None),
        (desk.client.post("/v1/imports", content=b"--x\r\n",
                          headers={"Content-Type": "multipart/form-data; boundary=x"}),
         400, "invalid_multipart", None),
    ]  # fmt: skip
    for answer, status, code, path in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.json()["details"].get("path") == path, answer.text
    assert kept(desk) == []
    assert desk.query("SELECT count(*) FROM imports") == [(0,)]


def test_the_scope_is_asked_before_the_body_is_read(desk: ImportDesk) -> None:
    answer = desk.client.post(
        "/v1/imports", content=b"nonsense", headers=desk.make_token("pii:read")
    )

    assert (answer.status_code, answer.json()["details"]) == (403, {"missing": ["sources:write"]})


def test_a_mapping_may_come_as_a_file_and_fields_after_the_file(desk: ImportDesk) -> None:
    form = {
        "file": ("表.csv", "编号,城市\n7,上海\n".encode()),
        "mapping": ("m.json", json.dumps({"columns": {"编号": "userId"}})),
        "kind": (None, "profiles"),
    }
    answer = desk.client.post("/v1/imports", files=form)
    desk.run_all()

    done = desk.show(answer.json()["id"])
    assert (done["status"], done["file"]["name"]) == ("done", "表.csv")
    assert ("城市", "上海") in desk.query("SELECT name, value FROM traits")


def test_a_dry_run_shows_rows_and_mistakes_and_writes_nothing(desk: ImportDesk) -> None:
    csv = b"id,at,city\n1,2026-03-01,Rome\n2,soon,Bonn\n,2026-03-01,Ulm\n"
    mapping = {"columns": {"id": "userId", "at": {"to": "timestamp", "type": "time"}}}

    seen = desk.post(csv, "profiles", mapping, dry_run="true")

    assert seen.status_code == 200
    found = seen.json()
    assert (found["checked"], found["accepted"], found["rejected"]) == (3, 1, 2)
    assert json.loads(found["rows"][0]["becomes"])["traits"] == {"city": "Rome"}
    assert [(m["row"], m["code"]) for m in found["mistakes"]] == [
        (2, "invalid_value"), (3, "no_identifier"),
    ]  # fmt: skip
    assert kept(desk) == []
    for table in ("imports", "sources"):
        assert desk.query(f"SELECT count(*) FROM {table}") == [(0,)]
    assert sum(desk.log.end_positions().values()) == 0


def test_without_the_right_to_personal_values_they_are_masked(desk: ImportDesk) -> None:
    csv = "手机,到店\n13800138000,昨天\n13900139000,2026-03-01\n".encode()
    mapping = {
        "columns": {"手机": "identifiers.phone", "到店": {"to": "timestamp", "type": "time"}}
    }
    desk.client.headers.update(desk.make_token("sources:write"))

    shown = desk.post(csv, "profiles", mapping, dry_run="true").text
    done = desk.import_file(csv, "profiles", mapping)

    assert done["rejected"] == 1
    assert "138001" not in shown + json.dumps(desk.rejected(done["id"]))
    assert "139001" not in shown


def test_a_known_digest_needs_no_upload(desk: ImportDesk) -> None:
    digest = hashlib.sha256(WIRE).hexdigest()
    asked = desk.post(None, mapping={}, digest=digest)
    done = desk.import_file(WIRE, mapping={})

    again = desk.post(None, mapping={}, digest=f"sha256:{digest}")

    assert (asked.status_code, asked.json()["code"]) == (404, "upload_needed")
    assert (again.status_code, again.json()["id"]) == (202, done["id"])
    assert again.json()["existing"] is True


def test_a_cancelled_import_stops_and_goes_on_when_it_is_asked_for_again(desk: ImportDesk) -> None:
    import_id = desk.post(WIRE).json()["id"]
    cancelled = desk.client.post(f"/v1/imports/{import_id}/cancel").json()

    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    assert not desk.runner.run_next()
    assert desk.post(WIRE).json()["id"] == import_id
    desk.run_all()
    assert desk.show(import_id)["status"] == "done"
    assert desk.client.post(f"/v1/imports/{import_id}/cancel").json()["status"] == "done"


def test_a_deleted_import_keeps_no_file(desk: ImportDesk) -> None:
    import_id = desk.post(WIRE).json()["id"]

    assert kept(desk) == [import_id]
    assert desk.client.delete(f"/v1/imports/{import_id}").status_code == 204
    assert kept(desk) == []
    assert desk.client.delete("/v1/imports/imp_none").status_code == 404


def test_imports_are_listed_newest_first_in_pages(desk: ImportDesk) -> None:
    made = [desk.post(WIRE * n).json()["id"] for n in (1, 2, 3)]

    first = desk.client.get("/v1/imports", params={"limit": 2}).json()
    rest = desk.client.get("/v1/imports", params={"cursor": first["next"]}).json()
    queued = desk.client.get("/v1/imports", params={"status": "queued"}).json()

    assert [row["id"] for row in first["data"] + rest["data"]] == made[::-1]
    assert rest["next"] is None
    assert len(queued["data"]) == 3
    assert desk.client.get("/v1/imports/imp_none").status_code == 404


def test_refused_rows_come_in_pages_and_the_file_goes_after_its_retention(
    desk: ImportDesk,
) -> None:
    done = desk.import_file(WIRE + b"{}\n" * 3)
    path = f"/v1/imports/{done['id']}/rejected"

    first = desk.client.get(path, params={"limit": 2}).json()
    rest = desk.client.get(path, params={"limit": 2, "cursor": first["next"]}).json()

    assert [row["row"] for row in first["data"] + rest["data"]] == [2, 3, 4]
    desk.runner.remove_old()
    assert kept(desk) == [done["id"]]
    _keep_for(desk.runner, timedelta(0))
    desk.runner.remove_old()
    assert kept(desk) == []
    assert desk.rejected(done["id"]) == []


def _keep_for(runner: ImportRunner, retention: timedelta) -> None:
    runner._retention = retention


def test_too_old_a_file_is_not_sent_again_because_it_would_count_twice(desk: ImportDesk) -> None:
    desk.import_file(WIRE)
    _age(desk)

    again = desk.post(WIRE, again="true")

    assert (again.status_code, again.json()["code"]) == (409, "too_late_to_repeat")


def _age(desk: ImportDesk) -> None:
    with desk.database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE imports SET updated_at = updated_at - interval '30 days'"
        )


class PatchyLog:
    """A log that is away for the first appends."""

    def __init__(self, log: Any, times: int) -> None:
        self._log, self._left = log, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, records: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            raise Unavailable("log_unavailable", "away", retry_after=1)
        return self._log.append(records)


def test_an_import_waits_while_the_log_is_away(desk: ImportDesk) -> None:
    import_id = desk.post(WIRE).json()["id"]

    desk.make_runner(PatchyLog(desk.log, 2)).run_next()

    assert desk.show(import_id)["status"] == "done"


def test_an_import_of_which_nothing_is_taken_is_given_up(desk: ImportDesk) -> None:
    done = desk.import_file(b"{}\n" * 12_500)

    assert (done["status"], done["error"]["code"]) == ("failed", "nothing_fits")
    assert done["rejected"] < 12_500


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_broken_connection_neither_loses_nor_doubles_a_checkpoint(
    desk: ImportDesk, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    write, calls = progress_store.write_checkpoint, []

    def break_once(connection: Any, *arguments: Any) -> bool:
        calls.append(arguments)
        if len(calls) > 1:
            return write(connection, *arguments)
        if is_committed:
            with desk.database.transaction() as own:
                write(driver(own), *arguments)
        raise psycopg.OperationalError("the connection is gone")

    monkeypatch.setattr(progress_store, "write_checkpoint", break_once)
    done = desk.import_file(WIRE * 3 + b"{}\n")

    assert (done["status"], done["rows"]) == ("done", 4)
    assert (done["accepted"], done["rejected"]) == (3, 1)
    assert len(calls) == 2
