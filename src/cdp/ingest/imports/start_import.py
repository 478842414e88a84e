"""Decide what becomes of an upload: a new import, an earlier one, one that goes on, a dry run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from cdp.access import audit_store
from cdp.access.scopes import Caller
from cdp.errors import Conflict, Forbidden, NotFound
from cdp.ingest import sources_store
from cdp.ingest.imports import imports_store as store
from cdp.ingest.imports.imports_store import Import
from cdp.ingest.imports.mapping import digest_mapping
from cdp.ingest.imports.open_file import open_file
from cdp.ingest.imports.prepare import Origin
from cdp.ingest.imports.preview import preview_import
from cdp.ingest.imports.read_form import Order, refuse
from cdp.ingest.imports.receive_upload import Upload
from cdp.ingest.imports.run_import import cut_file
from cdp.ingest.imports.runner import ImportRunner
from cdp.ingest.imports.targets import Kind
from cdp.ingest.source_directory import SourceDirectory
from cdp.model import Source
from cdp.runtime.clock import format_time, now
from cdp.storage.database import Database, Driver, driver

DEFAULT_SOURCE = "Imports"
_SOURCE_LOCK = "SELECT pg_advisory_xact_lock(7263545, 0)"


@dataclass(frozen=True, slots=True)
class Started:
    """What an upload led to."""

    found: Import
    is_new: bool


class Imports:
    """Starts imports. Thread-safe; blocks."""

    def __init__(
        self,
        database: Database,
        directory: SourceDirectory,
        runner: ImportRunner,
        *,
        dedup_days: int,
    ) -> None:
        self.runner = runner
        self._database = database
        self._directory = directory
        self._dedup = timedelta(days=dedup_days)

    def preview(self, order: Order, upload: Upload, caller: Caller) -> dict[str, Any]:
        """Return what an import would do; nothing is written, no source is made."""
        if upload.file is None:
            refuse("missing", "send the file as the part `file`", "/file")
        source = self._find_source(order.source_id, order.kind)
        origin = Origin(upload.file.digest, digest_mapping(order.document), format_time(now()))
        return preview_import(
            upload.file.path,
            order.mapping,
            order.kind,
            source or Source("", 0, DEFAULT_SOURCE, "server"),
            self.runner.door,
            origin,
            self.runner.defaults,
            may_be_cut=order.is_partial,
            sees_personal=caller.sees_personal,
        )

    def start(self, import_id: str, order: Order, upload: Upload, caller: Caller) -> Started:
        """Queue the import, or go on with the same one; keeps the upload when it is needed.

        Raises ``NotFound`` (``upload_needed``) when there is neither file nor import,
        ``Conflict`` when the file changed on the way or came too late to be recognised.
        """
        digest = self._check_digest(order, upload)
        source = self._find_source(order.source_id, order.kind)
        if source is None:
            source = self._make_source(caller)
        fingerprint = make_fingerprint(digest, order, source.source_id)
        with self._database.transaction() as connection:
            tx = driver(connection)
            store.lock_fingerprint(tx, fingerprint)
            same = store.find_same(tx, fingerprint)
            if same is not None and not (order.again and same.status == "done"):
                resumed = self._go_on(tx, same, upload, caller)
                if resumed is not None:
                    return resumed
            if upload.file is None:
                raise NotFound("upload_needed", "the file is not here; send it as the part `file`")
            self._expect_recognisable(tx, digest, order.kind, source.source_id)
            format = self._look_into(order, upload)
            # The file is there before its row is: a row without a file would wait for ever.
            upload.file.keep()
            added = store.add_import(
                tx,
                import_id=import_id,
                source_id=source.source_id,
                kind=order.kind,
                mapping=order.document,
                fingerprint=fingerprint,
                digest=digest,
                file_name=upload.file_name,
                size=upload.file.size,
                format=format,
                created_by=caller.actor,
                said_at=None if same is None else same.said_at,
            )
            details = {"kind": order.kind, "source_id": source.source_id, "size": added.size}
            audit_store.record(tx, caller.actor, "import_created", import_id, details)
        self.runner.wake()
        return Started(added, is_new=True)

    def cancel(self, import_id: str, caller: Caller) -> Import:
        """End an import by hand; what it has taken stays."""
        with self._database.transaction() as connection:
            tx = driver(connection)
            before = store.find_import(tx, import_id)
            found = store.cancel_import(tx, import_id)
            if before.status != found.status:
                details = {"rows": found.rows}
                audit_store.record(tx, caller.actor, "import_cancelled", import_id, details)
        return found

    @staticmethod
    def _check_digest(order: Order, upload: Upload) -> str:
        if upload.file is None:
            if order.digest is None:
                refuse("missing", "send the file as the part `file`", "/file")
            return order.digest
        if order.digest is not None and order.digest != upload.file.digest:
            raise Conflict(
                "file_changed",
                "what arrived is not the file whose digest was said; it changed while it was read",
                details={"digest": upload.file.digest},
            )
        return upload.file.digest

    def _go_on(self, tx: Driver, same: Import, upload: Upload, caller: Caller) -> Started | None:
        """Return the earlier import as it is, or queued again when it had failed.

        ``None`` when it must begin anew, because its file is gone or it never had an effect.
        """
        if same.status != "failed":
            if same.status != "done" and upload.file is not None:
                self._bring_file(same, upload)
            return Started(same, is_new=False)
        if upload.file is not None:
            self._bring_file(same, upload)
        elif not self.runner.uploads.holds(same.import_id):
            return None
        queued = store.queue_again(tx, same.import_id)
        audit_store.record(tx, caller.actor, "import_resumed", same.import_id, {"rows": same.rows})
        self.runner.wake()
        return Started(queued, is_new=False)

    def _bring_file(self, same: Import, upload: Upload) -> None:
        """Give an import its file again when it is not here."""
        if upload.file is not None and not self.runner.uploads.holds(same.import_id):
            upload.file.keep_as(self.runner.uploads.path(same.import_id))

    def _expect_recognisable(self, tx: Driver, digest: str, kind: Kind, source_id: str) -> None:
        """Raise ``Conflict`` when rows of this file are so old that they would count twice."""
        if kind in ("orders", "accounts"):
            return
        ended = store.find_last_end(tx, digest, kind, source_id)
        if ended is not None and ended < now() - self._dedup:
            raise Conflict(
                "too_late_to_repeat",
                f"this file was imported {format_time(ended)}; a repeated message is recognised for"
                f" {self._dedup.days} days, so its rows would count twice",
            )

    def _look_into(self, order: Order, upload: Upload) -> str:
        """Return the file's format; raises ``Unprocessable`` when the mapping does not fit it."""
        assert upload.file is not None
        file = open_file(upload.file.path, order.mapping)
        try:
            origin = Origin("", "", "")
            cut_file(file, order.mapping, order.kind, origin, self.runner.defaults, 0)
            return file.format
        finally:
            file.close()

    def _find_source(self, source_id: str | None, kind: Kind) -> Source | None:
        """Return the source that is asked for, else the default one if it exists."""
        if source_id is None:
            with self._database.transaction() as connection:
                return _find_default(driver(connection))
        source = self._directory.by_id(source_id)
        if source is None:
            refuse("unknown_source", f"there is no source {source_id[:100]!r}", "/source")
        if self._directory.recall(source_id)[1]:
            raise Conflict("source_disabled", "the source is disabled; enable it first")
        if source.is_public and kind in ("orders", "accounts"):
            raise Forbidden(
                "public_source", f"{kind} cannot come from a source of type {source.type}"
            )
        return source

    def _make_source(self, caller: Caller) -> Source:
        with self._database.transaction() as connection:
            tx = driver(connection)
            tx.execute(_SOURCE_LOCK)
            source = _find_default(tx)
            if source is None:
                source, _ = sources_store.create_source(tx, DEFAULT_SOURCE, "server", {})
                details = {"name": DEFAULT_SOURCE, "type": "server"}
                audit_store.record(tx, caller.actor, "source_created", source.source_id, details)
        self._directory.refresh()
        return source


def _find_default(tx: Driver) -> Source | None:
    row = tx.execute(
        """SELECT source_id, number, name, type, settings FROM sources
            WHERE name = %s AND type = 'server' ORDER BY created_at, source_id LIMIT 1""",
        (DEFAULT_SOURCE,),
    ).fetchone()
    return None if row is None else Source(*row)


def make_fingerprint(digest: str, order: Order, source_id: str) -> str:
    """Return what tells this import from others: file, kind, mapping, source. Pure."""
    parts = (digest, order.kind, digest_mapping(order.document), source_id)
    return blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=20).hexdigest()
