"""What ``cdp demo`` does: make the sources, post the history, wait, say what to try next."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, date, datetime
from typing import Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cdp.cli.client import ApiClient, ApiRefused, open_client
from cdp.cli.output import error_console, print_rows
from cdp.demo.history import SourceName, count_lives, generate
from cdp.demo.wire_post import WirePoster
from cdp.model import SourceType
from cdp.runtime.clock import now

_SOURCES: dict[SourceName, tuple[str, SourceType]] = {
    "web": ("demo web shop", "web"),
    "app": ("demo app", "app"),
    "store": ("demo stores", "store"),
    "crm": ("demo CRM", "crm"),
    "service": ("demo service desk", "service"),
    "server": ("demo shop backend", "server"),
}
_SETTLE_SECONDS = 120

RULE = (
    '{"all": ['
    '{"event": "Order Completed", "within": {"last": "30d"}, "count": {"op": "gte", "value": 2}}, '
    '{"event": "Order Refunded", "within": {"last": "30d"}, "count": {"op": "eq", "value": 0}}, '
    '{"consent": "marketing", "op": "granted"}]}'
)
EXAMPLE_SEGMENTS: dict[str, tuple[str, Any]] = {
    "high_value": (
        "High value",
        {"tag": "value_tier.tier", "op": "in", "value": ["platinum", "gold"]},
    ),
    "potential": (
        "Potential",
        {
            "tag": "rfm.group",
            "op": "in",
            "value": ["new", "promising", "potential_loyalist"],
        },
    ),
    "churn_risk": ("Churn risk", {"tag": "churn_risk.band", "op": "eq", "value": "high"}),
    "low_frequency": ("Low frequency", {"tag": "rfm.f", "op": "lte", "value": 2}),
}
QUESTION = (
    "select event, count(*) as events, count(distinct profile_id) as people "
    "from events where type = 'track' group by event order by events desc"
)


def run_demo(*, people: int, days: int, seed: int, end: str | None) -> None:
    """Post the history of ``seed`` that ends with the midnight (UTC) before ``end``, or today.

    Raises ``typer.BadParameter`` for a bad date, ``SetupError`` or ``ApiRefused`` when the
    server cannot take it.
    """
    last = _read_end(end)
    with open_client() as client:
        poster_http = httpx.Client(base_url=client.url, timeout=60, trust_env=False)
        with poster_http as http:
            poster = WirePoster(http, find_write_keys(client), say=_remark)
            _post_all(poster, seed, people, days, last)
        _wait_until_seen(client, list(poster.receipts.values()))
        make_examples(client)
        print_rows(
            [{"source": _SOURCES[name][0], "accepted": n} for name, n in poster.accepted.items()],
            as_json=False,
        )
        if poster.rejected:
            print_rows(poster.rejected[:10], as_json=False)
        print(_describe_next(client.url))


def make_examples(client: ApiClient) -> None:
    """Make the standard tags and the example segments that do not exist yet."""
    with error_console().status("computing tags and example segments"):
        client.call("POST", "/v1/tags/standard")
        known = {row["key"] for row in client.pages("/v1/segments", limit=1000)}
        for key, (name, rule) in EXAMPLE_SEGMENTS.items():
            if key not in known:
                client.call("POST", "/v1/segments", body={"key": key, "name": name, "rule": rule})


def find_write_keys(client: ApiClient) -> dict[SourceName, str]:
    """Return a write key per demo source, making the sources that do not exist yet.

    A second run must use the same sources: messages are told apart per source.
    """
    existing: dict[tuple[str, str], dict[str, Any]] = {}
    for row in client.pages("/v1/sources", limit=1000):
        existing.setdefault((row["name"], row["type"]), row)
    return {
        source: _find_key(client, existing.get(wanted)) or _create(client, *wanted)
        for source, wanted in _SOURCES.items()
    }


def _find_key(client: ApiClient, row: dict[str, Any] | None) -> str | None:
    if row is None:
        return None
    keys = [key.get("write_key") for key in row.get("keys") or ()] or [row.get("write_key")]
    if keys and keys[0]:
        return str(keys[0])
    return str(client.call("POST", f"/v1/sources/{row['id']}/keys")["write_key"])


def _create(client: ApiClient, name: str, kind: SourceType) -> str:
    body = {"name": name, "type": kind, "settings": {}}
    return str(client.call("POST", "/v1/sources", body=body)["write_key"])


def _remark(text: str) -> None:
    """Print above the progress bar, which stands in for stderr while it is shown."""
    error_console().print(text, style="dim", markup=False)


def _post_all(poster: WirePoster, seed: int, people: int, days: int, end: datetime) -> None:
    columns = (
        TextColumn("posting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("people, {task.fields[calls]} events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=error_console()) as progress:
        task = progress.add_task("", total=count_lives(people), calls=0)
        calls = 0
        for life in generate(seed, people, days, end):
            poster.post(life)
            calls += len(life)
            progress.update(task, advance=1, calls=calls)
        poster.finish()


def _wait_until_seen(client: ApiClient, receipts: list[str]) -> None:
    """Wait until everything posted is in profiles and analytics, but not for ever."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with error_console().status("waiting until everything is to be seen"):
        for receipt in receipts:
            while time.monotonic() < deadline:
                try:
                    seen = client.call("GET", f"/v1/receipts/{receipt}", params={"wait": "5s"})
                except ApiRefused:
                    return
                if seen.get("profiles") and seen.get("analytics"):
                    break


def _read_end(text: str | None) -> datetime:
    if text is None:
        day = now().date()
    else:
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise typer.BadParameter("a date, such as 2026-03-01", param_hint="--end") from error
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _describe_next(url: str) -> str:
    return f"""
Tags (RFM, value tiers, churn risk, lifecycle, …) and four segments are there:

  cdp tag list
  cdp tag distribution rfm --field group
  cdp segment members high_value --fields email,tags.value_tier.tier

Try next:

  cdp segment create loyal --name "Paid twice in 30 days" --rule {shlex.quote(RULE)}
  cdp segment members loyal --fields email,traits.city --format csv
  cdp segment changes loyal
  cdp sql "{QUESTION}"
  cdp profile show user_id:u1000007

Or over HTTP: {url}/docs
"""
