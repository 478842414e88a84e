"""A destination: where changes of segments and tags are sent, and what may be said of it. Pure.

webhook   ``url``, ``headers``                       signed as Standard Webhooks
kafka     ``bootstrap_servers``, ``topic``           a record a row, keyed by profile
file      ``path``, ``format`` (csv, ndjson, parquet)  a file a delivery, in its folder; or ``url``,
          ``access_key_id``, ``secret_access_key``   an object a delivery, in a store that speaks S3
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from cdp.activation.address import PRIVATE_SETTING, is_refused, read_literal
from cdp.activation.bucket import read_bucket
from cdp.errors import Unprocessable

DestinationType = Literal["webhook", "kafka", "file"]
Status = Literal["active", "paused"]
FileFormat = Literal["csv", "ndjson", "parquet"]

DEFAULT_BATCH = 100
MOST_IN_BATCH = 1000
_MOST_HEADERS = 50
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REGION = re.compile(r"[a-z0-9-]{1,50}")
_PLAIN_PATH = re.compile(r"[^\\\0:*?\"<>|]+")
# Ours to set, or the connection's.
_TAKEN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection"}
)


class Stream(NamedTuple):
    """One of the sets that a destination is kept equal to."""

    kind: Literal["segment", "tag"]
    key: str

    @property
    def name(self) -> str:
        """How rows of it are named: ``segment:vip``."""
        return f"{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination as it is kept."""

    destination_id: str
    name: str
    type: DestinationType
    settings: Mapping[str, Any]
    segments: tuple[str, ...]
    tags: tuple[str, ...]
    fields: tuple[str, ...]
    consent: tuple[str, ...]
    """Purposes that a person must have granted, besides the segment's own."""
    is_masked: bool
    """Whether personal values go out masked: who made it may not see them."""
    secret: str
    """What webhooks are signed with, as ``whsec_`` and base64."""
    status: Status
    status_reason: str | None
    created_at: datetime
    updated_at: datetime
    change_no: int
    """The change of memberships and tags up to which it was looked at."""
    seq: int
    """The batch up to which it was looked at."""
    scan: Mapping[str, Any] | None
    """Where the look at everybody stands; ``None`` when it is done."""

    @property
    def streams(self) -> list[Stream]:
        """The sets that it is kept equal to, in order."""
        return [
            *(Stream("segment", key) for key in self.segments),
            *(Stream("tag", key) for key in self.tags),
        ]

    @property
    def batch_size(self) -> int:
        """Rows in one delivery, at most."""
        return int(self.settings.get("batch_size", DEFAULT_BATCH))


def check_settings(
    type: DestinationType, settings: Mapping[str, Any], *, allows_private: bool
) -> dict[str, Any]:
    """Return what is kept of ``settings``; raise ``Unprocessable`` at the first mistake.

    ``allows_private`` is the setting that lets destinations stand in private networks. Names are
    looked up only when something is delivered, since what they lead to may change.
    """
    known = {**_COMMON, **_SETTINGS[type]}
    for name in settings:
        if name not in known:
            listed = ", ".join(known)
            raise _mistake(name, f"a {type} destination has {listed}", "unknown_setting")
    in_bucket = type == "file" and settings.get("url") is not None
    for name in _REQUIRED["bucket" if in_bucket else type]:
        if settings.get(name) in (None, ""):
            raise _mistake(name, f"a {type} destination needs {name}", "missing_setting")
    taken = {name: value for name, value in settings.items() if value is not None}
    for name, value in taken.items():
        known[name](name, value, allows_private)
    if type == "file":
        _check_place(taken, allows_private)
    return taken


def show_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are shown: headers and passwords may be keys of somebody else."""
    shown = {name: value for name, value in settings.items() if name != "secret"}
    if "headers" in shown:
        shown["headers"] = dict.fromkeys(shown["headers"], "***")
    for name in _PASSWORDS & shown.keys():
        shown[name] = "***"
    return shown


def _check_batch(name: str, value: Any, _: bool) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_IN_BATCH:
        raise _mistake(name, f"a whole number from 1 to {MOST_IN_BATCH}")


def _check_url(name: str, value: Any, allows_private: bool) -> None:
    try:
        parts = urlsplit(_text(name, value))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _mistake(name, "write an address as https://example.com/path") from error
    if parts.scheme not in ("http", "https") or not host:
        raise _mistake(name, "write an address as https://example.com/path")
    if parts.username is not None or parts.password is not None:
        raise _mistake(name, "put user and password into a header")
    _check_host(name, host, allows_private)


def _check_host(name: str, host: str, allows_private: bool) -> None:
    address = read_literal(host)
    if address is not None and not allows_private and is_refused(address):
        raise _mistake(
            name,
            f"{host} is not an address on the public network; {PRIVATE_SETTING}=true allows it",
            "private_address",
        )


def _check_headers(name: str, value: Any, _: bool) -> None:
    if not isinstance(value, dict) or len(value) > _MOST_HEADERS:
        raise _mistake(name, f"an object of up to {_MOST_HEADERS} headers")
    for header, text in value.items():
        if not _TOKEN.fullmatch(header) or header.lower() in _TAKEN_HEADERS:
            raise _mistake(f"{name}/{header}", f"{header!r} cannot be set")
        if header.lower().startswith("webhook-"):
            raise _mistake(f"{name}/{header}", "webhook-… headers carry the signature")
        is_latin = isinstance(text, str) and all(" " <= c <= "~" or c == "\t" for c in text)
        if not is_latin:
            raise _mistake(f"{name}/{header}", "the text of a header, in ASCII")


def _check_servers(name: str, value: Any, allows_private: bool) -> None:
    for server in _text(name, value).split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isascii() or not port.isdigit():
            raise _mistake(name, "write brokers as host:port,host:port")
        _check_host(name, host.strip("[]"), allows_private)


def _check_topic(name: str, value: Any, _: bool) -> None:
    if not _TOPIC.fullmatch(_text(name, value)) or value in (".", ".."):
        raise _mistake(name, "a topic has letters, digits, . _ - and up to 249 of them")


def _check_path(name: str, value: Any, _: bool) -> None:
    path = PurePosixPath(_text(name, value))
    is_inside = not path.is_absolute() and ".." not in path.parts and path.parts
    if not is_inside or not _PLAIN_PATH.fullmatch(value) or len(value) > 500:
        raise _mistake(name, "a folder below the one that files are dropped in, such as crm/vip")


def _check_place(settings: Mapping[str, Any], allows_private: bool) -> None:
    """Check that files go to one place: a folder, or a bucket with what belongs to it."""
    if "url" not in settings:
        for name in _OF_BUCKETS & settings.keys():
            raise _mistake(name, "this belongs to a url such as s3://bucket/folder")
        return
    if "path" in settings:
        raise _mistake("path", "give a path or a url, not both")
    try:
        bucket = read_bucket(settings)
    except ValueError as error:
        example = {"url": "s3://bucket/folder", "endpoint": "https://s3.example.com"}
        name = str(error)
        raise _mistake(name, f"write a place as {example[name]}") from error
    _check_host("endpoint", bucket.host, allows_private)


def _check_region(name: str, value: Any, _: bool) -> None:
    if not _REGION.fullmatch(_text(name, value)):
        raise _mistake(name, "a region such as eu-west-1")


def _check_format(name: str, value: Any, _: bool) -> None:
    if value not in get_args(FileFormat):
        raise _mistake(name, f"one of {', '.join(get_args(FileFormat))}")


def _check_protocol(name: str, value: Any, _: bool) -> None:
    if value not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise _mistake(name, "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")


def _check_text(name: str, value: Any, _: bool) -> None:
    _text(name, value)


_Check = Callable[[str, Any, bool], None]
_COMMON: dict[str, _Check] = {"batch_size": _check_batch}
_SETTINGS: dict[str, dict[str, _Check]] = {
    "webhook": {"url": _check_url, "headers": _check_headers, "secret": _check_text},
    "kafka": {
        "bootstrap_servers": _check_servers,
        "topic": _check_topic,
        "security_protocol": _check_protocol,
        "sasl_mechanism": _check_text,
        "sasl_username": _check_text,
        "sasl_password": _check_text,
    },
    "file": {
        "path": _check_path,
        "format": _check_format,
        "url": _check_text,
        "endpoint": _check_text,
        "region": _check_region,
        "access_key_id": _check_text,
        "secret_access_key": _check_text,
    },
}
_REQUIRED = {
    "webhook": ("url",),
    "kafka": ("bootstrap_servers", "topic"),
    "file": ("path",),
    "bucket": ("url", "access_key_id", "secret_access_key"),
}
_OF_BUCKETS = {"endpoint", "region", "access_key_id", "secret_access_key"}
_PASSWORDS = {"sasl_password", "secret_access_key"}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _mistake(name, "text")
    return value


def _mistake(name: str, message: str, code: str = "bad_setting") -> Unprocessable:
    return Unprocessable(code, f"{name}: {message}", path=f"/settings/{name}")
