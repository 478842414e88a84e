"""Take a multipart request apart while it arrives: fields into memory, the file onto the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from cdp.errors import BadRequest
from cdp.ingest.imports.uploads_folder import UploadedFile, Uploads

FILE = "file"
_MOST_FIELDS = 20
_LONGEST_FIELD = 1024 * 1024
_LONGEST_HEADER = 8 * 1024
_FLUSH_BYTES = 1024 * 1024
_LONGEST_NAME = 200


@dataclass(slots=True)
class Upload:
    """What a request brought. ``file`` is finished, and neither kept nor discarded."""

    fields: dict[str, str] = field(default_factory=dict)
    file: UploadedFile | None = None
    file_name: str = ""


async def receive_upload(request: Request, uploads: Uploads, import_id: str) -> Upload:
    """Receive a multipart body; its part ``file`` is written under ``import_id`` as it arrives.

    Raises ``BadRequest``, ``TooLarge``, ``InsufficientStorage``, ``Unavailable``; no file is left
    behind then.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest("not_multipart", "send multipart/form-data with a part named `file`")
    length = request.headers.get("content-length", "")
    if length.isdigit():
        await run_in_threadpool(uploads.expect_room, int(length))
    receiver = _Receiver(uploads, import_id)
    try:
        await receiver.receive(request.stream(), boundary)
    except BaseException as error:
        if receiver.upload.file is not None:
            await run_in_threadpool(receiver.upload.file.discard)
        if isinstance(error, ClientDisconnect):
            raise BadRequest("broken_off", "the upload was broken off") from error
        raise
    return receiver.upload


class _Receiver:
    """Holds the part that is arriving."""

    def __init__(self, uploads: Uploads, import_id: str) -> None:
        self.upload = Upload()
        self._uploads = uploads
        self._import_id = import_id
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._name: str | None = None
        self._value = bytearray()
        self._file_data = bytearray()
        self._is_file = False
        self._starts_file = False
        self._is_complete = False

    async def receive(self, stream: AsyncIterator[bytes], boundary: bytes) -> None:
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }
        try:
            parser = MultipartParser(boundary, callbacks)
            async for data in stream:
                parser.write(data)
                if self._starts_file or len(self._file_data) >= _FLUSH_BYTES:
                    await self._flush()
            parser.finalize()
        except (FormParserError, ValueError) as error:
            raise BadRequest(
                "invalid_multipart", f"the multipart body is broken: {error}"
            ) from error
        if not self._is_complete:
            raise BadRequest("invalid_multipart", "the multipart body ends too early")
        await self._flush()
        if self.upload.file is not None:
            await run_in_threadpool(self.upload.file.finish)

    async def _flush(self) -> None:
        """Write to disk what has arrived of the file."""
        if self._starts_file:
            self._starts_file = False
            self.upload.file = await run_in_threadpool(self._uploads.start, self._import_id)
        if self.upload.file is not None and self._file_data:
            data, self._file_data = bytes(self._file_data), bytearray()
            await run_in_threadpool(self.upload.file.write, data)

    def _begin(self) -> None:
        self._header = (bytearray(), bytearray())
        self._name, self._value, self._is_file = None, bytearray(), False

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._header[0], data[start:end], _LONGEST_HEADER)

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._header[1], data[start:end], _LONGEST_HEADER)

    def _end_header(self) -> None:
        name, value = self._header
        self._header = (bytearray(), bytearray())
        if bytes(name).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            file_name = options.get(b"filename", b"").decode("utf-8", "replace")
            self._is_file = self._name == FILE
            if self._is_file:
                self.upload.file_name = clean_file_name(file_name)

    def _end_headers(self) -> None:
        if not self._name:
            raise BadRequest("invalid_multipart", "a part has no name")
        if self._is_file:
            if self.upload.file is not None or self._starts_file:
                raise BadRequest("two_files", "an import takes one file")
            self._starts_file = True
        elif len(self.upload.fields) >= _MOST_FIELDS:
            raise BadRequest("too_many_fields", f"a form may have {_MOST_FIELDS} fields")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file_data += data[start:end]
        else:
            self._grow(self._value, data[start:end], _LONGEST_FIELD)

    def _end(self) -> None:
        if not self._is_file:
            assert self._name is not None
            self.upload.fields[self._name] = self._value.decode("utf-8", "replace")

    def _complete(self) -> None:
        self._is_complete = True

    @staticmethod
    def _grow(what: bytearray, data: bytes, longest: int) -> None:
        if len(what) + len(data) > longest:
            raise BadRequest("field_too_large", f"a field of the form may have {longest} bytes")
        what += data


def clean_file_name(name: str) -> str:
    """Return a file's own name without folders and control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable() and c != "\ufffd")[:_LONGEST_NAME]
