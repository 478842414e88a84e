"""Beside the events: which node is whose, all orders, and the manifest that names every file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from cdp.archive import archive_store as store
from cdp.archive.archive_folder import ArchiveFolder, write_table
from cdp.archive.day_store import HEAD, read_maps
from cdp.archive.layout import (
    MANIFEST,
    NODE_PROFILES,
    NODE_PROFILES_SCHEMA,
    ORDERS,
    ORDERS_SCHEMA,
    VERSION,
    Part,
)
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver


def write_maps(database: Database, folder: ArchiveFolder, now: datetime) -> None:
    """Write the maps and the manifest anew, each as a whole, when there is an archive at all.

    Facts hang on nodes and people change, so whose a node is stands beside the days, not in them.
    """
    with database.transaction() as connection:
        days = store.list_days(driver(connection))
        parts = store.list_parts(driver(connection))
        head = driver(connection).execute(HEAD).fetchone()
    assert head is not None
    if not days and folder.read(MANIFEST) is None:
        return
    shown = [_show_day(one, parts) for one in days.values()]
    if _is_told(read_manifest(folder), shown, head[0]):
        return
    with read_maps(database.libpq_url) as (seq, node_profiles, orders):
        maps = {
            NODE_PROFILES: write_table(folder, NODE_PROFILES, node_profiles, NODE_PROFILES_SCHEMA),
            ORDERS: write_table(folder, ORDERS, orders, ORDERS_SCHEMA),
        }
    described = {
        path: {"sha256": file.sha256, "bytes": file.size, "version": seq}
        for path, file in maps.items()
    }
    manifest = {
        "layout": VERSION,
        "written_at": format_time(now),
        "maps": described,
        "days": shown,
    }
    with folder.create(MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def _is_told(manifest: dict[str, Any] | None, days: list[dict[str, Any]], seq: int) -> bool:
    if manifest is None or manifest["days"] != days:
        return False
    return all(one["version"] >= seq for one in manifest["maps"].values())


def _show_day(day: store.Day, parts: list[Part]) -> dict[str, Any]:
    mine: list[Part] = [part for part in parts if part.day == day.day]
    return {
        "date": day.day.isoformat(),
        "rows": day.rows,
        "archived_at": format_time(day.archived_at),
        "files": [
            {"path": one.path, "rows": one.rows, "bytes": one.bytes, "sha256": one.sha256}
            for one in mine
        ],
    }


def read_manifest(folder: ArchiveFolder) -> dict[str, Any] | None:
    """Return the manifest, or ``None`` when there is none yet."""
    raw = folder.read(MANIFEST)
    return None if raw is None else json.loads(raw)
