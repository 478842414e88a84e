"""Files are never changed: one without some rows takes the place of one with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.archive_store import list_parts
from cdp.archive.layout import EVENTS, Part, number_of
from cdp.archive.read_parts import iterate_rows
from cdp.archive.write_parts import write_parts
from cdp.storage.database import Database, driver

Choose = Callable[[pa.RecordBatch], pa.Array]
"""Says which rows stay."""


class Rewritten(NamedTuple):
    """What takes the place of a file."""

    part: Part | None
    """``None``: nothing is left."""


def rewrite_part(folder: ArchiveFolder, part: Part, choose: Choose) -> Rewritten | None:
    """Write what is chosen of a file as another file; ``None``: that is all of it."""

    def select() -> Iterator[pa.RecordBatch]:
        for batch in iterate_rows(folder, part.path):
            kept = batch.filter(choose(batch))
            if kept.num_rows:
                yield kept

    number = number_of(part.path)
    written = write_parts(folder, part.day, select(), first_number=number, most_rows=part.rows)
    if not written:
        return Rewritten(None)
    [new] = written
    if new.rows == part.rows:
        folder.remove(new.path)
        return None
    return Rewritten(new)


def tidy(database: Database, folder: ArchiveFolder) -> None:
    """Remove files that are nobody's: whoever wrote or replaced them was ended.

    Only for who holds the archive.
    """
    with database.transaction() as connection:
        known = {part.path for part in list_parts(driver(connection))}
    for path in folder.list(EVENTS):
        if path not in known:
            folder.remove(path)
