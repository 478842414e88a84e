"""Who may ask for what, before anything is read or looked up."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from cdp.access.guard import Guard, public, read_requirements, require
from cdp.access.scopes import SCOPES, Caller
from cdp.runtime.error_answers import install_error_answers


class _Body(BaseModel):
    number: int


class _Tokens:
    """Knows two tokens, without Postgres: the guard only asks who a token is."""

    def __init__(self) -> None:
        self.callers = {
            "cdp_reader": Caller("tok_1", frozenset({"profiles:read"})),
            "cdp_admin": Caller("tok_2", frozenset({"admin"})),
        }

    def recall(self, token: str) -> tuple[bool, Caller | None]:
        return True, self.callers.get(token)

    def look_up(self, token: str) -> Caller | None:
        raise AssertionError("everything is remembered")


def _build() -> FastAPI:
    router = APIRouter()

    @router.post("/v1/write")
    def write(
        caller: Annotated[Caller, Depends(require("profiles:write"))], body: _Body
    ) -> dict[str, str]:
        return {"actor": caller.actor}

    @router.get("/v1/any")
    def any_token(caller: Annotated[Caller, Depends(require())]) -> dict[str, str]:
        return {"actor": caller.actor}

    @router.get("/open", dependencies=[Depends(public)])
    def everybody() -> dict[str, bool]:
        return {"open": True}

    @router.get("/v1/forgotten")
    def forgotten() -> dict[str, bool]:
        return {"open": True}

    app = FastAPI(strict_content_type=False)
    app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=_Tokens())
    install_error_answers(app)
    return app


async def _ask(method: str, path: str, token: str | None = None, body: str = "") -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(_build())
    async with httpx.AsyncClient(transport=transport, base_url="http://cdp") as client:
        return await client.request(method, path, headers=headers, content=body)


@pytest.mark.anyio
@pytest.mark.parametrize("body", ["", "{", '{"number": "x"}', '{"number": 1}'])
async def test_a_missing_token_is_said_before_a_bad_body(body: str) -> None:
    answer = await _ask("POST", "/v1/write", body=body)
    assert answer.status_code == 401
    assert answer.json()["code"] == "missing_token"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.anyio
@pytest.mark.parametrize("body", ["", "{", '{"number": "x"}', '{"number": 1}'])
async def test_a_missing_scope_is_said_before_a_bad_body_and_by_name(body: str) -> None:
    answer = await _ask("POST", "/v1/write", "cdp_reader", body)
    assert answer.status_code == 403
    assert answer.json()["details"] == {"missing": ["profiles:write"]}
    assert "profiles:write" in answer.json()["message"]


@pytest.mark.anyio
async def test_an_unknown_token_is_refused() -> None:
    answer = await _ask("GET", "/v1/any", "cdp_nobody")
    assert (answer.status_code, answer.json()["code"]) == (401, "unknown_token")


@pytest.mark.anyio
async def test_basic_credentials_are_no_token() -> None:
    transport = httpx.ASGITransport(_build())
    async with httpx.AsyncClient(transport=transport, base_url="http://cdp") as client:
        answer = await client.get("/v1/any", auth=("cdp_admin", ""))
    assert answer.status_code == 401


@pytest.mark.anyio
async def test_any_valid_token_passes_where_no_scope_is_named() -> None:
    answer = await _ask("GET", "/v1/any", "cdp_reader")
    assert (answer.status_code, answer.json()) == (200, {"actor": "token:tok_1"})


@pytest.mark.anyio
async def test_admin_includes_every_scope_and_then_the_body_is_checked() -> None:
    assert (await _ask("POST", "/v1/write", "cdp_admin", '{"number": 1}')).status_code == 200
    answer = await _ask("POST", "/v1/write", "cdp_admin", '{"number": "x"}')
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/number")


@pytest.mark.anyio
async def test_a_public_route_asks_for_nothing() -> None:
    assert (await _ask("GET", "/open")).status_code == 200


@pytest.mark.anyio
async def test_a_route_that_says_nothing_is_for_admin_alone() -> None:
    assert (await _ask("GET", "/v1/forgotten")).status_code == 401
    assert (await _ask("GET", "/v1/forgotten", "cdp_reader")).status_code == 403
    assert (await _ask("GET", "/v1/forgotten", "cdp_admin")).status_code == 200


def test_a_scope_that_does_not_exist_cannot_be_required() -> None:
    with pytest.raises(ValueError, match="not a scope"):
        require("profiles:everything")


def test_a_caller_lacks_what_they_do_not_hold_in_the_order_asked() -> None:
    caller = Caller("tok", frozenset({"sql:read"}))
    assert caller.lacks(("pii:read", "sql:read", "tags:write")) == ["pii:read", "tags:write"]
    assert Caller("tok", frozenset({"admin"})).lacks(SCOPES) == []
