"""The private file with what a newcomer needs: ``$CDP_DATA_DIR/credentials.json``, mode 0600."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from cdp.errors import SetupError
from cdp.runtime.run_folder import write_private

FILE_NAME = "credentials.json"


class Credentials(NamedTuple):
    """What a newcomer needs to post and to ask."""

    url: str
    write_key: str
    token: str
    web_write_key: str


def read_credentials(folder: Path) -> Credentials | None:
    """Return what ``folder``'s file says, or ``None`` when it is missing or unreadable."""
    try:
        document = json.loads((folder / FILE_NAME).read_text())
        return Credentials(**{name: str(document[name]) for name in Credentials._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_credentials(folder: Path, credentials: Credentials) -> None:
    """Write the file. Raises ``SetupError`` when that is impossible."""
    try:
        write_private(folder / FILE_NAME, credentials._asdict())
    except OSError as error:
        raise SetupError(f"cannot write {folder / FILE_NAME}: {error.strerror}") from error
