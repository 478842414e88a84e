"""Every error that reaches a caller, drawn first:

    CdpError                     a code, a message that says what to do, an HTTP status
    ├── BadRequest       400     the body cannot be read
    ├── Unauthorized     401     no or unknown key or token
    ├── Forbidden        403     the token lacks a scope
    ├── NotFound         404
    ├── MethodNotAllowed 405
    ├── Conflict         409
    ├── CursorExpired    410     what comes after the cursor is not kept: begin anew
    ├── TooLarge         413
    ├── Unprocessable    422     readable, but wrong at ``details.path``
    ├── TooManyRequests  429     carries ``retry_after``
    ├── Unavailable      503     carries ``retry_after``; nothing was half done
    └── InsufficientStorage 507  the disk is full; nothing was kept
    SetupError                   the program cannot start: one line for the operator, exit 1

Expected outcomes (a rejected event, a refused link, a duplicate) are values, not errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class CdpError(Exception):
    """An error that is answered as ``{"code", "message", "details"}`` with ``status``."""

    status: ClassVar[int] = 500

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the caller sees."""
        return {"code": self.code, "message": self.message, "details": self.details}


class BadRequest(CdpError):
    status = 400


class Unauthorized(CdpError):
    status = 401


class Forbidden(CdpError):
    status = 403


class NotFound(CdpError):
    status = 404


class MethodNotAllowed(CdpError):
    status = 405


class Conflict(CdpError):
    status = 409


class CursorExpired(CdpError):
    """What comes after the cursor was dropped: the caller's copy must be made anew."""

    status = 410


class TooLarge(CdpError):
    status = 413


class Unprocessable(CdpError):
    """The request is well formed but wrong; ``path`` is a JSON Pointer into the posted body."""

    status = 422

    def __init__(self, code: str, message: str, *, path: str = "", **details: Any) -> None:
        super().__init__(code, message, details={"path": path, **details})


class TooManyRequests(CdpError):
    status = 429


class NotInstalled(CdpError):
    """An optional part of the program is missing; the message names the extra that has it."""

    status = 501


class Unavailable(CdpError):
    status = 503


class InsufficientStorage(CdpError):
    status = 507


class SetupError(Exception):
    """The program cannot start as configured. The message is one line that says what to do."""
