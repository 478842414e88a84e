"""Where the archive lies: a folder, or anything that ``pyarrow.fs`` reaches by a URL.

A file is there whole or not at all, under a name that it has for itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from cdp.settings import Settings

OFF = "off"
_KNOWN_FILES = 4096


class HashingFile:
    """A file that is written once, from front to back; knows its digest and size at the end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._digest.update(data)
        self._file.write(data)
        length = memoryview(data).nbytes
        self.size += length
        return length

    def tell(self) -> int:
        """Return how much was written."""
        return self.size

    def flush(self) -> None:
        """Nothing: the file is made durable as a whole."""

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""

    @property
    def sha256(self) -> str:
        """The digest of what was written, in hexadecimal."""
        return self._digest.hexdigest()


class ArchiveFolder:
    """Files by their path below the archive's root. Safe to share between threads."""

    def __init__(self, place: Path | str) -> None:
        """``place`` is a folder, or a URL such as ``s3://bucket/path?region=…``."""
        self._place = place
        self._opened: tuple[Any, str] | None = None
        self._footers: dict[str, pq.FileMetaData] = {}

    @property
    def name(self) -> str:
        """What to call it, without the credentials that a URL may hold."""
        text = str(self._place)
        head, at, rest = text.partition("://")
        bare = rest.partition("?")[0].rpartition("@")[2]
        return f"{head}{at}{bare}" if at else text

    @contextmanager
    def create(self, path: str) -> Iterator[HashingFile]:
        """Give a file to be written; it is there when the block ends well, and durable."""
        system, root = self._open()
        if isinstance(system, fs.LocalFileSystem):
            with _create_here(Path(root) / path) as file:
                yield HashingFile(file)
            return
        # An object of a store appears when it is complete.
        stream = system.open_output_stream(f"{root}/{path}")
        try:
            yield HashingFile(stream)
        except BaseException:
            if hasattr(stream, "abort"):
                stream.abort()
            raise
        stream.close()

    def open(self, path: str) -> pq.ParquetFile:
        """Open a file of Parquet. Raises ``FileNotFoundError``."""
        system, root = self._open()
        known = self._footers.get(path)
        file = pq.ParquetFile(system.open_input_file(f"{root}/{path}"), metadata=known)
        if known is None:
            if len(self._footers) >= _KNOWN_FILES:
                self._footers.clear()
            self._footers[path] = file.metadata
        return file

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, or ``None`` when there is none."""
        system, root = self._open()
        try:
            with system.open_input_stream(f"{root}/{path}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of a file in hexadecimal, or ``None`` when there is none."""
        system, root = self._open()
        found = hashlib.sha256()
        try:
            with system.open_input_stream(f"{root}/{path}") as file:
                while data := file.read(1 << 20):
                    found.update(data)
        except FileNotFoundError:
            return None
        return found.hexdigest()

    def remove(self, path: str) -> None:
        """Remove a file, if there is one, and its folder when nothing else is in it."""
        system, root = self._open()
        self._footers.pop(path, None)
        if isinstance(system, fs.LocalFileSystem):
            file = Path(root) / path
            file.unlink(missing_ok=True)
            try:
                file.parent.rmdir()
            except OSError:
                return
            return
        try:
            system.delete_file(f"{root}/{path}")
        except FileNotFoundError:
            return

    def list(self, below: str) -> list[str]:
        """Return the paths of all files below a folder, begun ones included."""
        system, root = self._open()
        chosen = fs.FileSelector(f"{root}/{below}", allow_not_found=True, recursive=True)
        return sorted(
            info.path.removeprefix(f"{root}/")
            for info in system.get_file_info(chosen)
            if info.type == fs.FileType.File
        )

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            place = self._place
            if isinstance(place, Path):
                self._opened = fs.LocalFileSystem(), str(place.resolve())
            else:
                system, root = fs.FileSystem.from_uri(place)
                self._opened = system, root.rstrip("/")
        return self._opened


@contextmanager
def _create_here(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Engines that read whole folders leave out names that begin so.
    begun = path.with_name(f"_{path.name}.writing")
    try:
        descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(begun, path)
    except BaseException:
        begun.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_folder(settings: Settings) -> ArchiveFolder | None:
    """Return the archive of this installation; ``None`` when it is to have none."""
    url = settings.archive_url
    if url == OFF:
        return None
    if url is None:
        return ArchiveFolder(settings.data_dir / "archive")
    return ArchiveFolder(url if "://" in url else Path(url))


def write_table(folder: ArchiveFolder, path: str, batches: Any, schema: pa.Schema) -> HashingFile:
    """Write a file of Parquet as a whole; return its digest and size."""
    with folder.create(path) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch.cast(schema))
        return file
