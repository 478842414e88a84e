"""Structured logs: one JSON line each when nobody watches, coloured lines on a terminal."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

# Values under these names never reach a log, whoever passes them.
_SECRET_NAMES = frozenset(
    {"write_key", "writeKey", "token", "authorization", "password", "secret", "email", "phone"}
)


def _hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name in _SECRET_NAMES & event.keys():
        event[name] = "[hidden]"
    return event


def _place_error(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn ``exc_info`` into what failed and where; messages and locals may be personal."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event["trace"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        cause = error.__cause__ or error.__context__
        if cause is not None:
            event["cause"] = type(cause).__name__
    return event


def configure_logs(
    form: Literal["auto", "json", "text"] = "auto", level: str = "info", *, process: str = ""
) -> None:
    """Set up logging for this process; lines go to stderr. ``auto`` is text on a terminal."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
        _place_error,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    if process:
        structlog.contextvars.bind_contextvars(process=process)
    # Libraries speak through the standard module; only their warnings matter here.
    logging.basicConfig(level=max(threshold, logging.WARNING), stream=sys.stderr, force=True)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry ``module=name``."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
