"""Keys, compression, CORS, settings and pixels: the small print of the wire."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from urllib.parse import urlencode

import pytest

from cdp.errors import BadRequest, TooLarge
from cdp.ingest.body import inflate
from cdp.ingest.cors import cors_headers, preflight_headers
from cdp.ingest.pixel import GIF, read_pixel
from cdp.ingest.sdk_routes import find_route
from cdp.ingest.sdk_settings import find_address, project_settings
from cdp.ingest.write_key import read_basic_key, read_query_key


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Basic " + b64encode(b"key:"), "key"),
        (b"basic " + b64encode(b"key"), "key"),
        (b"Basic  " + b64encode(b"key:secret").rstrip(b"="), "key"),
        (b"Basic " + b64encode(b":"), None),
        (b"Basic !!!!", None),
        (b"Basic " + b64encode(b"\xff\xfe:"), None),
        (b"Bearer abc", None),
        (b"", None),
    ],
)
def test_the_write_key_is_the_user_name_with_or_without_colon(
    header: bytes, key: str | None
) -> None:
    assert read_basic_key(header) == key


@pytest.mark.parametrize(
    ("query", "key"),
    [(b"p=npm&writeKey=k%2B1", "k+1"), (b"writeKey=", None), (b"", None), (b"a=writeKey", None)],
)
def test_the_write_key_may_stand_in_the_query(query: bytes, key: str | None) -> None:
    assert read_query_key(query) == key


def test_gzip_is_undone_whether_or_not_the_header_says_so() -> None:
    packed = gzip.compress(b'{"a":1}')
    assert inflate(packed, b"gzip", 100) == b'{"a":1}'
    assert inflate(packed, None, 100) == b'{"a":1}'
    assert inflate(packed + packed, b"GZIP", 100) == b'{"a":1}' * 2
    assert inflate(b'{"a":1}', None, 100) == b'{"a":1}'


def test_a_gzip_bomb_is_too_large() -> None:
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b" " * 10_000_000), b"gzip", 1_000_000)


def test_a_body_of_exactly_the_limit_is_not_too_large() -> None:
    assert len(inflate(gzip.compress(b" " * 1000), b"gzip", 1000)) == 1000


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(b"x" * 100)[:-9], gzip.compress(b"x") + b"tail", b"\x1f\x8b"],
)
def test_corrupt_gzip_is_an_error(body: bytes) -> None:
    with pytest.raises(BadRequest) as error:
        inflate(body, b"gzip", 1000)
    assert error.value.code == "corrupt_gzip"


@pytest.mark.parametrize("encoding", [b"deflate", b"zstd", b"br", b"gzip, gzip"])
def test_other_encodings_are_refused_by_name(encoding: bytes) -> None:
    with pytest.raises(BadRequest) as error:
        inflate(b"x", encoding, 1000)
    assert error.value.code == "unsupported_encoding"


def test_a_preflight_echoes_what_the_browser_asks_for() -> None:
    asked = [
        (b"origin", b"https://shop.example"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,x-retry-count"),
    ]
    answer = dict(preflight_headers(asked))
    assert answer[b"access-control-allow-origin"] == b"https://shop.example"
    assert answer[b"access-control-allow-headers"] == b"authorization,x-retry-count"
    assert answer[b"access-control-allow-credentials"] == b"true"
    assert b"POST" in answer[b"access-control-allow-methods"]


def test_an_answer_without_an_origin_allows_any_but_no_cookies() -> None:
    answer = dict(cors_headers(None))
    assert answer[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in answer


@pytest.mark.parametrize("origin", [None, b"https://shop.example"])
def test_no_cache_gives_one_page_the_answer_to_another(origin: bytes | None) -> None:
    assert dict(cors_headers(origin))[b"vary"] == b"Origin"


@pytest.mark.parametrize(
    ("path", "template", "kind"),
    [
        ("/v1/t", "/v1/track", "track"),
        ("/t", "/v1/track", "track"),
        ("/v1/i", "/v1/identify", "identify"),
        ("/p", "/v1/page", "page"),
        ("/v1/s", "/v1/screen", "screen"),
        ("/g", "/v1/group", "group"),
        ("/v1/a", "/v1/alias", "alias"),
        ("/v1/merge", "/v1/alias", "alias"),
        ("/v1/track/", "/v1/track", "track"),
        ("//v1/track", "/v1/track", "track"),
        ("/b", "/v1/batch", None),
        ("/v1/import", "/v1/batch", None),
        ("/beacon/v1/batch", "/v1/batch", None),
        ("/v1/m", "/v1/m", None),
        ("/sourceConfig", "/sourceConfig", None),
        ("/sourceConfig/", "/sourceConfig", None),
        ("/pixel/v1/page", "/pixel/v1/page", "page"),
    ],
)
def test_every_path_of_the_sdks_is_known(path: str, template: str, kind: str | None) -> None:
    found = find_route(path)
    assert found is not None
    assert (found[0].template, found[0].type) == (template, kind)


def test_settings_are_found_with_their_key_and_api_paths_are_left_alone() -> None:
    for path in ("/v1/projects/k1/settings", "/projects/k1/settings"):
        found = find_route(path)
        assert found is not None
        assert found[1] == "k1"
    for path in ("/v1/profiles/user_id:1", "/v1/identity/merge", "/", "/v1/sources", "/v1/x"):
        assert find_route(path) is None


def test_settings_say_the_address_by_which_they_were_asked() -> None:
    headers = [(b"host", b"cdp.example:8080")]
    address = find_address("http", headers, None)
    segment = project_settings("k", *address)["integrations"]["Segment.io"]
    assert segment == {"apiKey": "k", "apiHost": "cdp.example:8080/v1", "protocol": "http"}
    assert find_address("http", headers, "https://c.example/cdp/") == ("https", "c.example/cdp")
    assert find_address("http", [(b"host", b"evil/../x")], None) == ("http", "localhost")


@pytest.mark.parametrize(
    ("host", "origin", "protocol"),
    [
        (b"cdp.example", b"https://shop.example", "https"),
        (b"cdp.example", b"http://shop.example", "http"),
        (b"cdp.example", None, "http"),
        # These alone may be asked without TLS by a page that came with it.
        (b"localhost:8080", b"https://shop.example", "http"),
        (b"127.0.0.1:8080", b"https://shop.example", "http"),
        (b"[::1]:8080", b"https://shop.example", "http"),
    ],
)
def test_a_page_that_came_by_https_is_sent_to_https_whatever_a_proxy_forgot_to_say(
    host: bytes, origin: bytes | None, protocol: str
) -> None:
    headers = [(b"host", host)] + ([(b"origin", origin)] if origin else [])
    assert find_address("http", headers, None)[0] == protocol
    assert find_address("https", headers, None)[0] == "https"


def test_a_pixel_is_an_event_in_a_query() -> None:
    event = {"userId": "u", "event": "Opened", "properties": {"mail": "7"}}
    query = b"userId=u&event=Opened&properties.mail=7&writeKey=k"
    assert json.loads(read_pixel(query)) == event
    data = urlencode({"data": b64encode(json.dumps(event).encode())}).encode()
    assert json.loads(read_pixel(data)) == event
    assert json.loads(read_pixel(b"mail=7&context.page.path=/x")) == {
        "properties": {"mail": "7"},
        "context": {"page": {"path": "/x"}},
    }


def test_the_pixel_is_a_gif_of_one_by_one() -> None:
    assert GIF.startswith(b"GIF89a\x01\x00\x01\x00")
    assert GIF.endswith(b";")
