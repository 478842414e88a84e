"""Changes of profiles as they come about: in Postgres for cursors, and on Kafka for consumers.

    batches ─► changes in Postgres ─► topic (when Kafka is configured)

Every api process follows the batches; whoever is first goes on, the others find nothing to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

import msgspec
import psycopg
import sqlalchemy as sa
from kafka import KafkaProducer
from kafka.errors import KafkaError
from psycopg.types.json import Jsonb

from cdp.errors import SetupError
from cdp.log.kafka_topic import describe, ensure_topic, open_admin, read_options
from cdp.profiles.feed_routes import show_change
from cdp.profiles.feed_store import FeedRow, catch_up, read_feed
from cdp.runtime.logs import get_logger
from cdp.runtime.waking_thread import WakingThread
from cdp.settings import Settings
from cdp.storage.batches import FEED_CHANNEL
from cdp.storage.database import Database, Driver, driver
from cdp.storage.listening import ChannelFollower

_log = get_logger(__name__)

# What happens within this time becomes one look at the batches.
_GATHER_SECONDS = 0.25
_LOCK = 7263571
_SENT = "profile_changes_sent"
_ROWS_AT_ONCE = 500
_LOOK_SECONDS = 5.0
_AWAY_SECONDS = 5.0
_ACK_SECONDS = 30.0


_TROUBLE = (psycopg.Error, sa.exc.SQLAlchemyError, KafkaError, OSError, SetupError)


class ProfileChanges:
    """Follows batches from ``start`` to ``close``; ``tell`` is called when there are changes."""

    def __init__(self, database: Database, topic: ProfileChangesTopic | None = None) -> None:
        self._database = database
        self._topic = topic
        self._stop = threading.Event()
        self._follower = ChannelFollower(database, FEED_CHANNEL, "profile_changes", self._follow)

    def start(self) -> None:
        """Follow from now on."""
        if self._topic is not None:
            self._topic.start()
        self._follower.start()

    def close(self) -> None:
        """Stop; what is left is told by whoever starts next."""
        self._stop.set()
        self._follower.close()
        if self._topic is not None:
            self._topic.close()

    def _follow(self) -> None:
        if catch_up(self._database) and self._topic is not None:
            self._topic.wake()
        self._stop.wait(_GATHER_SECONDS)


class ProfileChangesTopic(WakingThread):
    """Produces each change after its commit, in order, at least once.

    How far it has come is kept in Postgres, behind what the broker acknowledged. The header ``id``
    is the same however often a change is sent; the key is the profile id.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        """``settings`` name the brokers; nothing is connected yet."""
        super().__init__("profile-changes-topic")
        self._settings = settings
        self._database = database

    def run(self) -> None:
        """Send whenever this process holds the lock, and outlive what fails."""
        while not self.stopping.is_set():
            try:
                with closing(self._connect()) as connection:
                    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
                    if row == (True,):
                        self._send_on()
            except _TROUBLE as error:
                reason = describe(error) if isinstance(error, KafkaError) else type(error).__name__
                _log.warning("profile_changes_topic_waits", reason=reason)
            self.stopping.wait(_AWAY_SECONDS)

    def _connect(self) -> Driver:
        return psycopg.connect(
            self._database.libpq_url,
            autocommit=True,
            connect_timeout=5,
            application_name="cdp-changes-lock",
        )

    def _send_on(self) -> None:
        wanted = {"kafka_topic": self._settings.profile_changes_topic}
        with closing(open_admin(self._settings)) as admin:
            ensure_topic(admin, self._settings.model_copy(update=wanted))
        producer = KafkaProducer(
            **read_options(self._settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            metrics_enabled=False,
        )
        try:
            while not self.stopping.is_set():
                if not send_next(self._database, self._make_send(producer)):
                    self.rest(_LOOK_SECONDS)
        finally:
            with suppress(KafkaError):
                producer.close(timeout=5)

    def _make_send(self, producer: KafkaProducer) -> Callable[[Sequence[Message]], None]:
        def send(messages: Sequence[Message]) -> None:
            sent = [
                producer.send(
                    self._settings.profile_changes_topic,
                    key=one.key,
                    value=one.value,
                    headers=[("id", one.id.encode())],
                )
                for one in messages
            ]
            for each in sent:
                each.get(timeout=_ACK_SECONDS)

        return send


class Message(msgspec.Struct, frozen=True):
    """A change on its way: ``id`` is the same however often it is sent."""

    id: str
    key: bytes
    value: bytes


def list_messages(rows: Sequence[FeedRow]) -> list[Message]:
    """Return the messages of some rows of changes. Pure."""
    messages = []
    for row in rows:
        for position, kind in enumerate(row.kinds):
            name = f"{row.change_no}.{position}"
            value = msgspec.json.encode({"id": name, **show_change(row, kind)})
            messages.append(Message(name, row.profile_id.encode(), value))
    return messages


def send_next(database: Database, send: Callable[[Sequence[Message]], None]) -> int:
    """Send the changes that come next; return how many rows. ``send`` raises when one is not

    acknowledged: then all of them are sent again.
    """
    with database.snapshot() as connection:
        tx = driver(connection)
        row = tx.execute("SELECT value FROM workspace WHERE name = %s", (_SENT,)).fetchone()
        rows = read_feed(tx, since=0 if row is None else int(row[0]) + 1, limit=_ROWS_AT_ONCE)
    if not rows:
        return 0
    send(list_messages(rows))
    with database.transaction() as connection:
        driver(connection).execute(
            """INSERT INTO workspace (name, value) VALUES (%s, %s)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
            (_SENT, Jsonb(rows[-1].change_no)),
        )
    return len(rows)
