"""A process that applies rules piece by piece and kills itself before it commits one of them.

python -m tests.support.apply_rules_and_die DATABASE_URL PIECES NODES_AT_ONCE
"""

from __future__ import annotations

import os
import signal
import sys

from cdp.identity.apply_rules_store import apply_next
from cdp.storage.database import Database, driver
from tests.support.identity_world import START

if __name__ == "__main__":
    url, pieces, max_nodes = sys.argv[1:]
    for piece in range(int(pieces) + 1):
        with Database(url).transaction() as connection:
            assert apply_next(driver(connection), "CN", START, max_nodes=int(max_nodes))
            if piece == int(pieces):
                os.kill(os.getpid(), signal.SIGKILL)
