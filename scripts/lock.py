"""Write requirements.txt and requirements-dev.txt from pyproject.toml: versions and hashes only.

A lock file must not say where packages come from; that is for the machine that installs them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ADDRESS = re.compile(r"https?://|--(extra-)?index-url|--find-links")


def lock(name: str, *groups: str) -> None:
    """Compile ``name``. Raises ``SystemExit`` when the result names an address."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *groups,
        "--universal", "--python-version", "3.11", "--generate-hashes",
        "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate",
        "--upgrade", "--quiet", "--output-file", name,
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    text = (ROOT / name).read_text()
    if _ADDRESS.search(text):
        raise SystemExit(f"{name} names an address")
    (ROOT / name).write_text(f"# Written by `make lock` from pyproject.toml.\n{text}")


if __name__ == "__main__":
    lock("requirements.txt")
    lock("requirements-dev.txt", "--group", "dev")
