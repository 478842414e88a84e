"""The folder of exports: ``$CDP_DATA_DIR/exports/<job id>.zip``, readable by its owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile


class Archives:
    """Archives by job id."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "exports"

    def path(self, job_id: str) -> Path:
        """Return where the archive of a job lies, whether or not it does."""
        return self.folder / f"{job_id.replace('/', '_')}.zip"

    @contextmanager
    def write(self, job_id: str) -> Iterator[ZipFile]:
        """Give an archive to be written; it gets its name when the block ends well."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path(job_id).with_suffix(".part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            with ZipFile(file, "w", ZIP_DEFLATED) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path(job_id))

    def remove(self, job_id: str) -> bool:
        """Remove a job's archive, and what was begun of it; return whether there was one."""
        self.path(job_id).with_suffix(".part").unlink(missing_ok=True)
        existed = self.path(job_id).exists()
        self.path(job_id).unlink(missing_ok=True)
        return existed
