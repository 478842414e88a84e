"""``cdp account``: companies and households, by their account id."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows

app = typer.Typer(help="Companies and households.", no_args_is_help=True)

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT_ID", help="Such as acme.")]
After = Annotated[str | None, typer.Option(help="A receipt: wait until that write is to be seen.")]


def _ask(path: str, **params: Any) -> Any:
    if params.get("after") is not None:
        params["wait"] = "10s"
    with open_client() as client:
        return client.call("GET", path, params=params)


@app.command("list")
def list_accounts(
    kind: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    q: Annotated[str | None, typer.Option("--q", help="How the id or the name begins.")] = None,
    traits: Annotated[
        list[str] | None, typer.Option("--trait", metavar="NAME=VALUE", help="With this trait.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where `next` says.")] = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """List accounts in the order in which they became known."""
    asked = dict(_read_trait(one) for one in traits or ())
    page = _ask("/v1/accounts", type=kind, q=q, limit=limit, cursor=cursor, after=after, **asked)
    if as_json:
        print_record(page, as_json=True)
        return
    columns = ["account_id", "type", "parent_account_id", "traits"]
    print_rows(page["data"], columns, as_json=False)


@app.command("show")
def show(account_id: AccountId, after: After = None, as_json: JsonFlag = False) -> None:
    """Show an account: traits, relatives, its first members, what all members come to."""
    account = _ask(f"/v1/accounts/{quote(account_id, safe='')}", after=after)
    if as_json:
        print_record(account, as_json=True)
        return
    members, traits = account.pop("members"), account.pop("traits")
    figures, rollup = account.pop("figures"), account.pop("rollup")
    print_record(account, as_json=False)
    print()
    print_rows(
        [{"trait": name, "value": value} for name, value in traits.items()],
        ["trait", "value"],
        as_json=False,
    )
    print()
    print_record(figures, as_json=False)
    if rollup is not None:
        print("\nwith all accounts below it")
        print_record(rollup, as_json=False)
    print()
    print_rows(members, ["profile_id", "role", "since"], as_json=False)


Rows = Annotated[int, typer.Option(min=1, max=1000)]
Cursor = Annotated[str | None, typer.Option(help="Go on where `next` says.")]
Below = Annotated[bool, typer.Option("--below", help="Those of the accounts below it too.")]


def _show_list(account_id: str, name: str, columns: list[str], as_json: bool, **asked: Any) -> None:
    page = _ask(f"/v1/accounts/{quote(account_id, safe='')}/{name}", **asked)
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], columns, as_json=False)


@app.command("members")
def members(
    account_id: AccountId,
    limit: Rows = 50,
    cursor: Cursor = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """List who belongs to an account, and as what."""
    columns = ["profile_id", "role", "since"]
    _show_list(account_id, "members", columns, as_json, limit=limit, cursor=cursor, after=after)


@app.command("orders")
def orders(
    account_id: AccountId,
    below: Below = False,
    limit: Rows = 50,
    cursor: Cursor = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """List what its members bought, newest first."""
    _show_list(
        account_id, "orders", ["placed_at", "profile_id", "order_id", "status", "net"], as_json,
        below=below, limit=limit, cursor=cursor, after=after,
    )  # fmt: skip


@app.command("events")
def events(
    account_id: AccountId,
    event: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    below: Below = False,
    limit: Rows = 50,
    cursor: Cursor = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """List what its members did, newest first."""
    _show_list(
        account_id, "events", ["timestamp", "profile_id", "type", "event", "properties"], as_json,
        event=event, below=below, limit=limit, cursor=cursor, after=after,
    )  # fmt: skip


def _read_trait(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r}: write a trait as NAME=VALUE")
    return f"trait.{name}", value
