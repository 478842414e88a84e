"""A multipart form (RFC 7578) that is sent while its file is read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Protocol
from urllib.parse import quote

from cdp.errors import SetupError

_BLOCK = 256 * 1024


class SupportsRead(Protocol):
    """What a file's bytes come from."""

    def read(self, size: int = -1, /) -> bytes: ...


class FormBody:
    """The body of a request, and the headers that go with it. Fields come before the file."""

    def __init__(
        self, fields: Mapping[str, str], file: tuple[str, SupportsRead] | None, size: int
    ) -> None:
        """``size``: how many bytes of the file are sent."""
        self._boundary = f"cdp-{secrets.token_hex(16)}"
        self._file = file
        self._size = size
        self._head = "".join(
            f"--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ).encode()
        if file is not None:
            name = quote(file[0], safe=" .-_()", encoding="utf-8") if '"' in file[0] else file[0]
            self._head += (
                f'--{self._boundary}\r\nContent-Disposition: form-data; name="file";'
                f' filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
            ).encode("utf-8", "replace")
        self._tail = b"\r\n" * (file is not None) + f"--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """Type and length."""
        length = len(self._head) + len(self._tail) + (self._size if self._file else 0)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(length),
        }

    def parts(self) -> Iterator[bytes]:
        """Yield the body. A file that turns out shorter than said breaks the request off."""
        yield self._head
        left = self._size if self._file is not None else 0
        while left and self._file is not None:
            data = self._file[1].read(min(_BLOCK, left))
            if not data:
                raise SetupError("the file became shorter while it was read; nothing was imported")
            left -= len(data)
            yield data
        yield self._tail
