"""A process that refreshes and kills itself between the commits of Postgres and DuckDB.

python -m tests.support.refresh_and_die DATABASE_URL FILE NOW
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime

from cdp.analytics.engine import Engine
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database


def die() -> None:
    """End at once, as ``kill -9`` does: nothing is flushed, closed or rolled back by hand."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    url, file, now = sys.argv[1:]
    Refresher(
        Database(url), Engine(file), timezone="UTC", time_seconds=15, before_mirror_commit=die
    ).refresh(datetime.fromisoformat(now))
