"""The supervisor's decisions, and who may run on a data folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from cdp.errors import SetupError
from cdp.runtime.run_folder import claim_folder, read_run, write_private
from cdp.runtime.supervise import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    WELL_AFTER_SECONDS,
    Backoff,
    describe_end,
)


def test_waits_double_up_to_a_longest() -> None:
    backoff = Backoff()

    waits = [backoff.fail(now=0.0, lived=1.0) for _ in range(10)]

    assert waits[:3] == [FIRST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2, FIRST_WAIT_SECONDS * 4]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_a_long_life_is_forgiven() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.fail(now=0.0, lived=1.0)

    assert backoff.fail(now=100.0, lived=WELL_AFTER_SECONDS) == FIRST_WAIT_SECONDS
    assert backoff.start_at == 100.0 + FIRST_WAIT_SECONDS


def test_an_end_is_told_in_words() -> None:
    assert describe_end(3) == "ended with exit code 3"
    assert describe_end(-9) == "was ended by SIGKILL"


def test_a_second_run_on_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    with claim_folder(tmp_path) as run:
        run.url = "http://127.0.0.1:8080"
        run.save()

        with pytest.raises(SetupError) as refusal, claim_folder(tmp_path):
            pass

    assert str(os.getpid()) in str(refusal.value)
    assert "http://127.0.0.1:8080" in str(refusal.value)


def test_a_folder_is_free_again_after_its_run(tmp_path: Path) -> None:
    with claim_folder(tmp_path):
        pass
    with claim_folder(tmp_path) as run:
        assert run.folder == tmp_path


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="CDP_DATA_DIR"), claim_folder(tmp_path / "file" / "data"):
        pass


def test_a_recorded_number_that_another_process_bears_now_is_left_alone(tmp_path: Path) -> None:
    with claim_folder(tmp_path) as run:
        record = {"children": [{"name": "worker", "pid": os.getpid(), "started": 1.0}]}
        (tmp_path / "run.json").write_text(json.dumps(record))

        assert run.end_leftovers() == []


def test_an_unreadable_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{half")

    assert read_run(tmp_path) == {}


def test_private_files_are_for_the_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "secret.json", {"token": "x"})

    assert stat.S_IMODE((tmp_path / "secret.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "secret.json").read_text()) == {"token": "x"}
