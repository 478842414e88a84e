"""The types that a new workspace knows, and the values that name nobody. Pure.

The lists of placeholders join those that Segment and PostHog refuse with what Chinese programs
and tills write when they have no value. A value is listed only if nobody can mean it: whatever a
real person might be called is left to ``hot_limit``, which finds the rest by what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

DEFAULT_TYPE = "*"
"""The entry that stands for every type without one of its own."""

HASHED_TYPES: Mapping[str, str] = MappingProxyType(
    {"email_sha256": "email", "phone_sha256": "phone"}
)
"""Types whose values are SHA-256 of normalised values of another, in hexadecimal."""

# Compared without case and quotes.
PLACEHOLDERS = (
    "anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email",
    "undefined", "true", "false", "[object object]", "nan", "none", "null", "nil", "0", "-1",
    "n/a", "unknown", "user_id", "anonymous_id", "(null)", "<null>", "<nil>", "uuid", "userid",
    "anonymousid", "not set", "(not set)", "not_set", "undefined undefined", "{}", "[]",
    "游客", "匿名", "匿名用户", "未知", "未知用户", "测试", "测试用户", "无", "暂无", "未登录",
    "空", "默认",
)  # fmt: skip
ZEROS = r"^[0\-]*$"
PUNCTUATION = r"^[-_.,?!*#/\\+~ ]+$"
TEMPLATE = r"^(\{\{.*\}\}|\$\{.*\}|<%.*%>|%[%a-z_]+%)$"
"""What a template leaves behind when nobody filled it."""

_EMAILS = ("test@test.com", "none@none.com", "null@null.com")
_ROLES = r"^(no-?reply|do-?not-?reply|null|none|undefined|unknown|anonymous|n/a)@"
"""Mailboxes that send and do not belong to whoever is seen with them."""

_SAME_DIGITS = r"^(\+|\+86)?(0+|1+|2+|3+|4+|5+|6+|7+|8+|9+)$"
_CHINESE_SERVICES = r"^\+86(1\d{4,5}|9\d{4,5}|(400|800)\d{7})$"
"""10086, 95588, 400-820-8820: hotlines."""
_COUNTED = r"^\+?(86)?0?1?23456789\d{0,2}$"

_STRONG: dict[str, Any] = {
    "blocked": PLACEHOLDERS, "blocked_patterns": (ZEROS, PUNCTUATION, TEMPLATE),
}  # fmt: skip
_DEVICE = {**_STRONG, "limit": 1000}


def _kind(priority: int, strength: str = "strong", normalise: str = "trim") -> dict[str, Any]:
    return {"priority": priority, "class": strength, "normalise": normalise}


KNOWN_TYPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "user_id": _kind(10),
        "crm_id": _kind(12),
        "member_card": _kind(14),
        "wechat_unionid": _kind(20),
        "wechat_openid": _kind(22),
        "email": _kind(30, "contact", "email"),
        "email_sha256": _kind(31, "contact", "sha256"),
        "phone": _kind(32, "contact", "phone"),
        "phone_sha256": _kind(33, "contact", "sha256"),
        DEFAULT_TYPE: _kind(60),
        "anonymous_id": _kind(80, "ephemeral"),
        "device_id": _kind(84, "ephemeral"),
        "device_token": _kind(86, "ephemeral"),
        "ga_client_id": _kind(88, "ephemeral"),
        "firebase_app_instance_id": _kind(88, "ephemeral"),
        "fbp": _kind(88, "ephemeral"),
        "idfv": _kind(90, "ephemeral", "lower"),
        "idfa": _kind(92, "ephemeral", "lower"),
        "gaid": _kind(92, "ephemeral", "lower"),
        "oaid": _kind(92, "ephemeral", "lower"),
        "android_id": _kind(92, "ephemeral", "lower"),
        "imei": _kind(92, "ephemeral"),
    }
)
"""What a known type is, for documents that do not say it."""

# How far each may reach. Other types than these are devices.
_REACH: dict[str, dict[str, Any]] = {
    "user_id": {"unique": True, **_STRONG},
    "crm_id": {"unique": True, "scope": "system", **_STRONG},
    "member_card": {"unique": True, "scope": "system", **_STRONG},
    "wechat_unionid": _STRONG,
    "wechat_openid": {"scope": "app", **_STRONG},
    "email": {"limit": 20, "blocked": PLACEHOLDERS + _EMAILS, "blocked_patterns": (_ROLES,)},
    "email_sha256": {"limit": 20},
    "phone": {
        "limit": 20,
        "blocked_patterns": (_SAME_DIGITS, _CHINESE_SERVICES, _COUNTED),
    },
    "phone_sha256": {"limit": 20},
    DEFAULT_TYPE: {"scope": "system", **_STRONG},
    # What millions of devices answer: a broken Android of 2010, and a phone that hides its MAC.
    "android_id": {**_DEVICE, "blocked": (*PLACEHOLDERS, "9774d56d682e549c")},
    "device_id": {**_DEVICE, "blocked": (*PLACEHOLDERS, "02:00:00:00:00:00")},
    "imei": {**_DEVICE, "blocked": (*PLACEHOLDERS, "812345678912345", "111111111111111")},
}


def list_default_types() -> dict[str, dict[str, Any]]:
    """Return the entries of a new workspace's rules."""
    return {name: {**kind, **_REACH.get(name, _DEVICE)} for name, kind in KNOWN_TYPES.items()}
