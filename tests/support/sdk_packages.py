"""Where the SDKs' packages are: npm and pip install them once per version into a cache."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from tests.support.parts import miss

SCRIPTS = Path(__file__).parent.parent / "sdk"
_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
_REMEDIES = {
    "chromium": "install Debian's package chromium",
    "openssl": "install Debian's package openssl",
}
# What older versions need besides the newest one's requirements.
_NEEDS = {"rudder-sdk-python": ("monotonic",)}


@functools.cache
def install_node_sdks() -> Path:
    """Return a folder with the scripts and their packages, as the lock file has them."""
    npm = find_program("npm")
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    packages = _cache() / f"sdks-{blake2b(lock, digest_size=8).hexdigest()}"
    if not (packages / "node_modules").is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="sdks-", dir=_cache()))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SCRIPTS / name, fresh)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        _install(command, fresh, packages, "npm packages")
    for script in (*SCRIPTS.glob("*.mjs"), *SCRIPTS.glob("*.html")):
        shutil.copy(script, packages)
    return packages


@functools.cache
def install_python_sdk(package: str, version: str) -> Path:
    """Return a folder with another version of a Python SDK; what it needs is installed anyway."""
    folder = _cache() / f"{package}-{version}"
    if not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="sdk-", dir=_cache()))
        command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--quiet"]
        command += ["--python", sys.executable, "--target", str(fresh), f"{package}=={version}"]
        command += _NEEDS.get(package, ())
        _install(command, fresh, folder, f"{package} {version}")
    return folder


def find_program(program: str) -> str:
    """Return the path of node, npm, chromium or openssl; skip or fail the test without it."""
    # Node and npm may come from a wheel, beside the interpreter.
    places = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    for name in (program, *_OTHER_NAMES.get(program, ())):
        found = shutil.which(name, path=places)
        if found is not None:
            break
    else:
        miss(program, _REMEDIES.get(program, "install Node.js 20 or newer"))
    return found


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdp-tests"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _install(command: Sequence[str], fresh: Path, folder: Path, what: str) -> None:
    """Run an installer in ``fresh``, which becomes ``folder`` when all is in it."""
    installed = subprocess.run(
        command, cwd=fresh, capture_output=True, text=True, timeout=300, check=False
    )
    if installed.returncode != 0:
        shutil.rmtree(fresh)
        miss(what, f"the installer failed: {installed.stderr.strip()[-300:]}")
    try:
        fresh.rename(folder)
    except OSError:  # Another run was faster.
        shutil.rmtree(fresh)
