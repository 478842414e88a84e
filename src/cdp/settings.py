"""Settings: read once, at the edge, from ``CDP_*``. An unknown ``CDP_`` variable is an error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cdp.errors import SetupError
from cdp.money import minor_digits

PREFIX = "CDP_"
_MEMORY = re.compile(r"(?=.*[1-9])\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)


class Settings(BaseSettings):
    """Every setting with its default; ``cdp doctor`` prints the effective ones."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(Path(".cdp"), description="Folder of everything that is kept here.")
    database_url: str | None = Field(None, description="Postgres; without it an embedded one runs.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="The one port of `cdp up`.")
    public_url: str | None = Field(
        None, description="How the outside reaches this host, when a proxy stands in front."
    )

    url: str | None = Field(
        None, description="The server that the command line asks; default: the one run here."
    )
    token: str | None = Field(None, description="The token that the command line shows it.")

    kafka_bootstrap_servers: str | None = Field(
        None, description="host:port,…; without it the log is a table in Postgres."
    )
    kafka_topic: str = "cdp.events"
    kafka_replication_factor: int = Field(1, ge=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = None
    kafka_ssl_cafile: Path | None = None

    log_partitions: int = Field(8, ge=1, le=1024, description="Partitions of a newly made log.")
    log_retention_days: int = Field(7, ge=1, description="Days that the embedded log keeps.")
    dedup_days: int = Field(7, ge=7, description="Days in which a repeated message is a duplicate.")
    rejected_days: int = Field(30, ge=1, description="Days that refused events are kept.")

    linger_ms: float = Field(3.0, ge=0, description="How long requests wait to be packed together.")
    max_request_bytes: int = Field(5 * 1024 * 1024, ge=1024, description="Inflated body.")
    max_event_bytes: int = Field(32 * 1024, ge=256, description="Per event; a source may differ.")
    max_batch_events: int = Field(20_000, ge=100, description="Events in one request.")
    public_events_per_second: float = Field(
        50_000, ge=0, description="Per web or app key without a `rate_limit`; 0 is no limit."
    )
    max_buffered_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="Of events on their way into the log."
    )
    max_lag_records: int = Field(
        1_000_000, ge=0, description="Log records that wait for workers; more is 503. 0: no limit."
    )
    body_seconds: float = Field(30, ge=1, description="Time for a body to arrive.")
    header_seconds: float = Field(10, gt=0, description="Time for a request's headers to arrive.")
    max_header_bytes: int = Field(64 * 1024, ge=1024, description="Headers of one request.")
    max_connections: int = Field(4000, ge=1, description="Open connections per server process.")

    max_import_bytes: int = Field(
        20 * 1024**3, ge=1024, description="Of one imported file, as it is uploaded."
    )
    import_retention_days: float = Field(
        7, ge=0, description="Days that an imported file is kept after its import has ended."
    )

    audit_days: int = Field(
        400, ge=0, description="Days that reads and changes stay in the audit; 0: for ever."
    )
    profile_changes_days: float = Field(
        30, gt=0, description="Days that changes of profiles can be read by cursor."
    )
    tag_history_days: float = Field(
        400,
        ge=1,
        description="Days that values of tags are kept after others took their place.",
    )
    profile_changes_topic: str = Field(
        "cdp.profile-changes", description="Kafka topic of changes of profiles; empty: none."
    )

    export_days: float = Field(7, gt=0, description="Days that an export of a person is kept.")

    worker_processes: int = Field(
        min(2, os.cpu_count() or 1),
        ge=1,
        le=64,
        description="Worker processes that `cdp up` starts: two where there are two processors.",
    )
    worker_batch_events: int = Field(4000, ge=1)
    worker_poll_seconds: float = Field(0.25, gt=0)

    archive_url: str | None = Field(
        None,
        description="Folder or URL (`s3://bucket/path?region=…`) of the archive of events; "
        "default: `archive` in the data folder; `off`: none.",
    )
    archive_after_days: int = Field(
        2, ge=1, description="Days after which a day of events is closed and archived."
    )
    events_retention_days: int = Field(
        0,
        ge=0,
        description="Days that events stay in Postgres once they are archived; 0: for ever.",
    )

    duckdb_memory: str = "512MB"
    duckdb_threads: int = Field(2, ge=1)
    query_timeout_seconds: float = Field(30, gt=0, le=60)
    query_max_rows: int = Field(100_000, ge=1)
    segment_time_seconds: float = Field(
        2, gt=0, description="How often it is looked at whom time alone has moved."
    )
    built_in_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Of one processor's time, for computing built-in tags anew for everybody.",
    )

    allow_private_destinations: bool = Field(
        False, description="Whether destinations may stand on private networks and this machine."
    )
    destination_seconds: float = Field(
        15, gt=0, le=300, description="Time for a receiver to take a delivery."
    )
    delivery_days: float = Field(7, gt=0, description="Days that what was delivered is kept.")
    drop_dir: Path | None = Field(
        None, description="Folder of file destinations; default: `drops` in the data folder."
    )

    suggest_memory: str = Field(
        "1GB", description="For a search for people who may be one; needs the extra `suggest`."
    )
    suggest_every_hours: float = Field(
        0, ge=0, description="How often people who may be one are searched for; 0: when asked."
    )
    suggest_on_read: bool = Field(
        True, description="Whether looking at suggestions renews them when people have changed."
    )

    default_country: str = Field("CN", description="For phone numbers without a country code.")
    timezone: str = "Asia/Shanghai"
    currency: str = Field(
        "CNY", description="Of amounts that name none, and the one in which figures are reported."
    )

    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone") from error
        return value

    @field_validator("default_country")
    @classmethod
    def _is_country(cls, value: str) -> str:
        # Late: the numbering plans of the world take longer to load than most commands run.
        from phonenumbers import SUPPORTED_REGIONS

        if value.upper() not in SUPPORTED_REGIONS:
            raise ValueError(f"{value.upper()!r} is not a country's two letters, such as CN")
        return value.upper()

    @field_validator("currency")
    @classmethod
    def _is_currency(cls, value: str) -> str:
        if minor_digits(value.upper()) is None:
            raise ValueError(f"{value.upper()!r} is not an ISO 4217 currency, such as CNY")
        return value.upper()

    @field_validator("duckdb_memory", "suggest_memory")
    @classmethod
    def _is_memory(cls, value: str) -> str:
        if not _MEMORY.fullmatch(value.strip()):
            raise ValueError(f"{value!r} is not an amount of memory, such as 512MB or 2GiB")
        return value.strip()

    @field_validator("url", "public_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/]", value):
            raise ValueError(f"{value!r} must start with http:// or https://")
        return value


def read_settings(environment: dict[str, str] | None = None) -> Settings:
    """Read the settings from ``environment`` (default: the process's).

    Raises ``SetupError`` naming the variable for an unknown name or a bad value.
    """
    source = dict(os.environ) if environment is None else environment
    given = {key: value for key, value in source.items() if key.startswith(PREFIX)}
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SetupError(f"{unknown[0]} is not a setting; {_suggest(unknown[0], known)}")
    values = {known[key]: value for key, value in given.items() if value != ""}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}"
        raise SetupError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


def _suggest(unknown: str, known: Iterable[str]) -> str:
    meant = get_close_matches(unknown, known, n=1, cutoff=0.75)
    return f"did you mean {meant[0]}?" if meant else "without it, `cdp doctor` lists them all"
