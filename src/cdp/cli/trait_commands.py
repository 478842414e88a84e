"""``cdp trait``: what is said of people, and which of it is personal."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows

app = typer.Typer(help="Traits: their types, and which are personal.", no_args_is_help=True)

_COLUMNS = ("name", "types", "personal", "decided_by", "first_seen", "last_seen")


class Personal(StrEnum):
    """Whether values are hidden without `pii:read`."""

    YES = "yes"
    NO = "no"
    DEFAULT = "default"


@app.command("list")
def list_traits(as_json: JsonFlag = False) -> None:
    """List the traits that were ever said of anybody."""
    with open_client() as client:
        print_rows(client.pages("/v1/traits", limit=1000), _COLUMNS, as_json=as_json)


@app.command("set")
def set_trait(
    name: str,
    personal: Annotated[
        Personal, typer.Option(help="Hide its values without pii:read; default: by its name.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Choose whether a trait is personal."""
    chosen = {Personal.YES: True, Personal.NO: False, Personal.DEFAULT: None}[personal]
    with open_client() as client:
        path = f"/v1/traits/{quote(name, safe='')}"
        print_record(client.call("PUT", path, body={"personal": chosen}), as_json=as_json)
