"""Post the demo's calls as any server-side SDK would: batches, retries, patience when told to wait.

Message ids are fixed, so whatever is sent twice counts once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import msgspec

from cdp.demo.history import Call, SourceName
from cdp.errors import SetupError

BATCH_CALLS = 200
_WAITABLE = frozenset({429, 502, 503, 504})
_PATIENCE_SECONDS = 300.0
_LONGEST_WAIT_SECONDS = 30.0
_encode = msgspec.json.Encoder().encode


class WirePoster:
    """Collects calls per source and posts them to ``/v1/batch``. Used by one thread."""

    def __init__(
        self,
        http: httpx.Client,
        write_keys: dict[SourceName, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """``http`` has the server as base URL; ``sleep`` is what waiting means.

        ``say`` is told once per batch that it has to wait, and why.
        """
        self._http = http
        self._keys = write_keys
        self._sleep = sleep
        self._say = say
        self._waiting: dict[SourceName, list[dict[str, Any]]] = {name: [] for name in write_keys}
        self.accepted: Counter[SourceName] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self.receipts: dict[SourceName, str] = {}

    def post(self, calls: Iterable[Call]) -> None:
        """Take ``calls``; post every batch that is full.

        Raises ``SetupError`` when the server refuses a batch or stays away too long.
        """
        for call in calls:
            waiting = self._waiting[call.source]
            waiting.append(call.document)
            if len(waiting) >= BATCH_CALLS:
                self._flush(call.source)

    def finish(self) -> None:
        """Post what is left."""
        for source, waiting in self._waiting.items():
            if waiting:
                self._flush(source)

    def _flush(self, source: SourceName) -> None:
        body = _encode({"batch": self._waiting[source]})
        answer = self._send(source, body)
        self._waiting[source].clear()
        self.accepted[source] += int(answer.get("accepted", 0))
        self.rejected.extend(answer.get("rejected", ()))
        if answer.get("receipt"):
            self.receipts[source] = answer["receipt"]

    def _send(self, source: SourceName, body: bytes) -> dict[str, Any]:
        waited = 0.0
        pause = 0.5
        while True:
            refusal, wanted = "no connection", None
            try:
                response = self._http.post(
                    "/v1/batch",
                    content=body,
                    auth=(self._keys[source], ""),
                    headers={"Content-Type": "application/json"},
                )
            except httpx.TransportError as error:
                refusal = str(error) or type(error).__name__
            else:
                if response.is_success:
                    answer: dict[str, Any] = response.json()
                    return answer
                refusal = f"{response.status_code}: {response.text[:200]}"
                if response.status_code not in _WAITABLE:
                    raise SetupError(f"the server refused a batch of {source} calls ({refusal})")
                wanted = read_retry_after(response.headers.get("Retry-After"))
            if waited >= _PATIENCE_SECONDS:
                raise SetupError(f"gave up after {waited:.0f} s of waiting ({refusal})")
            if not waited and self._say is not None:
                self._say(f"waiting for the server ({refusal})")
            wait = wanted if wanted is not None else pause
            self._sleep(wait)
            waited += wait
            pause = min(pause * 2, _LONGEST_WAIT_SECONDS)


def read_retry_after(value: str | None) -> float | None:
    """Read ``Retry-After`` in whole seconds (RFC 9110, section 10.2.3); dates are not looked at."""
    if value is None or not value.strip().isdigit():
        return None
    return float(value)
