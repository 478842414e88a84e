"""Which views there are for which event names, and how their columns are called."""

from __future__ import annotations

import duckdb
import pytest

from cdp.access.masking import is_personal
from cdp.analytics import masks
from cdp.analytics.event_views import EventView, name_columns, plan_views, snake_case


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Order Completed", "order_completed"),
        ("orderCompleted", "order_completed"),
        ("Signed-Up!", "signed_up"),
        ("下单 完成", "下单_完成"),
        ("!!", ""),
    ],
)
def test_snake_case_of_event_names(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_each_event_has_its_own_name_and_a_plain_one() -> None:
    assert plan_views(["Order Completed"], []) == [
        EventView("Order Completed", "Order Completed"),
        EventView("order_completed", "Order Completed"),
    ]


def test_an_ambiguous_snake_name_is_nobodys() -> None:
    names = [view.name for view in plan_views(["Order Completed", "Order-Completed"], [])]
    assert names == ["Order Completed", "Order-Completed"]


def test_a_snake_name_never_hides_an_event_of_that_name() -> None:
    views = plan_views(["Order Completed", "order_completed"], [])
    assert views == [
        EventView("Order Completed", "Order Completed"),
        EventView("order_completed", "order_completed"),
    ]


def test_fixed_tables_keep_their_names() -> None:
    views = plan_views(["Profiles", "events", "paid"], ["profiles", "events"])
    assert views == [EventView("paid", "paid")]


def test_case_twins_and_taken_names_get_a_number() -> None:
    assert name_columns(["Total", "total", "timestamp", ""], ["timestamp"]) == {
        "": "_2", "Total": "Total", "timestamp": "timestamp_2", "total": "total_2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ('{"email":"ann@example.com","n":1}', '{"email":"***","n":1}'),
        ('{"First Name":"Ann","x":{"mobile":8613800000000}}',
         '{"First Name":"***","x":{"mobile":"***"}}'),
        ('{"address":{"street":"a}b\\"","geo":[{"lat":1}]},"z":1}', '{"address":"***","z":1}'),
        ('{"note":"write to ann@example.com\\nsoon"}', '{"note":"write to ***\\nsoon"}'),
        ('{"em\\u0061il" : "leak"}', '{"email":"***"}'),
        ('{"url":"https://x.cn/?e=ann%40example.com&a=1"}', '{"url":"https://x.cn/?e=***&a=1"}'),
        ('{"birthday":null,"email_verified":true,"campaign_name":"x"}',
         '{"birthday":null,"email_verified":true,"campaign_name":"x"}'),
        ('{"address":{"a":{"b":{"c":{"d":{"e":{"f":{"g":"leak"}}}}}}}}', "{}"),
    ],
)  # fmt: skip
def test_documents_lose_their_personal_values_only(document: str, shown: str) -> None:
    row = duckdb.execute(f"SELECT {masks.mask_document('$d::JSON')}", {"d": document}).fetchall()
    assert row == [(shown,)]


def test_the_name_of_a_page_is_shown() -> None:
    query = f"SELECT {masks.mask_document('$d::JSON', 'true')}"
    row = duckdb.execute(query, {"d": '{"name":"Home","email":"a@b.cn"}'}).fetchall()
    assert row == [('{"name":"Home","email":"***"}',)]


@pytest.mark.parametrize(
    "name",
    ["email", "E-Mail", "work_email", "shippingAddress", "address.city", "a.first name", "name",
     "dob", "username", "campaign_name", "email_verified", "emails", "city", "names", "a.b"],
)  # fmt: skip
def test_sql_and_the_api_agree_on_what_is_personal(name: str) -> None:
    row = duckdb.execute(f"SELECT {masks.is_personal('$n')}", {"n": name}).fetchall()
    assert row == [(is_personal(name),)]
