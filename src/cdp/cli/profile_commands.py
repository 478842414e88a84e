"""``cdp profile``: one person, named by any identifier such as ``email:ann@example.com``."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from cdp.cli.client import name_profile, open_client
from cdp.cli.output import JsonFlag, print_record, print_rows
from cdp.money import minor_digits

app = typer.Typer(help="People, by any identifier.", no_args_is_help=True)

Person = Annotated[str, typer.Argument(metavar="TYPE:VALUE", help="Such as email:ann@example.com.")]
After = Annotated[str | None, typer.Option(help="A receipt: wait until that write is to be seen.")]


def _ask(person: str, rest: str = "", **params: Any) -> Any:
    if params.get("after") is not None:
        params["wait"] = "10s"
    path = f"/v1/profiles/{name_profile(person)}{rest}"
    with open_client() as client:
        return client.call("GET", path, params=params)


@app.command("show")
def show(person: Person, after: After = None, as_json: JsonFlag = False) -> None:
    """Show who this is: identifiers, traits, consent, figures."""
    profile = _ask(person, after=after)
    if as_json:
        print_record(profile, as_json=True)
        return
    identifiers = profile.pop("identifiers", [])
    traits = profile.pop("traits", {})
    print_record(profile, as_json=False)
    print()
    print_rows(identifiers, as_json=False)
    print()
    print_rows(
        [{"trait": name, "value": value} for name, value in traits.items()],
        ["trait", "value"],
        as_json=False,
    )


@app.command("events")
def events(
    person: Person,
    event: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what they did, newest first."""
    page = _ask(person, "/events", event=event, limit=limit, after=after)
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], ["timestamp", "type", "event", "properties"], as_json=False)


@app.command("orders")
def orders(
    person: Person,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what they bought, newest first, as it stands now."""
    page = _ask(person, "/orders", limit=limit, after=after)
    if as_json:
        print_record(page, as_json=True)
        return
    rows = [
        {**row, **{name: _as_decimal(row[name]) for name in ("total", "refunded", "net")}}
        for row in page["data"]
    ]
    columns = ["placed_at", "order_id", "status", "total", "refunded", "net", "store", "channel"]
    print_rows(rows, columns, as_json=False)


@app.command("figures")
def figures(
    person: Person,
    top: Annotated[int, typer.Option(min=1, max=100, help="Items and categories.")] = 5,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what their orders come to: sums, times, days between, what they buy most."""
    answer = _ask(person, "/figures", top=top, after=after)
    if as_json:
        print_record(answer, as_json=True)
        return
    items, categories = answer.pop("items"), answer.pop("categories")
    sums = answer.pop("by_currency")
    if answer["reporting"] is not None:
        sums.append({**answer.pop("reporting"), "reported": True})
    print_record(answer, as_json=False)
    print()
    money = ("gross", "refunded", "net", "average")
    rows = [{**row, **{name: _as_decimal(row[name]) for name in money}} for row in sums]
    print_rows(rows, ["currency", "reported", "orders", *money], as_json=False)
    for name, found in (("sku", items), ("category", categories)):
        print()
        bought = [{**row, "amount": _as_decimal(row["amount"])} for row in found["by_quantity"]]
        columns = [name, "orders", "quantity", "quantity_share", "amount", "amount_share"]
        print_rows(bought, columns, as_json=False)


@app.command("service")
def service(person: Person, after: After = None, as_json: JsonFlag = False) -> None:
    """Show their tickets with status and age, calls, answers, complaints and reviews."""
    answer = _ask(person, "/service", after=after)
    if as_json:
        print_record(answer, as_json=True)
        return
    lists = {name: answer.pop(name) for name in list(answer) if isinstance(answer[name], list)}
    print_record(answer, as_json=False)
    for name, rows in lists.items():
        if rows:
            print(f"\n{name}")
            shown = [{key: row[key] for key in row if key not in _UNSHOWN} for row in rows]
            print_rows([_name_age(row) for row in shown], as_json=False)


@app.command("traits")
def traits(
    person: Person,
    at: Annotated[str | None, typer.Option(help="As of this time (RFC 3339).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show each trait with its source, time and message."""
    answer = _ask(person, "/traits", at=at, provenance="true")
    if as_json:
        print_record(answer, as_json=True)
        return
    print_rows(_trait_rows(answer), as_json=False)


@app.command("consent")
def consent(
    person: Person,
    grant: Annotated[str | None, typer.Option(help="State that this purpose is granted.")] = None,
    deny: Annotated[str | None, typer.Option(help="State that this purpose is denied.")] = None,
    purpose: Annotated[str | None, typer.Option(help="May they be reached for this?")] = None,
    channel: Annotated[str | None, typer.Option(help="email, sms, wechat, push, phone.")] = None,
    at: Annotated[str | None, typer.Option(help="As of, or stated at, this time.")] = None,
    history: Annotated[bool, typer.Option(help="Every statement, the newest first.")] = False,
    source: Annotated[str | None, typer.Option(help="Where it was stated.")] = None,
    evidence: Annotated[str | None, typer.Option(help="What proves it.")] = None,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a person agreed to, or state it: their consent, its time, origin and proof."""
    stated = grant or deny
    if stated is not None:
        if grant is not None and deny is not None:
            raise typer.BadParameter("grant a purpose or deny it, not both")
        said = {"channel": channel, "at": at, "source": source, "evidence": evidence}
        body = {"purpose": stated, "granted": grant is not None}
        body |= {name: value for name, value in said.items() if value is not None}
        with open_client() as client:
            path = f"/v1/profiles/{name_profile(person)}/consent"
            print_record(client.call("POST", path, body=body), as_json=as_json)
        return
    answer = _ask(
        person,
        "/consent",
        purpose=purpose,
        channel=channel,
        at=at,
        history="true" if history else None,
        after=after,
    )
    if as_json or "data" not in answer:
        print_record(answer, as_json=as_json)
        return
    columns = ["purpose", "channel", "granted", "at", "source", "evidence"]
    print_rows(answer["data"], columns, as_json=False)


@app.command("sessions")
def sessions(
    person: Person,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    after: After = None,
    as_json: JsonFlag = False,
) -> None:
    """Show their visits, newest first."""
    page = _ask(person, "/sessions", limit=limit, after=after)
    if as_json:
        print_record(page, as_json=True)
        return
    columns = ["started_at", "seconds", "events", "source", "channel", "landing_page"]
    print_rows(page["data"], columns, as_json=False)


@app.command("channels")
def channels(person: Person, after: After = None, as_json: JsonFlag = False) -> None:
    """Show the channels they use, the one used last first."""
    print_rows(_ask(person, "/channels", after=after)["data"], as_json=as_json)


@app.command("search")
def search(
    words: Annotated[str | None, typer.Argument(help="Anything in a name, such as 小明.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Such as trait.city=上海 or identifier.user_id^=42."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Find people by their traits, identifiers and names."""
    params: dict[str, Any] = {"q": words, "limit": limit}
    for each in where or ():
        name, equals, value = each.rpartition("=")
        if not equals:
            raise typer.BadParameter(f"write {each!r} as trait.city=上海")
        params[name] = value
    with open_client() as client:
        page = client.call("GET", "/v1/profiles", params=params)
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], ["id", "traits", "last_seen", "events"], as_json=False)


@app.command("changes")
def changes(
    since: Annotated[str | None, typer.Option(help="`next` of the last answer, or latest.")] = None,
    types: Annotated[str | None, typer.Option(help="Such as traits,merged,deleted.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List what happened to people, in order."""
    params = {"since": since, "types": types, "limit": limit}
    with open_client() as client:
        page = client.call("GET", "/v1/profiles/changes", params=params)
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], as_json=False)


@app.command("lookup")
def lookup(
    people: Annotated[list[str], typer.Argument(metavar="TYPE:VALUE...")], as_json: JsonFlag = False
) -> None:
    """Find the profile ids of up to 500 identifiers; creates nothing."""
    wanted = []
    for person in people:
        name_profile(person)
        kind, _, value = person.partition(":")
        wanted.append({"type": kind, "value": value})
    with open_client() as client:
        answer = client.call("POST", "/v1/profiles/lookup", body={"identifiers": wanted})
    print_rows(answer["data"], as_json=as_json)


_UNSHOWN = ("is_open", "events", "started_at", "ended_at", "updated_at", "event")


def _name_age(row: dict[str, Any]) -> dict[str, Any]:
    """Write an age in days, where there is one."""
    age = row.pop("age_seconds", None)
    return row if age is None else {**row, "age": f"{age / 86_400:.1f} d"}


def _as_decimal(money: Any) -> str:
    """Write money as people do: ``1299.00 CNY``; a dash for none."""
    if money is None:
        return "–"
    digits = minor_digits(money["currency"]) or 0
    return f"{Decimal(money['amount']).scaleb(-digits)} {money['currency']}"


def _trait_rows(answer: Any) -> list[dict[str, Any]]:
    """Rows from either shape of answer: a list of traits, or an object by name."""
    found = answer.get("data", answer.get("traits", answer))
    if isinstance(found, list):
        return found
    return [
        {"name": name, **(value if isinstance(value, dict) else {"value": value})}
        for name, value in found.items()
    ]
