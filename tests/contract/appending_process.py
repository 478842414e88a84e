"""A process that appends to the log that its environment names until somebody ends it.

Prints one line per acknowledged record: partition, offset, value.
"""

from __future__ import annotations

import itertools

from cdp.log.open import open_log
from cdp.log.port import NewRecord
from cdp.settings import read_settings
from cdp.storage.database import Database


def main() -> None:
    settings = read_settings()
    assert settings.database_url is not None
    log = open_log(settings, Database(settings.database_url))
    waiting = []
    for number in itertools.count():
        partition = number % log.partitions
        value = f"value {number}"
        waiting.append(
            (partition, value, log.append([NewRecord(partition, None, {}, value.encode())]))
        )
        # Always with some under way, so that the end finds appends at every stage.
        if len(waiting) > 20:
            partition, value, future = waiting.pop(0)
            print(partition, future.result()[0], value, flush=True)


if __name__ == "__main__":
    main()
