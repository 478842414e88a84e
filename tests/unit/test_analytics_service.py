"""What the serving process does about what it holds."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from cdp.analytics_service import LossWatch


@dataclass
class _File:
    is_lost: bool = False


def test_a_process_that_lost_its_file_ends_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    file = _File()
    watch = LossWatch(file)  # type: ignore[arg-type]
    watch.look()
    assert not sent
    file.is_lost = True
    watch.look()
    watch.look()
    assert sent == [(os.getpid(), signal.SIGTERM)]
