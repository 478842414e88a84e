"""Parts that a laptop may lack: their tests are skipped with one loud line at the end of the run.

With ``CI=true`` a missing part is a failure.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MISSING: dict[str, str] = {}
"""What was asked for and not there: part → what to do about it."""


def miss(part: str, remedy: str) -> NoReturn:
    """Skip the asking test, or fail it where nothing may be missing."""
    MISSING[part] = remedy
    reason = f"{part} is missing: {remedy}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
