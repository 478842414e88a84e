"""A world of privacy whose events were received days ago, and its archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.archived_events import ArchivedEvents
from cdp.archive.archiver import Archiver, Ran
from cdp.archive.erase_archived import Note, erase_archived
from cdp.kept_facts import keep_facts
from cdp.privacy.people_store import Slice
from cdp.storage.database import Database
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import append_events

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def days_ago(days: float) -> datetime:
    """A moment of the past."""
    return TODAY - timedelta(days=days)


class ArchiveWorld(PrivacyWorld):
    """Events may be received on any day; the archive is a folder of its own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder_of_archive = ArchiveFolder(folder / "archive")
        self.archived = ArchivedEvents(self.folder_of_archive)
        super().__init__(database, folder)

    def erase_archived(  # type: ignore[override]
        self, nodes: Sequence[int], slices: Sequence[Slice], note: Note
    ) -> bool:
        """Remove people from the archive."""
        return erase_archived(
            self.database, self.folder_of_archive, nodes, slices, note, datetime.now(UTC)
        )

    def receive(self, events: Iterable[dict[str, Any]], *, days: float) -> None:
        """Have ``events`` received some days ago, and worked off."""
        self._requests += 1
        append_events(
            self.log,
            self.source_id,
            events,
            received_at=days_ago(days),
            request_id=f"old_{self._requests}",
        )
        self.work()

    def archiver(self, *, keep_days: int = 0) -> Archiver:
        """What archives; unless ``keep_days`` says so, nothing is dropped from Postgres."""
        return Archiver(
            self.database, self.folder_of_archive, 2, keep_days, keep_facts, lambda: TODAY
        )

    def archive(self, *, keep_days: int = 0) -> Ran:
        """Archive what is due."""
        return self.archiver(keep_days=keep_days).run()

    def list_files(self) -> list[Path]:
        """The files of events that any reader of the folder sees."""
        return sorted((self.folder / "archive").glob("events/date=*/[!_.]*.parquet"))
