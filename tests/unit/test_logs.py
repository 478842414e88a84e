"""Log lines say what failed and where, and nothing of what the values were."""

from __future__ import annotations

import json

import pytest
import structlog

from cdp.runtime.logs import configure_logs, get_logger


def _fail(secret: str) -> None:
    raise ValueError(f"bad value {secret}")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_failure_is_placed_without_its_message_or_values(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(form)  # type: ignore[arg-type]
    try:
        _fail("ann@example.com")
    except ValueError as error:
        get_logger("test").error("it_failed", exc_info=error)
    finally:
        structlog.reset_defaults()
    written = capsys.readouterr().err
    assert "ann@example.com" not in written
    assert "ValueError" in written
    assert "_fail" in written
    assert len(written.strip().splitlines()) == 1


def test_secrets_are_hidden_whoever_passes_them(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        get_logger("test").info("it_happened", token="cdp_secret", source="src_1")
    finally:
        structlog.reset_defaults()
    line = json.loads(capsys.readouterr().err)
    assert (line["token"], line["source"]) == ("[hidden]", "src_1")
