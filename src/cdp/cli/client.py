"""The command line as a client of the API: where the server is, who asks, what it answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import typer

from cdp.cli.form import FormBody, SupportsRead
from cdp.errors import SetupError
from cdp.runtime.credentials import FILE_NAME, read_credentials
from cdp.settings import Settings, read_settings


class ApiRefused(Exception):
    """The server answered with an error; the message is for the person at the terminal."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body
        path = (body.get("details") or {}).get("path")
        where = f" (at {path})" if path else ""
        super().__init__(f"{body.get('message') or f'the server answered {status}'}{where}")


class ApiClient:
    """Calls the API of one server with one token. Close it, or use it in a ``with`` block."""

    def __init__(
        self, url: str, token: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """``transport`` replaces the network, for tests."""
        self.url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "User-Agent": "cdp-cli"},
            timeout=httpx.Timeout(90, connect=10),
            transport=transport,
            # A proxy for the outside world is rarely meant for a server of one's own.
            trust_env=False,
        )

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Return the decoded JSON answer, ``None`` when it is empty.

        Raises ``ApiRefused`` for an error answer and ``SetupError`` when nobody answers.
        """
        response = self.send(method, path, params=params, body=body, headers=headers)
        raise_for_refusal(response)
        return response.json() if response.content else None

    def send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Return the answer as it is. Raises ``SetupError`` when nobody answers."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._explaining("did not finish its answer"):
            return self._http.request(method, path, params=given, json=body, headers=headers)

    def post_form(
        self,
        path: str,
        fields: Mapping[str, str],
        file: tuple[str, SupportsRead] | None = None,
        size: int = 0,
    ) -> dict[str, Any]:
        """Post a form, its fields first; return the decoded answer.

        ``file`` is a name and what gives its ``size`` bytes, which are sent as they are read.
        Raises ``ApiRefused`` for an error answer and ``SetupError`` when nobody answers.
        """
        form = FormBody(fields, file, size)
        with self._explaining("broke the upload off; run it again"):
            response = self._http.post(path, content=form.parts(), headers=form.headers)
        raise_for_refusal(response)
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def stream(
        self, path: str, *, method: str = "GET", body: Any = None
    ) -> Iterator[Iterator[str]]:
        """Give the lines of an answer that comes bit by bit, or until one side ends it.

        Raises ``ApiRefused`` for an error answer and ``SetupError`` when nobody answers.
        """
        # The server says every ten seconds that it is still there.
        timeout = httpx.Timeout(60, connect=10)
        with (
            self._explaining("broke off its answer"),
            self._http.stream(method, path, json=body, timeout=timeout) as response,
        ):
            if response.status_code >= 400:
                response.read()
                raise_for_refusal(response)
            yield response.iter_lines()

    @contextmanager
    def download(self, path: str, params: dict[str, Any]) -> Iterator[Iterator[bytes]]:
        """Give the bytes of an answer, as they come.

        Raises ``ApiRefused`` for an error answer and ``SetupError`` when nobody answers, or when it
        is broken off.
        """
        timeout = httpx.Timeout(300, connect=10)
        with (
            self._explaining("broke off its answer"),
            self._http.stream("GET", path, params=params, timeout=timeout) as response,
        ):
            if response.status_code >= 400:
                response.read()
                raise_for_refusal(response)
            yield response.iter_bytes()

    def write_out(self, path: str, params: dict[str, Any]) -> None:
        """Write the bytes of an answer to standard output, as they come."""
        given = {name: value for name, value in params.items() if value is not None}
        with self.download(path, given) as parts:
            for part in parts:
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()

    @contextmanager
    def _explaining(self, failure: str) -> Iterator[None]:
        """Turn what goes wrong between here and the server into one line."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise SetupError(
                f"no server answers at {self.url}; start it with `cdp up`, or set CDP_URL"
            ) from error
        except httpx.HTTPError as error:
            raise SetupError(f"{self.url} {failure} ({error})") from error

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield every row of a paged list."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, params={**params, "cursor": cursor})
            yield from page["data"]
            cursor = page.get("next")
            if cursor is None:
                return


def raise_for_refusal(response: httpx.Response) -> None:
    """Raise ``ApiRefused`` for an error status, whatever the body looks like."""
    if response.status_code < 400:
        return
    try:
        body = response.json()
    except ValueError:
        body = {}
    raise ApiRefused(response.status_code, body if isinstance(body, dict) else {})


def name_profile(text: str) -> str:
    """Return ``type:value`` as it stands in a path. Anything else is wrong use (exit 2)."""
    kind, colon, value = text.partition(":")
    if not colon or not kind or not value:
        raise typer.BadParameter(
            f"{text!r} names no profile; write type:value, such as email:ann@example.com"
        )
    return f"{quote(kind, safe='')}:{quote(value, safe='')}"


def read_name(text: str) -> dict[str, str]:
    """Return ``type:value`` as an identifier in a body. Anything else is wrong use (exit 2)."""
    name_profile(text)
    kind, _, value = text.partition(":")
    return {"type": kind, "value": value}


def open_client(settings: Settings | None = None) -> ApiClient:
    """Return a client for ``CDP_URL`` and ``CDP_TOKEN``, else for what runs on the data folder.

    Raises ``SetupError`` when neither says where and who.
    """
    settings = settings or read_settings()
    kept = read_credentials(settings.data_dir)
    url = settings.url or (kept.url if kept else None)
    # A token belongs to one server: the kept one is not shown to another.
    same = settings.url is None or (kept is not None and settings.url == kept.url)
    token = settings.token or (kept.token if kept and same else None)
    if url is None:
        raise SetupError(
            f"no server is known: run `cdp up` (it writes {settings.data_dir / FILE_NAME}), "
            "or set CDP_URL and CDP_TOKEN"
        )
    if token is None:
        raise SetupError(f"no token for {url}: set CDP_TOKEN")
    return ApiClient(url.rstrip("/"), token)
