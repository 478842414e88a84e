"""Under which names personal values stand, where somebody chose otherwise than the names say.

A process serves one installation, so its choices are known to all masks of the process, without
being handed through every answer. They are read again with each look at a token, so a choice made
elsewhere holds within a second or so; one made here holds at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdp.storage.database import Driver

_MOST_CHOICES = 10_000

_chosen: Mapping[str, bool] = {}


def list_choices() -> Mapping[str, bool]:
    """Return by name what was chosen: whether values under it are personal."""
    return _chosen


def use_choices(choices: Mapping[str, bool]) -> None:
    """Have every mask of this process go by ``choices`` from now on."""
    global _chosen
    if choices != _chosen:
        _chosen = dict(choices)


def refresh_choices(connection: Driver) -> None:
    """Have every mask go by what is chosen now."""
    use_choices(read_choices(connection))


def read_choices(connection: Driver) -> dict[str, bool]:
    """Return what is chosen."""
    rows = connection.execute(
        "SELECT name, personal FROM trait_settings ORDER BY name LIMIT %s", (_MOST_CHOICES,)
    )
    return dict(rows.fetchall())


def choose(connection: Driver, name: str, personal: bool | None) -> bool:
    """Keep that ``name`` is personal or is not; ``None`` lets the name decide again.

    Returns whether that is a change.
    """
    if personal is None:
        done = connection.execute("DELETE FROM trait_settings WHERE name = %s", (name,))
    else:
        done = connection.execute(
            """INSERT INTO trait_settings AS known (name, personal) VALUES (%s, %s)
                   ON CONFLICT (name) DO UPDATE
                  SET personal = excluded.personal, updated_at = now()
                WHERE known.personal <> excluded.personal""",
            (name, personal),
        )
    return done.rowcount > 0
