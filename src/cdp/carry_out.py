"""★ What privacy was asked, carried out step by step; every step is written down before the next.

    delete:  erase ─► sweep ─► scrub ─► done
             people    copies   bytes
                       that know
                       no people

A deletion is visible to everybody when ``erase`` has committed. ``sweep`` and ``scrub`` serve all
deletions that are so far at once. Killed anywhere, the next process goes on with the same step:
each may be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from socket import gethostname
from typing import Any, Protocol

from cdp.activation.deliveries_store import forget_people_everywhere
from cdp.activation.forget_in_folder import forget_in_folder
from cdp.activation.send import find_folder
from cdp.archive.erase_archived import Gone, Note
from cdp.erase_people import erase
from cdp.identity.rules_store import hold_rules
from cdp.model import Identifier
from cdp.outage import name_error
from cdp.privacy import again_store as again
from cdp.privacy import jobs_store as jobs
from cdp.privacy.archives_folder import Archives
from cdp.privacy.copies_store import remove_copies
from cdp.privacy.import_files import remove_ended
from cdp.privacy.jobs_store import Job
from cdp.privacy.log_copies import blank_log
from cdp.privacy.people_store import Slice, find_person, list_names
from cdp.privacy.scrub_store import Busy
from cdp.privacy.traces_store import drop_traces, keep_traces, read_traces
from cdp.runtime.clock import format_time
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.settings import Settings
from cdp.storage.database import Database, Driver, driver
from cdp.storage.tombstones_store import ensure_privacy_salt, hash_identifier, let_speak, silence

_log = get_logger(__name__)

ERASE, SWEEP, AGAIN, SCRUB = "erase", "sweep", "sweep_again", "scrub"
_AT_A_TIME = 50
"""Identifiers in one transaction: others wait for it."""
_FOLLOW_SECONDS = 2.0
_TRY_AGAIN_AFTER = timedelta(seconds=10)
_TABLE_OF = {"identifiers": "nodes"}

EraseArchived = Callable[[Sequence[int], Sequence[Slice], Note], bool]


class Analytics(Protocol):
    """What follows Postgres into DuckDB."""

    def has_followed(self, seq: int, seconds: float) -> bool:
        """Wait until a batch is in DuckDB, in segments and in tags; return whether it is."""
        ...

    def forget(self, seq: int) -> bool:
        """Let nothing that was erased up to ``seq`` be in the file; return whether it is so."""
        ...


def nothing_archived(nodes: Sequence[int], slices: Sequence[Slice], note: Note) -> bool:
    """There is no archive."""
    return True


def describe_foreign_log() -> dict[str, Any]:
    """Say what is known of any log but the embedded one."""
    return {"state": "kafka: gone after the topic's own retention", "retention_hours": None}


@dataclass(slots=True)
class Desk:
    """Carries out what is open. Used by one thread of one process at a time."""

    database: Database
    settings: Settings
    log_name: str
    analytics: Analytics
    archives: Archives
    remove_import: Callable[[str], None]
    export: Callable[[str, Sequence[Identifier]], dict[str, Any]]
    """Writes a job's archive; returns what it holds."""
    scrub_disk: Callable[[Iterable[str]], dict[str, Any]]
    """Writes tables of Postgres anew; returns what to say of it. Raises ``Busy``."""
    erase_archived: EraseArchived = nothing_archived
    """Removes people from the archive; returns whether it could."""
    describe_log: Callable[[], dict[str, Any]] = describe_foreign_log
    """Says when records are gone of a log that cannot be changed."""
    now: Callable[[], datetime] = clock_now
    _failed_at: dict[str, datetime] = field(default_factory=dict)

    def work(self) -> bool:
        """Do the next steps; return whether there is more to do at once."""
        with self.database.transaction() as connection:
            jobs.adopt_requests(driver(connection))
            found = jobs.list_open(driver(connection))
        for job in found:
            if job.step == ERASE:
                self._try(job)
        with self.database.transaction() as connection:
            found = jobs.list_open(driver(connection))
            last_at = again.read_last_end(driver(connection))
        moment = self.now()
        ripe = [job for job in found if again.is_ripe(job, last_at, moment)]
        swept = self.sweep([job for job in ripe if job.step in (SWEEP, AGAIN)])
        scrubbed = self.scrub([job for job in found if job.step == SCRUB])
        return swept or scrubbed

    # ── People ──────────────────────────────────────────────────────────────────────────────────

    def _try(self, job: Job) -> None:
        """Begin a job; one that fails holds up no other, and is tried again after a while."""
        failed_at = self._failed_at.get(job.job_id)
        if failed_at is not None and self.now() - failed_at < _TRY_AGAIN_AFTER:
            return
        try:
            self._begin(job)
        except Exception as error:
            reason = name_error(error)
            # When Postgres is away this fails too, and nothing is held against the job.
            with self.database.transaction() as connection:
                what = f"a fault ({reason}): it is tried again"
                jobs.say_waiting(driver(connection), [job.job_id], what)
            _log.error("privacy_job_failed", job=job.job_id, reason=reason)
            self._failed_at[job.job_id] = self.now()
        else:
            self._failed_at.pop(job.job_id, None)

    def _begin(self, job: Job) -> None:
        match job.kind:
            case "delete":
                while self._erase_some(job):
                    pass
            case "export":
                self._export(job)
            case _:
                self._silence(job)

    def _erase_some(self, job: Job) -> bool:
        with self.database.transaction() as connection:
            tx = driver(connection)
            asked = jobs.list_queued(tx, job.job_id, limit=_AT_A_TIME)
            moment = self.now()
            if not asked:
                jobs.move_on(tx, job.job_id, SWEEP, started_at=moment)
                return False
            outcome = erase(
                tx,
                [name for _, name in asked],
                country=self.settings.default_country,
                currency=self.settings.currency,
                now=moment,
            )
            keep_traces(
                tx,
                job.job_id,
                outcome.names,
                outcome.erased.messages,
                outcome.profile_ids,
                outcome.nodes,
                outcome.slices,
            )
            jobs.add_to_receipt(tx, job.job_id, outcome.erased.counts, format_time(moment))
            jobs.add_parts(tx, job.job_id, outcome.erased.partitions)
            jobs.mark_requests(tx, [request for request, _ in asked], "erased")
            jobs.move_on(tx, job.job_id, ERASE, seq=outcome.seq, started_at=moment)
            return True

    def _silence(self, job: Job) -> None:
        with self.database.transaction() as connection:
            tx = driver(connection)
            hold_rules(tx)
            salt = ensure_privacy_salt(tx)
            names: list[Identifier] = []
            for _, asked in jobs.list_queued(tx, job.job_id, limit=job.identifiers):
                names += list_names(asked, find_person(tx, asked))
            hashes = [hash_identifier(salt, name) for name in names]
            changed = (
                silence(tx, hashes, job.job_id) if job.kind == "suppress" else let_speak(tx, hashes)
            )
            jobs.say_in_receipt(tx, job.job_id, {"identifiers": changed})
            self._close(tx, job)

    def _export(self, job: Job) -> None:
        with self.database.transaction() as connection:
            asked = jobs.list_queued(driver(connection), job.job_id, limit=job.identifiers)
        held = self.export(job.job_id, [name for _, name in asked])
        with self.database.transaction() as connection:
            tx = driver(connection)
            jobs.say_in_receipt(tx, job.job_id, held)
            self._close(tx, job)

    def _close(self, tx: Driver, job: Job) -> None:
        jobs.hash_requests(tx, job.job_id, ensure_privacy_salt(tx))
        jobs.finish(tx, job.job_id, self.now())

    # ── Copies ──────────────────────────────────────────────────────────────────────────────────

    def sweep(self, found: Sequence[Job]) -> bool:
        """Remove copies that know no people; return whether any job is a step further."""
        newest = max((job.seq or 0 for job in found), default=0)
        ids = [job.job_id for job in found]
        if not found or not self._wait_for_followers(ids, newest):
            return False
        with self.database.transaction() as connection:
            again.begin(driver(connection), ids)
        if not self._erase_archived(ids):
            return False
        with self.database.transaction() as connection:
            kept = read_traces(driver(connection), ids)
            waiting = forget_people_everywhere(driver(connection), kept.profile_ids)
        is_again = all(job.step == AGAIN for job in found)
        files, running = remove_ended(self.database, self.remove_import)
        if is_again and running:
            return False
        traces = kept.traces()
        parts: set[str] = set()
        counts = {
            "import_files": files,
            "exports": self._remove_archives(kept.names),
            "deliveries": waiting,
            "dropped_files": forget_in_folder(
                find_folder(self.settings.data_dir, self.settings.drop_dir), kept.profile_ids
            ),
        }
        if traces.are_any:
            counts |= remove_copies(self.database, traces, kept.profile_ids)
            if self.log_name == "postgres":
                counts["log"], parts = blank_log(self.database, traces)
        moment = format_time(self.now())
        with self.database.transaction() as connection:
            tx = driver(connection)
            salt = ensure_privacy_salt(tx)
            for job in found:
                jobs.add_to_receipt(tx, job.job_id, counts, moment)
                jobs.add_parts(tx, job.job_id, parts)
                if running:
                    jobs.move_on(tx, job.job_id, AGAIN, started_at=None)
                    continue
                if traces.are_in(job.reason.encode()):
                    jobs.forget_reason(tx, job.job_id)
                drop_traces(tx, job.job_id)
                jobs.hash_requests(tx, job.job_id, salt)
                jobs.move_on(tx, job.job_id, SCRUB, started_at=None)
            if running:
                jobs.say_waiting(tx, ids, "an import that still runs; then copies are looked for")
        return True

    def _erase_archived(self, ids: Sequence[str]) -> bool:
        """Remove from the archive what its files hold of these people; return whether it is."""
        with self.database.transaction() as connection:
            kept = read_traces(driver(connection), ids)

        def note(tx: Driver, gone: Gone) -> None:
            moment = format_time(self.now())
            for job_id in ids:
                jobs.add_to_receipt(tx, job_id, {"archive": gone.rows}, moment)
                jobs.follow(tx, job_id, gone.seq)
            keep_traces(tx, ids[0], (), gone.messages, ())

        if self.erase_archived(kept.nodes, kept.slices, note):
            return True
        with self.database.transaction() as connection:
            jobs.say_waiting(driver(connection), ids, "the archive, at which somebody else is")
        return False

    def _wait_for_followers(self, ids: Sequence[str], seq: int) -> bool:
        if self.analytics.has_followed(seq, _FOLLOW_SECONDS):
            return True
        with self.database.transaction() as connection:
            jobs.say_waiting(driver(connection), ids, "analytics, segments and tags to follow")
        return False

    def _remove_archives(self, names: Iterable[Identifier]) -> int:
        with self.database.transaction() as connection:
            tx = driver(connection)
            salt = ensure_privacy_salt(tx)
            hashes = [hash_identifier(salt, name).hex() for name in names]
            removed = 0
            for job_id in jobs.list_exports_of(tx, hashes):
                removed += self.archives.remove(job_id)
                jobs.note_archive_removed(tx, job_id, self.now())
            return removed

    def remove_old_archives(self) -> None:
        """Remove the exports whose time is over."""
        before = self.now() - timedelta(days=self.settings.export_days)
        with self.database.transaction() as connection:
            tx = driver(connection)
            for job_id in jobs.list_exports_before(tx, before):
                self.archives.remove(job_id)
                jobs.note_archive_removed(tx, job_id, self.now())

    # ── Bytes ───────────────────────────────────────────────────────────────────────────────────

    def scrub(self, found: Sequence[Job]) -> bool:
        """Let what was removed be nowhere on the disk; return whether the jobs are done."""
        if not found:
            return False
        seq = max(job.seq or 0 for job in found)
        ids = [job.job_id for job in found]
        if not self.analytics.forget(seq):
            with self.database.transaction() as connection:
                jobs.say_waiting(driver(connection), ids, "a long query to end")
            return False
        touched = {"privacy_traces", "privacy_requests"}
        for job in found:
            removed = job.receipt.get("removed", {})
            touched |= {_TABLE_OF.get(store, store) for store in removed if removed[store]["count"]}
            touched |= set(job.receipt.get(jobs.PARTS, ()))
        try:
            said = self.scrub_disk(touched)
        except Busy:
            with self.database.transaction() as connection:
                jobs.say_waiting(driver(connection), ids, "a table that is in use")
            return False
        moment = self.now()
        said["analytics"] = {
            "state": "written anew",
            "at": format_time(moment),
            # It knows of its own file only.
            "node": gethostname(),
            "others": "other nodes of the role api do so each for itself, within seconds",
        }
        if self.log_name != "postgres":
            said["log"] = self.describe_log()
        with self.database.transaction() as connection:
            tx = driver(connection)
            for job in found:
                jobs.say_in_receipt(tx, job.job_id, {"disk": said})
                jobs.finish(tx, job.job_id, moment)
        _log.info("privacy_deletions_done", jobs=len(found))
        return True
