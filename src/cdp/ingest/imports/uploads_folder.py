"""The folder of uploaded files: ``$CDP_DATA_DIR/imports/<import id>``, readable by its owner only.

Whole customer lists lie here, until an import has ended and its retention is over; whoever forgets
a person must remove or rewrite these files too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cdp.errors import InsufficientStorage, TooLarge, Unavailable

KEPT_FREE_BYTES = 256 * 1024 * 1024
"""An upload must not take the room that the database next to it needs."""
_PART = ".part"
_ABANDONED_SECONDS = 24 * 3600.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Uploads:
    """Files by import id. Thread-safe."""

    def __init__(self, data_dir: Path, *, max_bytes: int) -> None:
        """``max_bytes``: of one file."""
        self.folder = data_dir / "imports"
        self.max_bytes = max_bytes

    def path(self, import_id: str) -> Path:
        """Return where the file of an import lies, whether or not it does."""
        return self.folder / import_id

    def holds(self, import_id: str) -> bool:
        """Return whether the file of an import is here."""
        return self.path(import_id).is_file()

    def start(self, import_id: str) -> UploadedFile:
        """Begin a file; raises ``InsufficientStorage`` or ``Unavailable``."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return UploadedFile(self.path(import_id), self.max_bytes)
        except OSError as error:
            raise refuse_disk(error) from error

    def expect_room(self, size: int) -> None:
        """Raise ``TooLarge`` or ``InsufficientStorage`` for a file of ``size`` bytes."""
        if size > self.max_bytes:
            raise refuse_size(self.max_bytes)
        folder = self.folder if self.folder.exists() else self.folder.parent
        if folder.exists() and shutil.disk_usage(folder).free - size < KEPT_FREE_BYTES:
            raise _refuse_full()

    def remove(self, import_id: str) -> None:
        """Remove an import's file, if it is here."""
        self.path(import_id).unlink(missing_ok=True)

    def list_abandoned(self) -> Iterator[str]:
        """Yield the ids of files that nobody has written to for a day; removes broken uploads."""
        if not self.folder.exists():
            return
        before = time.time() - _ABANDONED_SECONDS
        for path in self.folder.iterdir():
            try:
                is_old = path.stat().st_mtime < before
            except FileNotFoundError:
                continue
            if is_old and path.suffix == _PART:
                path.unlink(missing_ok=True)
            elif is_old:
                yield path.name


class UploadedFile:
    """A file that is being written: ``keep`` it or ``discard`` it. Blocks; used by one thread."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._part = path.with_name(path.name + _PART)
        self._max_bytes = max_bytes
        self._sha = hashlib.sha256()
        self.size = 0
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    @property
    def digest(self) -> str:
        """SHA-256 of what has been written, hexadecimal."""
        return self._sha.hexdigest()

    @property
    def path(self) -> Path:
        """Where the bytes lie while they are being written."""
        return self._part

    def write(self, data: bytes) -> None:
        """Append; raises ``TooLarge``, ``InsufficientStorage``, ``Unavailable``."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise refuse_size(self._max_bytes)
        try:
            if shutil.disk_usage(self._part.parent).free - len(data) < KEPT_FREE_BYTES:
                raise _refuse_full()
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise refuse_disk(error) from error
        self._sha.update(data)

    def finish(self) -> None:
        """Make what was written survive a power cut; the file is not yet kept."""
        try:
            if not self._file.closed:
                os.fsync(self._file.fileno())
                self._file.close()
        except OSError as error:
            raise refuse_disk(error) from error

    def keep(self) -> None:
        """Give the file its name."""
        self.keep_as(self._path)

    def keep_as(self, path: Path) -> None:
        """Give the file the name ``path``, in the same folder."""
        self.finish()
        os.replace(self._part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Leave nothing behind. Does nothing to a file that was kept."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def refuse_size(max_bytes: int) -> TooLarge:
    """Return the error for a file over the limit."""
    return TooLarge(
        "file_too_large",
        f"a file may have {max_bytes} bytes (CDP_MAX_IMPORT_BYTES); split it, or compress it",
        details={"max_bytes": max_bytes},
    )


def refuse_disk(error: OSError) -> InsufficientStorage | Unavailable:
    """Return the error for a disk that does not take the file."""
    if error.errno in _NO_ROOM:
        return _refuse_full()
    return Unavailable(
        "disk_unavailable", "the data folder cannot be written to; see the server's log"
    )


def _refuse_full() -> InsufficientStorage:
    return InsufficientStorage(
        "disk_full", "the disk of the data folder has no room for this file; nothing was kept"
    )
