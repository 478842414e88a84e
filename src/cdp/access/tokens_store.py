"""Tokens in Postgres. Only a hash is kept: whoever reads the table cannot use what is in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cdp.storage.database import Driver

PREFIX = "cdp_"
_RANDOM_BYTES = 24  # 32 characters of URL-safe base64


@dataclass(frozen=True, slots=True)
class Token:
    """A token as kept: what it is called, what it allows, when it was used. Never its text."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = "token_id, name, scopes, created_at, last_used_at, revoked_at"


def hash_token(token: str) -> str:
    """Return what is stored of ``token``. It is random, so it needs neither salt nor stretching."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(connection: Driver, name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """Make a token that allows ``scopes``; return its id and its text, shown only now."""
    token_id = f"tok_{secrets.token_hex(10)}"
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    connection.execute(
        "INSERT INTO tokens (token_id, name, token_hash, scopes) VALUES (%s, %s, %s, %s)",
        (token_id, name, hash_token(token), sorted(set(scopes))),
    )
    return token_id, token


def list_tokens(
    connection: Driver, *, limit: int = 1000, after: tuple[datetime, str] | None = None
) -> list[Token]:
    """Return tokens that are not revoked, oldest first, from past ``after`` (created at, id)."""
    created, token_id = after or (None, None)
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM tokens
             WHERE revoked_at IS NULL
               AND (%(created)s::timestamptz IS NULL
                    OR (created_at, token_id) > (%(created)s::timestamptz, %(id)s::text))
             ORDER BY created_at, token_id LIMIT %(limit)s""",
        {"created": created, "id": token_id, "limit": limit},
    ).fetchall()
    return [_read(row) for row in rows]


def revoke_token(connection: Driver, token_id: str, at: datetime) -> bool:
    """Make a token useless from ``at`` on; return whether there was such a token in use."""
    cursor = connection.execute(
        "UPDATE tokens SET revoked_at = %s WHERE token_id = %s AND revoked_at IS NULL",
        (at, token_id),
    )
    return cursor.rowcount == 1


def find_token(connection: Driver, token: str) -> Token | None:
    """Return the token with this text, unless it is unknown or revoked."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM tokens WHERE token_hash = %s AND revoked_at IS NULL",
        (hash_token(token),),
    ).fetchone()
    return None if row is None else _read(row)


def mark_used(connection: Driver, token_id: str, at: datetime) -> None:
    """Remember that a token was used."""
    connection.execute("UPDATE tokens SET last_used_at = %s WHERE token_id = %s", (at, token_id))


def _read(row: tuple[object, ...]) -> Token:
    token_id, name, scopes, created_at, last_used_at, revoked_at = row
    return Token(token_id, name, tuple(scopes), created_at, last_used_at, revoked_at)  # type: ignore[arg-type]
