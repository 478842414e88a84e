"""Choose the log that the settings name."""

from __future__ import annotations

from cdp.errors import SetupError
from cdp.log.kafka_log import KafkaLog
from cdp.log.port import Log, LogUnavailable
from cdp.log.postgres_log import PostgresLog
from cdp.settings import Settings
from cdp.storage.database import Database


def open_log(settings: Settings, database: Database) -> Log:
    """Open the log on Kafka when servers are set, else in the (migrated) ``database``.

    Raises ``SetupError`` with one line for the operator when it cannot be reached or used.
    """
    if settings.kafka_bootstrap_servers:
        return KafkaLog(settings)
    try:
        return PostgresLog(database, settings.log_partitions)
    except LogUnavailable as error:
        raise SetupError(f"Postgres does not answer ({error}); check CDP_DATABASE_URL") from error
