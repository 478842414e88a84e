"""``cdp rejected``: what was refused, why, and judging it again after a fix."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from cdp.cli.client import ApiClient, open_client
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows

app = typer.Typer(help="Refused events: list, count, replay.", no_args_is_help=True)
letters = typer.Typer(help="Records of the log that nobody could read.", no_args_is_help=True)
app.add_typer(letters, name="letters")

Source = Annotated[str | None, typer.Option(metavar="SOURCE_ID", help="Of this source.")]
Code = Annotated[str | None, typer.Option(help="Refused for this reason.")]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Received from then.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Received before then.")]
Status = Annotated[str | None, typer.Option(help="open or replayed.")]

_COLUMNS = ("id", "received_at", "source_id", "kind", "code", "messageId", "message", "status")


@app.command("list")
def list_rejected(
    source: Source = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List refused events, newest first."""
    params = _filter(source, code, since, until) | {"status": status, "limit": limit}
    with open_client() as client:
        rows = client.call("GET", "/v1/rejected", params=params)["data"]
    print_rows(rows, _COLUMNS, as_json=as_json)


@app.command("show")
def show_rejected(rejected_id: str, as_json: JsonFlag = False) -> None:
    """Show one refused event with its bytes."""
    with open_client() as client:
        print_record(client.call("GET", f"/v1/rejected/{rejected_id}"), as_json=as_json)


@app.command("counts")
def count_rejected(
    source: Source = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    as_json: JsonFlag = False,
) -> None:
    """Count refused events by source and reason."""
    params = _filter(source, code, since, until) | {"status": status}
    with open_client() as client:
        rows = client.call("GET", "/v1/rejected/counts", params=params)["data"]
    print_rows(rows, as_json=as_json)


@app.command("replay")
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID")] = None,
    source: Source = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was refused.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Judge refused events again by today's rules; those that pass are stored, once."""
    chosen = {name: value for name, value in _filter(source, code, since, until).items() if value}
    if not ids and not chosen and not everything:
        raise typer.BadParameter("say which: ids, --source, --code, --from, --to, or --all")
    if ids and (chosen or everything):
        raise typer.BadParameter("give either ids or a filter")
    with open_client() as client:
        total = _replay(client, {"ids": ids} if ids else chosen)
    if as_json:
        print_json(total)
    else:
        reasons = ", ".join(f"{one['count']} {one['code']}" for one in total["reasons"])
        print_record({**total, "reasons": reasons or None}, as_json=False)


@letters.command("list")
def list_letters(
    all_of_them: Annotated[bool, typer.Option("--all", help="Also resolved ones.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List records that nobody could read, newest first."""
    params = {"limit": 1000, "open": None if all_of_them else True}
    with open_client() as client:
        rows = client.call("GET", "/v1/dead-letters", params=params)["data"]
    print_rows(rows, as_json=as_json)


@letters.command("replay")
def replay_letter(letter_id: str, as_json: JsonFlag = False) -> None:
    """Append a record to the log once more, as it is."""
    with open_client() as client:
        done = client.call("POST", f"/v1/dead-letters/{letter_id}/replay")
    print_record(done, as_json=as_json)


@letters.command("discard")
def discard_letter(letter_id: str, as_json: JsonFlag = False) -> None:
    """Say that nothing is to be done about a record."""
    with open_client() as client:
        done = client.call("POST", f"/v1/dead-letters/{letter_id}/discard")
    print_record(done, as_json=as_json)


def _filter(
    source: str | None, code: str | None, since: str | None, until: str | None
) -> dict[str, Any]:
    return {"source": source, "code": code, "from": since, "to": until}


def _replay(client: ApiClient, wanted: dict[str, Any]) -> dict[str, Any]:
    """Replay piece by piece to the end; return the totals."""
    names = ("replayed", "still_rejected", "already_replayed")
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    receipt: str | None = None
    cursor: str | None = None
    while True:
        body = {**wanted, **({"cursor": cursor} if cursor else {})}
        piece = client.call("POST", "/v1/rejected/replay", body=body)
        totals.update({name: piece[name] for name in names})
        reasons.update({one["code"]: one["count"] for one in piece["reasons"]})
        receipt = piece["receipt"] or receipt
        cursor = piece["next"]
        if cursor is None:
            break
        error_console().print(f"{sum(totals.values())} looked at", style="dim")
    return {
        **{name: totals[name] for name in names},
        "reasons": [{"code": code, "count": count} for code, count in reasons.most_common()],
        "receipt": receipt,
    }
