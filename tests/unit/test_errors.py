"""Every error is answered in one shape and names the place of the mistake."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from cdp import errors
from cdp.runtime.error_answers import answer_error, install_error_answers, make_pointer


class _Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class _Line(BaseModel):
    sku: str


class _Order(BaseModel):
    lines: list[_Line] = []
    pet: _Cat | list[int] | None = None
    odd: dict[str, int] = Field(default_factory=dict)


def _build() -> FastAPI:
    app = FastAPI()

    @app.post("/orders")
    def post(order: _Order, limit: Annotated[int, Query(le=10)] = 1) -> None: ...

    @app.get("/fault")
    def fail() -> None:
        raise RuntimeError("a secret")

    install_error_answers(app)
    return app


async def _ask(method: str, path: str, content: str | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(_build(), raise_app_exceptions=False)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://cdp") as client:
        return await client.request(method, path, content=content, headers=headers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ('{"lines": [{"sku": "a"}, {"sku": 1}]}', "/lines/1/sku"),
        ('{"lines": [{}]}', "/lines/0/sku"),
        ('{"lines": 1}', "/lines"),
        ('{"odd": {"a/b~c": "x"}}', "/odd/a~1b~0c"),
        ('{"pet": {"kind": "cat", "lives": "x"}}', "/pet/lives"),
        ("[]", ""),
    ],
)
async def test_a_mistake_in_the_body_is_pointed_at(content: str, pointer: str) -> None:
    answer = await _ask("POST", "/orders", content)
    assert answer.status_code == 422
    assert answer.json()["details"]["path"] == pointer
    assert set(answer.json()) == {"code", "message", "details"}


@pytest.mark.anyio
async def test_a_mistake_in_the_query_names_the_parameter() -> None:
    answer = await _ask("POST", "/orders?limit=11", "{}")
    assert answer.status_code == 422
    assert answer.json()["details"] == {"path": "/limit", "within": "query"}


@pytest.mark.anyio
async def test_a_body_that_is_no_json_is_a_bad_request() -> None:
    answer = await _ask("POST", "/orders", "{")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


@pytest.mark.anyio
async def test_a_body_sent_as_a_form_says_how_to_send_it() -> None:
    transport = httpx.ASGITransport(_build())
    async with httpx.AsyncClient(transport=transport, base_url="http://cdp") as client:
        answer = await client.post("/orders", data={"{}": ""})
    assert (answer.status_code, answer.json()["code"]) == (400, "not_json")


@pytest.mark.anyio
async def test_unknown_paths_and_methods_are_answered_in_the_same_shape() -> None:
    missing, wrong = await _ask("GET", "/nowhere"), await _ask("GET", "/orders")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.anyio
async def test_a_fault_tells_the_caller_nothing() -> None:
    answer = await _ask("GET", "/fault")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("down"),
        sa.exc.TimeoutError("no connection"),
        sa.exc.OperationalError("select", {}, Exception("down")),
    ],
)
def test_a_database_that_is_away_means_try_again(error: Exception) -> None:
    answer = answer_error(error)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "error",
    [
        psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
        sa.exc.DataError("select", {}, Exception("bigint out of range")),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
)
def test_a_value_that_the_database_cannot_hold_is_the_callers_mistake(error: Exception) -> None:
    assert answer_error(error).status_code == 422


def _all_kinds() -> list[type[Any]]:
    return [kind for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.CdpError)]  # fmt: skip


@pytest.mark.parametrize("kind", _all_kinds())
def test_every_error_answers_with_its_status_and_code(kind: type[Any]) -> None:
    answer = answer_error(kind("a_code", "a message"))
    assert answer.status_code == kind.status
    assert b'"code":"a_code"' in answer.body


def test_a_given_time_to_wait_is_passed_on() -> None:
    error = errors.Unavailable("log_unavailable", "later", retry_after=17)
    assert answer_error(error).headers["retry-after"] == "17"


def test_a_pointer_escapes_what_it_must() -> None:
    assert make_pointer(["a/b", 0, "m~n"]) == "/a~1b/0/m~0n"
    assert make_pointer([]) == ""
