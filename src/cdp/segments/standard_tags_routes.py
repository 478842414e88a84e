"""Make the standard set of tags over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from cdp.access import audit_store
from cdp.runtime.clock import now
from cdp.segments import segments_store, tags_store
from cdp.segments.service import EVALUATION_PATIENCE, Segments, TagWriter
from cdp.segments.standard_tags import STANDARD_TAGS
from cdp.segments.tags import decide_type
from cdp.storage.database import driver


def add_standard_set(router: APIRouter, services: Segments) -> None:
    """Add ``POST /v1/tags/standard`` to ``router``."""

    @router.post("/v1/tags/standard")
    def create_standard_tags(caller: TagWriter) -> dict[str, Any]:
        """Make the built-in tags with default settings under their plain keys.

        Keys that exist are left as they are, whatever they mean.
        """
        created: list[str] = []
        skipped: list[str] = []
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            for each in STANDARD_TAGS:
                tag = tags_store.create_tag(
                    tx,
                    key=each.key,
                    name=each.name,
                    category=each.category,
                    type=decide_type(each.definition, "object"),
                    document=each.definition,
                    now=now(),
                )
                (skipped if tag is None else created).append(each.key)
                if tag is not None:
                    details = {"version": tag.version}
                    audit_store.record(tx, caller.actor, "tag_created", tag.key, details)
        if created:
            services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
        return {"created": created, "skipped": skipped}
