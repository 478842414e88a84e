"""Figures, accounts, service and rates on the command line, against a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cdp.access import tokens_store
from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.accounts.accounts_store import PlacedAccount, write_accounts
from cdp.app import build_app
from cdp.cli import app
from cdp.orders.order import Line, Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.committed import committing
from tests.support.ingest_server import serve
from tests.support.postgres import PostgresServer

SPRING = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Cli:
    """Runs commands with the environment of one server."""

    def __init__(self, **variables: str) -> None:
        self._variables = variables

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env=self._variables)

    def read(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def cli(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("data")
    with postgres_server.fresh_url() as url:
        database = Database(url)
        with database.transaction() as connection:
            scopes = ("admin", "profiles:read", "pii:read")
            _, token = tokens_store.create_token(driver(connection), "cli", scopes)
        fill(database)
        settings = Settings(database_url=url, data_dir=folder)
        with serve(build_app(settings, frozenset({"ingest", "api"}))) as address:
            yield Cli(CDP_URL=address, CDP_TOKEN=token, CDP_DATA_DIR=str(folder))
        database.close()


def fill(database: Database) -> None:
    """Ann of acme buys a tea for dollars."""
    with committing(database) as batch:
        ann = batch.add_person("ann")
        report = Report(
            "1001", "record", SPRING, "m1", placed_at=SPRING, currency="USD", total=1_500,
            lines=(Line("tea", "Tea", "drinks", 1, 1_500),),
        )  # fmt: skip
        batch.changes.orders |= write_reports(batch.tx, [PlacedReport("", 0, ann, report)], "CNY")
        said = AccountSaid("acme", SPRING, "a1", {"type": "company"}, {"plan": "pro"})
        write_accounts(batch.tx, [PlacedAccount(said, 0, [(ann, MemberSaid(True, "payer", True))])])


def test_rates_are_loaded_from_a_file_and_complete_the_figures(cli: Cli, tmp_path: Path) -> None:
    assert cli.read("profile", "figures", "user_id:ann")["reporting"] is None
    file = tmp_path / "rates.csv"
    file.write_text("currency,to,at,rate\nUSD,CNY,2026-03-01,7.1\nEUR,CNY,2026-03-01,7.9\n")

    assert cli.read("rates", "load", str(file)) == {"rates": 2, "changed": 2}
    assert cli("rates", "set", "USD", "CNY", "2026-03-01", "7.125").exit_code == 0
    rates = cli.read("rates", "list", "--currency", "USD")["data"]
    assert rates == [{"currency": "USD", "to": "CNY", "at": "2026-03-01", "rate": "7.125"}]
    figures = cli.read("profile", "figures", "user_id:ann")
    assert figures["reporting"]["net"] == {"amount": 10_688, "currency": "CNY"}
    shown = cli("profile", "figures", "user_id:ann")
    assert "15.00 USD" in shown.stdout
    assert "106.88 CNY" in shown.stdout
    account = cli("account", "show", "acme")
    assert "active_members" in account.stdout


def test_a_file_without_a_column_or_with_no_currency_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("currency,to,rate\n")
    assert cli("rates", "load", str(file)).exit_code == 2
    file.write_text("currency,to,at,rate\nXXQ,CNY,2026-03-01,1\n")
    refused = cli("rates", "load", str(file))
    assert refused.exit_code == 1
    assert "/rates/0/currency" in str(refused.exception)


def test_accounts_are_found_and_what_their_members_did_is_listed(cli: Cli) -> None:
    found = cli.read("account", "list", "--trait", "plan=pro", "--q", "AC")["data"]
    assert [row["account_id"] for row in found] == ["acme"]
    assert cli("account", "list", "--trait", "plan").exit_code == 2
    assert cli.read("account", "members", "acme")["data"][0]["role"] == "payer"
    assert cli.read("account", "orders", "acme")["data"][0]["order_id"] == "1001"
    assert cli.read("account", "events", "acme", "--below")["data"] == []
    assert cli("account", "orders", "acme").exit_code == 0


def test_service_of_a_person_is_shown(cli: Cli) -> None:
    assert cli.read("profile", "service", "user_id:ann")["open_tickets"] == 0
    assert "last_nps" in cli("profile", "service", "user_id:ann").stdout
