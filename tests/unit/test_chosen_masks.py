"""What is chosen of single names, under both masks: Python's and DuckDB's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb
import pytest

from cdp.access import masking
from cdp.access.personal_names import use_choices
from cdp.analytics import masks

CHOSEN = {
    "wechat": True, "名片": True, "say \"hi\"": True, "a.b": True, "🐼": True, "it's": True,
    "nickname": False, "work_email": False, "address": False, "x.name": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def chosen() -> Iterator[None]:
    use_choices(CHOSEN)
    yield
    use_choices({})


@pytest.mark.parametrize(
    "name",
    [*CHOSEN, "WeChat", "wechat.id", "名片.city", "a", "b", "a.b.c", "nickname.first", "nick_name",
     "email", "work email", "address.email", "address.city", "x.name.z", "name", "plan", "城市",
     "shipping_address", "birthday", "dob", "first-name", "email_opt_in", "姓名", "手机",
     "收货地址", "地址簿", "公司手机", "名片夹", "生日", "姓 名"],
)  # fmt: skip
def test_sql_and_the_api_agree_on_what_was_chosen(name: str) -> None:
    sql = f"SELECT {masks.is_personal('t.name', CHOSEN)} FROM (SELECT $n AS name) t"
    row = duckdb.execute(sql, {"n": name}).fetchall()
    assert row == [(masking.is_personal(name),)]


def test_a_choice_counts_before_the_name() -> None:
    assert masking.is_personal("wechat")
    assert not masking.is_personal("nickname")
    assert masking.is_personal("nick_name")


def test_what_was_chosen_is_hidden_and_shown_within_documents_too() -> None:
    document = {
        "wechat": "ann-1", "nickname": "Annie", "email": "x", "名片": {"n": 1}, 'say "hi"': "yes",
        "within": {"wechat": "ann-2", "nickname": "A", "list": [{"🐼": 3}]}, "it's": "o",
        "address": {"city": "上海", "email": "y"}, "plan": "pro", "WeChat": "w",
    }  # fmt: skip
    sql = f"SELECT {masks.mask_document('$d::JSON', chosen=CHOSEN)}"
    found = json.loads(duckdb.execute(sql, {"d": json.dumps(document)}).fetchall()[0][0])
    assert found == {
        "wechat": "***", "nickname": "Annie", "email": "***", "名片": "***", 'say "hi"': "***",
        "within": {"wechat": "***", "nickname": "A", "list": [{"🐼": "***"}]}, "it's": "***",
        "address": {"city": "上海", "email": "***"}, "plan": "pro", "WeChat": "w",
    }  # fmt: skip
    shown = masking.mask_properties(document)
    hidden = {name for name, value in document.items() if shown[name] != value}
    assert hidden == {name for name, value in document.items() if found[name] != value}


def test_the_mark_of_what_is_shown_cannot_be_used_to_show_more() -> None:
    document = '{"email":"secret","nickname~shown":"kept"}'
    sql = f"SELECT {masks.mask_document('$d::JSON', chosen=CHOSEN)}"
    found = json.loads(duckdb.execute(sql, {"d": document}).fetchall()[0][0])
    assert found["email"] == "***"
