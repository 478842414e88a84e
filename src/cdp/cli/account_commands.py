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
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where `next` says.")] = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """List accounts in the order in which they became known."""
    page = _ask("/v1/accounts", type=kind, limit=limit, cursor=cursor, after=after)
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
    print_record(account, as_json=False)
    print()
    print_rows(
        [{"trait": name, "value": value} for name, value in traits.items()],
        ["trait", "value"],
        as_json=False,
    )
    print()
    print_rows(members, ["profile_id", "role", "since"], as_json=False)
