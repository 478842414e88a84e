"""Search for people who may be one: one search at a time, in a thread of its own.

Whoever searches holds an advisory lock on a connection of its own; when its process is killed the
lock goes with the connection, and another begins the search anew. The queue changes once, at the
end, so a search that is ended leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from cdp.errors import NotInstalled
from cdp.identity.rules_store import ensure_salt
from cdp.identity.suggestions import runs_store as runs
from cdp.identity.suggestions.model import FIELDS
from cdp.identity.suggestions.people_store import read_everybody
from cdp.identity.suggestions.plan_queue import Proposal, list_proofs
from cdp.identity.suggestions.queue_store import MOST_OPEN, Found, replace_queue
from cdp.identity.suggestions.runs_store import Run
from cdp.identity.suggestions.said import Normalise
from cdp.runtime.clock import now
from cdp.runtime.error_answers import DATABASE_ERRORS
from cdp.runtime.logs import get_logger
from cdp.runtime.waking_thread import WakingThread
from cdp.storage.database import Database, driver

if TYPE_CHECKING:
    from cdp.identity.suggestions.match_engine import Matcher, Pair

_log = get_logger(__name__)
_PARTS = ("splink", "opencc", "pypinyin")
_LOOK_EVERY_SECONDS = 5.0
_FEWEST_PEOPLE = 2
# Looking at the queue renews it, for at most a twentieth of the time.
_REST = 20
_SHORTEST_REST = timedelta(seconds=5)
_FIELDS = {field.name: field for field in FIELDS}


def is_installed() -> bool:
    """Whether the parts of the extra ``suggest`` are there."""
    return all(find_spec(part) is not None for part in _PARTS)


def require_installed() -> None:
    """Raise ``NotInstalled``, saying what to do, when they are not."""
    if not is_installed():
        raise NotInstalled(
            "suggestions_not_installed",
            "people cannot be compared: install the extra cdp[suggest] (from a"
            " checkout: pip install '.[suggest]') and start again",
        )


class SuggestionRunner(WakingThread):
    """Does searches. ``start`` and ``close`` it; ``ask`` for a search."""

    def __init__(
        self,
        database: Database,
        normalise: Normalise,
        folder: Path,
        *,
        memory: str,
        threads: int,
        every: timedelta | None = None,
        renews_when_read: bool = True,
    ) -> None:
        """``folder`` is for what does not fit into ``memory``; ``every``: search by schedule."""
        super().__init__("suggestions")
        self._database = database
        self._normalise = normalise
        self._folder = folder
        self._memory = memory
        self._threads = threads
        self._every = every
        self._renews_when_read = renews_when_read
        self._matcher: Matcher | None = None

    def close(self) -> None:
        """Leave a search under way to the next process."""
        self.stopping.set()
        self._interrupt()
        super().close()

    def ask(self, actor: str) -> tuple[Run, bool]:
        """Return the search under way, or a new one, and whether it is new.

        Raises ``NotInstalled``.
        """
        require_installed()
        with self._database.transaction() as connection:
            asked = runs.ask_for_run(driver(connection), actor, now())
        self.wake()
        return asked

    def renew(self) -> Run | None:
        """Return the newest search, having asked for one when the queue may be out of date.

        A search of two seconds is begun again after forty, one of ten minutes after three hours,
        and none while nobody changed.
        """
        with self._database.snapshot() as connection:
            newest = runs.find_newest(driver(connection))
            is_due = self._renews_when_read and _is_due(newest, runs.read_seq(driver(connection)))
        if is_due and is_installed():
            newest, _ = self.ask("system")
        return newest

    def newest(self) -> Run | None:
        """Return the newest search, or ``None`` when there was none."""
        with self._database.snapshot() as connection:
            return runs.find_newest(driver(connection))

    def cancel(self) -> Run | None:
        """End the search under way; the queue stays as it is. ``None`` when there is none."""
        with self._database.transaction() as connection:
            ended = runs.cancel(driver(connection), now())
        if ended is not None:
            self._interrupt()
        return ended

    def _interrupt(self) -> None:
        matcher = self._matcher
        if matcher is not None:
            matcher.interrupt()

    def run(self) -> None:
        """Do searches one by one, and outlive what fails."""
        while not self.stopping.is_set():
            try:
                found = is_installed() and self.run_next()
            except DATABASE_ERRORS as error:
                found = False
                _log.warning("suggestions_wait", reason=type(error).__name__)
            except Exception as error:
                # A fault in one search must not end all others.
                found = False
                _log.error("suggestions_fault", exc_info=error)
            if not found:
                self.rest(_LOOK_EVERY_SECONDS)

    def run_next(self) -> bool:
        """Do the search that waits; return whether there was one that nobody else does."""
        self._ask_by_schedule()
        with self._database.snapshot() as connection:
            if runs.find_waiting(driver(connection)) is None:
                return False
        with self._hold_lock() as is_ours:
            if not is_ours:
                return False
            with self._database.transaction() as connection:
                tx = driver(connection)
                waiting = runs.find_waiting(tx)
                if waiting is None:
                    return False
                if waiting.attempts >= runs.MOST_ATTEMPTS:
                    message = "it ended its process several times; give it more memory"
                    runs.finish(
                        tx, waiting.run_id, "failed", now(),
                        error_code="interrupted", error_message=message,
                    )  # fmt: skip
                    return True
                runs.begin(tx, waiting.run_id, now())
            self._work(waiting.run_id)
        return True

    def _ask_by_schedule(self) -> None:
        if self._every is None:
            return
        with self._database.snapshot() as connection:
            newest = runs.find_newest(driver(connection))
        if newest is None or (
            newest.finished_at is not None and now() - newest.finished_at >= self._every
        ):
            with self._database.transaction() as connection:
                runs.ask_for_run(driver(connection), "schedule", now())

    @contextmanager
    def _hold_lock(self) -> Iterator[bool]:
        url = self._database.libpq_url
        with psycopg.connect(url, autocommit=True, application_name="cdp-suggest") as conn:
            row = conn.execute("SELECT pg_try_advisory_lock(%s)", (runs.RUN_LOCK,)).fetchone()
            yield bool(row and row[0])

    def _work(self, run_id: str) -> None:
        from cdp.identity.suggestions.match_engine import (
            Interrupted,
            Matcher,
            NotEnoughMemory,
        )

        _log.info("suggestions_search", run_id=run_id)
        matcher = Matcher(self._folder, memory=self._memory, threads=self._threads)
        self._matcher = matcher
        error: tuple[str, str] | None = None
        try:
            if self.stopping.is_set():
                raise Interrupted
            self._search(run_id, matcher)
            return
        except Interrupted:
            with self._database.transaction() as connection:
                runs.put_back(driver(connection), run_id)
            return
        except DATABASE_ERRORS:
            # It stands as running, and is begun anew.
            raise
        except NotEnoughMemory:
            error = "out_of_memory", "give CDP_SUGGEST_MEMORY more, or the folder more room"
        except Exception as failure:
            _log.error("suggestions_failed", run_id=run_id, exc_info=failure)
            error = "internal_error", "this is a fault of the server; its log says more"
        finally:
            self._matcher = None
            matcher.close()
        with self._database.transaction() as connection:
            runs.finish(
                driver(connection), run_id, "failed", now(),
                error_code=error[0], error_message=error[1],
            )  # fmt: skip

    def _search(self, run_id: str, matcher: Matcher) -> None:
        from cdp.identity.suggestions.candidate import build_candidate
        from cdp.identity.suggestions.match_engine import Interrupted

        def tell(phase: str) -> None:
            with self._database.transaction() as connection:
                if not runs.tell_phase(driver(connection), run_id, phase, matcher.people):
                    raise Interrupted

        begun = now()
        with self._database.snapshot() as connection:
            everybody = read_everybody(driver(connection), self._normalise, begun)
            built = (build_candidate(person, said) for person, said in everybody)
            matcher.add(one for one in built if one.is_comparable)
        if matcher.people < _FEWEST_PEOPLE:
            self._store(run_id, matcher, [], begun)
            return
        pairs = list(islice(matcher.find(tell), MOST_OPEN))
        tell("storing")
        self._store(run_id, matcher, pairs, begun)

    def _store(self, run_id: str, matcher: Matcher, pairs: list[Pair], begun: datetime) -> None:
        from cdp.identity.suggestions.match_engine import Interrupted

        is_enough = matcher.people >= _FEWEST_PEOPLE
        with self._database.transaction() as connection:
            tx = driver(connection)
            salt = ensure_salt(tx)
            found = [_keep(pair, salt) for pair in pairs]
            suggestions = replace_queue(tx, found, begun)
            is_wanted = runs.finish(
                tx,
                run_id,
                "done" if is_enough else "not_enough_data",
                now(),
                people=matcher.people,
                pairs=len(pairs),
                suggestions=suggestions,
                model=matcher.model if is_enough else None,
            )
            if not is_wanted:
                raise Interrupted


def _is_due(newest: Run | None, seq: int) -> bool:
    if newest is None:
        return True
    if newest.is_under_way or newest.seq == seq:
        return False
    if newest.finished_at is None or newest.started_at is None:
        return False
    took = newest.finished_at - newest.started_at
    return now() - newest.finished_at >= max(_SHORTEST_REST, took * _REST)


def _keep(pair: Pair, salt: bytes) -> Found:
    ranks = {likeness.field: likeness.rank for likeness in pair.evidence}
    evidence = [
        {
            "field": likeness.field,
            "level": _FIELDS[likeness.field].name_level(likeness.rank),
            "weight": round(likeness.weight, 2),
        }
        for likeness in pair.evidence
    ]
    proofs = list_proofs(ranks, pair.shared, salt)
    return Found(Proposal((pair.a, pair.b), pair.score, proofs), pair.weight, evidence)
