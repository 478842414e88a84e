"""The image, the composition, the lock files and the wheel, as far as no engine is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdp.cli import app
from cdp.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found: dict[str, Any] = document["services"]
    return found


def dockerfile() -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def test_every_part_of_the_product_is_composed(services: dict[str, Any]) -> None:
    assert set(services) >= {"postgres", "kafka", "migrate", "ingest", "worker", "api", "front"}


def test_every_setting_in_the_composition_exists(services: dict[str, Any]) -> None:
    known = {f"CDP_{name.upper()}" for name in Settings.model_fields}

    for service in services.values():
        names = {name for name in service.get("environment", ()) if name.startswith("CDP_")}
        assert names <= known


def test_whatever_is_waited_for_exists_and_can_become_healthy(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in services
            if condition["condition"] == "service_healthy":
                health = services[name].get("healthcheck", {"test": "from the image"})
                assert not health.get("disable")


def test_roles_wait_for_the_migration(services: dict[str, Any]) -> None:
    for name in ("ingest", "worker", "api"):
        condition = services[name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully"


def test_the_commands_of_the_composition_exist(services: dict[str, Any]) -> None:
    known = {command.name for command in app.registered_commands}

    for name in ("migrate", "ingest", "worker", "api", "keys"):
        assert services[name]["command"][0] in known


def test_volumes_that_are_mounted_are_declared(services: dict[str, Any]) -> None:
    declared = set(yaml.safe_load((ROOT / "compose.yaml").read_text())["volumes"])
    mounted = {
        volume.split(":", 1)[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    }

    assert mounted == declared


@pytest.mark.parametrize(
    ("path", "goes_to"),
    [
        ("/v1/batch", "ingest"), ("/v1/identify", "ingest"), ("/t", "ingest"),
        ("/v1/import", "ingest"), ("/v1/orders", "ingest"), ("/v1/hooks/src_1", "ingest"),
        ("/v1/projects/key/settings", "ingest"), ("/sourceConfig/", "ingest"),
        ("/beacon/v1/batch", "ingest"), ("/pixel/v1/track", "ingest"),
        ("/v1/accounts", "accounts_role"),
        ("/v1/profiles/email:a", "api"), ("/v1/segments", "api"), ("/v1/query", "api"),
        ("/v1/receipts/x", "api"), ("/v1/imports", "api"), ("/v1/identity/rules", "api"),
        ("/v1/accounts/acme", "api"), ("/v1/orders/1001", "api"), ("/health/ready", "api"),
        ("/metrics", "api"),
        ("/openapi.json", "api"), ("/example", "api"),
        ("/analytics.js/v1/k/analytics.min.js", "api"),
    ],
)  # fmt: skip
def test_the_path_rule_sends_each_route_to_its_role(path: str, goes_to: str) -> None:
    text = yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]["front"]["content"]
    rules = re.findall(
        r"location (=|~|) ?(\S+) \{ proxy_pass http://\$?(\w+); \}", text.replace("$$", "$")
    )
    exact = [to for kind, what, to in rules if kind == "=" and what == path]
    patterns = [to for kind, what, to in rules if kind == "~" and re.search(what, path)]
    prefixes = [to for kind, what, to in rules if kind == "" and path.startswith(what)]

    # The order in which nginx looks: exact, then patterns as written, then prefixes.
    assert [*exact, *patterns, *prefixes][0] == goes_to
    # Who serves accounts depends on the method: they are posted to ingest, and read from the api.
    assert "map $request_method $accounts_role { POST ingest; default api; }" in text.replace(
        "$$", "$"
    )


def test_the_image_runs_as_somebody_without_rights_and_says_whether_it_lives() -> None:
    last_stage = dockerfile()[
        max(i for i, line in enumerate(dockerfile()) if line.startswith("FROM")) :
    ]

    assert any(re.match(r"USER (?!root|0$)\w+", line) for line in last_stage)
    assert any("HEALTHCHECK" in line and "/health/live" in line for line in last_stage)
    assert sum(line.startswith("FROM") for line in dockerfile()) >= 2


def test_every_file_that_the_image_copies_exists_and_is_not_ignored() -> None:
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for line in dockerfile():
        if not line.startswith("COPY") or "--from" in line:
            continue
        for source in line.split()[1:-1]:
            if "*" in source:
                continue
            name = source.removeprefix("./")
            assert (ROOT / name).exists()
            assert any(name == one or name.startswith(f"{one}/") for one in allowed)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_lock_files_pin_every_package_by_hash_and_name_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    pinned = re.findall(r"^([A-Za-z0-9_.\-\[\]]+)==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(pinned) == len(blocks) > 20
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "index-url" not in text


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = (ROOT / "requirements.txt").read_text()
    locked = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.\-]+)==", text, re.M)}
    wanted = {
        re.split(r"[\[>=<~! ]", line, maxsplit=1)[0].lower()
        for line in project["project"]["dependencies"]
    }

    assert wanted <= locked


def test_the_node_lock_names_no_address() -> None:
    assert "://" not in (ROOT / "examples/web/package-lock.json").read_text()


def test_the_wheel_brings_migrations_and_the_example_page(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    result = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    with zipfile.ZipFile(tmp_path / result.stdout.strip().splitlines()[-1]) as wheel:
        names = set(wheel.namelist())

    assert {"cdp/migrations/env.py", "cdp/example_web/index.html", "cdp/py.typed"} <= names
    assert any(name.startswith("cdp/migrations/versions/0001") for name in names)
