"""How many files and connections this process may hold open."""

from __future__ import annotations

import resource
from contextlib import suppress

_BESIDE_CONNECTIONS = 500
"""For the database, the log, DuckDB's files and the rest."""


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files so that ``count`` connections fit beside the rest.

    Many systems start programs with 1,024, though they may have far more. What the system does not
    grant stays as it is: connections beyond it wait to be accepted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _BESIDE_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
