"""What brought a visit: campaign, click, referrer, and the channel that these amount to. Pure.

The channels are those of web analytics' default groupings, with the places where people are reached
in China beside the western ones. A *touch* is a visit that something brought; a visit that nothing
brought is ``direct`` and no touch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

UTM_NAMES = ("source", "medium", "campaign", "term", "content")
CLICK_IDS: Mapping[str, str] = {
    "gclid": "google", "gbraid": "google", "wbraid": "google", "dclid": "google",
    "msclkid": "bing", "fbclid": "facebook", "ttclid": "tiktok", "twclid": "twitter",
    "li_fat_id": "linkedin", "bd_vid": "baidu", "qz_gdt": "tencent", "gdt_vid": "tencent",
    "clickid": "douyin",
}  # fmt: skip
"""Parameters that advertisers put on their links, and whose they are. All but ``fbclid`` are paid

for: Facebook marks every link that leaves it.
"""
_FREE_CLICKS = frozenset({"fbclid"})
CHANNELS = ("paid", "email", "sms", "social", "search", "referral", "campaign", "direct")

SEARCH_SITES = (
    "google", "bing", "baidu", "yahoo", "duckduckgo", "yandex", "sogou", "ecosia", "naver",
    "haosou",
)  # fmt: skip
SOCIAL_SITES = (
    "facebook", "instagram", "twitter", "linkedin", "pinterest", "reddit", "youtube", "tiktok",
    "threads", "whatsapp", "telegram", "weixin", "wechat", "weibo", "douyin", "xiaohongshu",
    "xhslink", "zhihu", "bilibili", "kuaishou", "qzone", "douban", "toutiao",
)  # fmt: skip
_MAIL_SITES = ("mail", "outlook.live", "webmail")
# Hosts whose names would be too short to look for.
_KIND_BY_HOST = {
    "t.co": "social", "x.com": "social", "t.cn": "social", "weibo.cn": "social", "t.me": "social",
    "lnkd.in": "social", "fb.com": "social", "so.com": "search", "sm.cn": "search",
    "m.sm.cn": "search",
}  # fmt: skip
# Words that stand in ``utm_source`` in place of a site's name.
_SOURCE_WORDS = {
    "微信": "wechat", "weixin": "wechat", "mp": "wechat", "微博": "weibo", "抖音": "douyin",
    "小红书": "xiaohongshu", "xhs": "xiaohongshu", "red": "xiaohongshu", "百度": "baidu",
    "fb": "facebook", "ig": "instagram", "x": "twitter",
}  # fmt: skip

_PAID = re.compile(r"^(.*cp.|ppc|retargeting|paid.*|display|banner|interstitial|sem|feed_?ads?)$")
_MEDIA = {
    "email": "email", "e-mail": "email", "e_mail": "email", "edm": "email", "mail": "email",
    "newsletter": "email", "sms": "sms", "mms": "sms", "text": "sms",
    "social": "social", "social-network": "social", "social-media": "social", "sm": "social",
    "social_network": "social", "social_media": "social", "kol": "social", "koc": "social",
    "organic": "search", "seo": "search", "referral": "referral", "affiliate": "referral",
}  # fmt: skip


class Visit(NamedTuple):
    """What an event says of how its person came."""

    campaign: Mapping[str, Any]
    """``context.campaign``."""
    url: str | None
    referrer: str | None


def read_visit(context: Mapping[str, Any], properties: Mapping[str, Any], call: str) -> Visit:
    """Read an event's page, of a page call from its properties when the context has none."""
    page = _as_object(context.get("page")) or (properties if call == "page" else {})
    return Visit(
        _as_object(context.get("campaign")), _text(page.get("url")), _text(page.get("referrer"))
    )


def describe_visit(visit: Visit) -> dict[str, Any]:
    """Return source, medium, campaign, term, content, click id, referrer and its domain, url,

    channel. What the context does not say of the campaign is read from the page's address.
    """
    asked = _read_query(visit.url)
    utm = {
        name: _text(visit.campaign.get("name" if name == "campaign" else name))
        or asked.get(f"utm_{name}")
        for name in UTM_NAMES
    }
    click = next((name for name in CLICK_IDS if name in asked), None)
    domain = find_domain(visit.referrer)
    is_inner = domain is not None and domain == find_domain(visit.url)
    outside = None if is_inner else domain
    return {
        **utm,
        "click_id": None if click is None else {"type": click, "value": asked[click]},
        "referrer": visit.referrer,
        "referrer_domain": domain,
        "url": visit.url,
        "channel": classify(utm["source"], utm["medium"], utm["campaign"], click, outside),
    }


def classify(
    source: str | None,
    medium: str | None,
    campaign: str | None,
    click: str | None,
    domain: str | None,
) -> str:
    """Return one of ``CHANNELS``; the first that fits.

    A paid medium or click; the medium's own word; what the source is (a search engine, a social
    network); the referring site; a campaign of a source that says nothing else; direct.
    """
    said = (medium or "").strip().lower()
    if _PAID.match(said) or (click is not None and click not in _FREE_CLICKS):
        return "paid"
    if said in _MEDIA:
        return _MEDIA[said]
    named = _name_source(source)
    for site in (named, click and CLICK_IDS[click], domain):
        kind = _find_kind(site)
        if kind is not None:
            return kind
    if source or campaign or said:
        return "campaign"
    return "referral" if domain else "direct"


def find_domain(url: str | None) -> str | None:
    """Return the host of an address without ``www.``, in lower case; ``None`` for none."""
    if not url:
        return None
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.removeprefix("www.") if host else None


def _find_kind(site: str | None) -> str | None:
    if not site:
        return None
    if site in _KIND_BY_HOST:
        return _KIND_BY_HOST[site]
    # ``google.co.uk`` is google, ``m.weibo.com`` weibo.
    labels = site.split(".")
    if len(labels) > 1 and site.startswith(tuple(f"{one}." for one in _MAIL_SITES)):
        return "email"
    if any(one in SOCIAL_SITES for one in labels):
        return "social"
    return "search" if any(one in SEARCH_SITES for one in labels) else None


def _name_source(source: str | None) -> str | None:
    if source is None:
        return None
    word = source.strip().lower()
    if word in ("email", "newsletter", "edm"):
        return "mail.x"
    return _SOURCE_WORDS.get(word, word)


def _read_query(url: str | None) -> dict[str, str]:
    if not url or "?" not in url:
        return {}
    try:
        asked = parse_qs(urlsplit(url).query, max_num_fields=200)
    except ValueError:
        return {}
    return {name: values[0] for name, values in asked.items()}


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
