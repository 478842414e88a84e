"""Webhooks: one signed POST to an address that was checked after it was looked up.

The connection goes to the very address that was checked, whatever the name leads to a moment later.
Redirects are failures; answers are read up to a few kilobytes; one clock runs over all of it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from cdp import __version__
from cdp.activation.address import PRIVATE_SETTING, is_refused, read_literal
from cdp.activation.delivery import Delivery, write_body
from cdp.activation.retry import Attempt
from cdp.activation.signature import sign

_MOST_ANSWER_BYTES = 16 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """The address may not be reached; the message says why."""


def send_webhook(
    settings: Mapping[str, Any],
    secret: str,
    delivery: Delivery,
    *,
    seconds: float,
    allows_private: bool,
) -> Attempt:
    """POST ``delivery``; every outcome is an ``Attempt``. Takes up to ``seconds``."""
    try:
        return asyncio.run(
            asyncio.wait_for(_post(settings, secret, delivery, allows_private), seconds)
        )
    except TimeoutError:
        return Attempt(False, error=f"no whole answer within {seconds:g} s")
    except Refused as error:
        return Attempt(False, error=str(error))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Attempt(False, error=_describe(error))


async def _post(
    settings: Mapping[str, Any], secret: str, delivery: Delivery, allows_private: bool
) -> Attempt:
    parts = urlsplit(settings["url"])
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    address = await _look_up(host, port, allows_private)
    body = write_body(delivery)
    headers = {
        **settings.get("headers", {}),
        "host": parts.netloc,
        "content-type": "application/json",
        "user-agent": f"cdp/{__version__}",
        **_sign(secret, delivery, body),
    }
    request = httpx.Request(
        "POST",
        _name_address(parts, address, port),
        headers=headers,
        content=body,
        # The certificate is checked for the name, not for the address.
        extensions={"sni_hostname": host, "timeout": httpx.Timeout(None).as_dict()},
    )
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
        response = await client.send(request, stream=True)
        try:
            await _drain(response)
        finally:
            await response.aclose()
    return _judge(response)


def _sign(secret: str, delivery: Delivery, body: bytes) -> dict[str, str]:
    timestamp = int(time.time())
    return {
        "webhook-id": delivery.delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, delivery.delivery_id, timestamp, body),
    }


async def _look_up(host: str, port: int, allows_private: bool) -> str:
    """Return an address of ``host``. Raises ``Refused`` when one of them is not public."""
    literal = read_literal(host)
    if literal is not None:
        found = [str(literal)]
    else:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise Refused("the name of the receiver leads to no address") from error
        found = [str(info[4][0]) for info in infos]
    for one in found:
        address = read_literal(one)
        if not allows_private and (address is None or is_refused(address)):
            raise Refused(
                "the receiver's name leads to an address that is not on the public network;"
                f" {PRIVATE_SETTING}=true allows it"
            )
    return found[0]


def _name_address(parts: SplitResult, address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address else address
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{shown}:{port}{parts.path or '/'}{query}"


async def _drain(response: httpx.Response) -> None:
    """Read a short answer to its end, so that the receiver can finish; leave a long one."""
    read = 0
    async for part in response.aiter_raw():
        read += len(part)
        if read > _MOST_ANSWER_BYTES:
            return


def _judge(response: httpx.Response) -> Attempt:
    status = response.status_code
    if response.is_success:
        return Attempt(True, status)
    error = f"the receiver answered {status}"
    if 300 <= status < 400:
        error += "; redirects are not followed"
    return Attempt(False, status, error, _read_retry_after(response.headers.get("retry-after")))


def _read_retry_after(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text), 86_400))
    try:
        return max(parsedate_to_datetime(text) - datetime.now(UTC), timedelta(0))
    except (ValueError, TypeError):
        return None


def _describe(error: Exception) -> str:
    # The text of an error may hold the address with what is secret in it.
    return f"the receiver could not be reached: {type(error).__name__}"
