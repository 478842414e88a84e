"""The one place that turns errors into answers: ``{"code", "message", "details"}``."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from cdp.errors import BadRequest, CdpError, Unavailable, Unprocessable
from cdp.runtime.logs import get_logger

_log = get_logger(__name__)

DATABASE_ERRORS: tuple[type[Exception], ...] = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
# What Postgres cannot hold: NUL or half a character in text, numbers and times out of its range.
VALUE_ERRORS: tuple[type[Exception], ...] = (
    sa.exc.DataError,
    psycopg.DataError,
    UnicodeEncodeError,
)
EXPECTED_ERRORS: tuple[type[Exception], ...] = (CdpError, *DATABASE_ERRORS, *VALUE_ERRORS)
"""What can happen to a right program; everything else is a fault."""
_RETRY_SECONDS = 2


def answer_error(error: Exception) -> JSONResponse:
    """Return the answer for any exception; of one that nobody foresaw it says nothing.

    Such a one goes on to the outermost layer, which logs it.
    """
    known = read_error(error)
    headers: dict[str, str] = {}
    if known.status in (429, 503):
        headers["Retry-After"] = str(known.retry_after or _RETRY_SECONDS)
    if known.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    status = error.status_code if isinstance(error, HTTPException) else known.status
    return JSONResponse(known.body(), status, headers)


def read_error(error: Exception) -> CdpError:
    """Translate an exception into an error of ours."""
    if isinstance(error, CdpError):
        return error
    if isinstance(error, RequestValidationError):
        return _read_validation(error)
    if isinstance(error, HTTPException):
        return _read_http(error)
    if isinstance(error, DATABASE_ERRORS):
        _log.warning("database_unavailable", reason=type(error).__name__)
        return Unavailable("database_unavailable", "the database does not answer; try again soon")
    if isinstance(error, VALUE_ERRORS):
        _log.warning("value_refused", reason=type(error).__name__)
        return Unprocessable(
            "bad_value",
            "a value here cannot be kept: text without NUL, numbers in 64 bits",
            path="",
        )
    return CdpError("internal_error", "this is a fault of the server; its log says more")


def install_error_answers(app: FastAPI) -> None:
    """Let ``app`` answer every error in the one shape."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return answer_error(error)

    for kind in (*EXPECTED_ERRORS, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _read_http(error: HTTPException) -> CdpError:
    if error.status_code == 404:
        return CdpError("not_found", "there is nothing at this path; /openapi.json lists what is")
    if error.status_code == 405:
        return CdpError("method_not_allowed", "this path takes other methods; see `Allow`")
    if error.status_code == 413:
        return CdpError("too_large", "the body is too large; send less at a time")
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    return CdpError(code, str(error.detail))


def _read_validation(error: RequestValidationError) -> CdpError:
    """Name the first mistake by its place: a pointer into the body, or the parameter."""
    first = error.errors()[0]
    where, *steps = first["loc"]
    message = str(first["msg"])
    if first["type"] == "json_invalid":
        return BadRequest("invalid_json", f"the body is not JSON: {message}")
    if isinstance(error.body, bytes):
        return BadRequest("not_json", "send the body with `Content-Type: application/json`")
    if where != "body":
        return Unprocessable(
            "invalid_parameter", f"{steps[-1]}: {message}", path=f"/{steps[-1]}", within=where
        )
    code = "missing" if first["type"] == "missing" else "invalid_body"
    return Unprocessable(code, message, path=make_pointer(_real_steps(steps, error.body)))


def make_pointer(steps: Sequence[str | int]) -> str:
    """Return a JSON Pointer (RFC 6901) for ``steps``; the whole document is the empty text."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def _real_steps(steps: Sequence[str | int], body: Any) -> list[str | int]:
    """Leave out what pydantic adds to a place, such as the name of a union's member."""
    found: list[str | int] = []
    for index, step in enumerate(steps):
        inside = isinstance(body, dict) and step in body
        inside |= isinstance(body, list) and isinstance(step, int) and step < len(body)
        is_absent_key = index == len(steps) - 1 and isinstance(body, dict) and step not in body
        if inside:
            found.append(step)
            body = body[step]
        elif is_absent_key:
            found.append(step)
    return found
