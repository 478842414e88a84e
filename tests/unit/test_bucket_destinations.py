"""File destinations in an object store: from a URL to the store, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.activation.bucket import Bucket, read_bucket
from cdp.activation.bucket_folder import open_store, put_object
from cdp.activation.delivery import Delivery, name_delivery
from cdp.activation.destination import check_settings, show_settings
from cdp.errors import Unprocessable
from cdp.runtime.clock import now

KEYS = {"access_key_id": "AKIA", "secret_access_key": "very secret"}
ON_AMAZON = {"url": "s3://crm-files/vip/daily/", "region": "eu-west-1", **KEYS}
OF_ONES_OWN = {"url": "s3://crm", "endpoint": "http://127.0.0.1:9000", **KEYS}


@pytest.mark.parametrize(
    ("settings", "bucket", "path", "host"),
    [
        (
            ON_AMAZON,
            Bucket("crm-files", "vip/daily", "eu-west-1", "https", None),
            "crm-files/vip/daily",
            "crm-files.s3.eu-west-1.amazonaws.com",
        ),
        (
            OF_ONES_OWN,
            Bucket("crm", "", "us-east-1", "http", "127.0.0.1:9000"),
            "crm",
            "127.0.0.1",
        ),
    ],
    ids=["amazon", "own"],
)
def test_a_url_names_bucket_prefix_and_store(
    settings: dict[str, Any], bucket: Bucket, path: str, host: str
) -> None:
    found = read_bucket(settings)
    assert (found, found.path, found.host) == (bucket, path, host)
    assert open_store(found, settings, seconds=1).region == bucket.region


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"url": "https://x.com/b"}, "bad_setting", "/settings/url"),
        ({"url": "s3://B_"}, "bad_setting", "/settings/url"),
        ({"url": "s3://crm/../other"}, "bad_setting", "/settings/url"),
        ({"url": "s3://key:secret@crm/x"}, "bad_setting", "/settings/url"),
        ({"url": "s3://crm/x?endpoint_override=10.0.0.1"}, "bad_setting", "/settings/url"),
        ({"endpoint": "10.0.0.1:9000"}, "bad_setting", "/settings/endpoint"),
        ({"endpoint": "https://s3.example.com/x"}, "bad_setting", "/settings/endpoint"),
        ({"endpoint": "http://127.0.0.1:9000"}, "private_address", "/settings/endpoint"),
        ({"region": "Mars/1"}, "bad_setting", "/settings/region"),
        ({"secret_access_key": None}, "missing_setting", "/settings/secret_access_key"),
        ({"path": "crm"}, "bad_setting", "/settings/path"),
        ({"url": None, "path": "crm"}, "bad_setting", None),
    ],
)
def test_a_store_that_cannot_be_is_refused_at_its_place(
    changes: dict[str, Any], code: str, path: str | None
) -> None:
    with pytest.raises(Unprocessable) as refused:
        check_settings("file", ON_AMAZON | changes, allows_private=False)
    assert refused.value.code == code
    assert path in (None, refused.value.details["path"])


def test_the_secret_key_is_never_shown() -> None:
    shown = show_settings(check_settings("file", ON_AMAZON, allows_private=False))
    assert shown["secret_access_key"] == "***"
    assert shown["url"] == ON_AMAZON["url"]


def make_delivery() -> Delivery:
    return Delivery(name_delivery("dst_1", 3), "dst_1", 3, [], 0, now(), None)


def test_a_store_inside_is_refused_when_its_name_leads_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = [(None, None, None, "", ("10.1.2.3", 0))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: inside)
    settings = {**ON_AMAZON, "endpoint": "https://s3.example.com"}
    attempt = put_object(settings, [], make_delivery(), seconds=1, allows_private=False)
    assert attempt.error is not None
    assert "CDP_ALLOW_PRIVATE_DESTINATIONS" in attempt.error


def test_a_store_that_does_not_answer_is_a_failed_attempt() -> None:
    settings = {**OF_ONES_OWN, "endpoint": "http://127.0.0.1:9"}
    attempt = put_object(settings, [], make_delivery(), seconds=2, allows_private=True)
    assert not attempt.is_delivered
    assert attempt.error is not None
    assert "very secret" not in attempt.error
