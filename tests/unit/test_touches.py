"""What brought a visit: campaign, click, referrer, and the channel they amount to."""

from __future__ import annotations

import pytest

from cdp.profiles.touches import Visit, describe_visit, find_domain, read_visit


def channel_of(url: str = "https://shop.cn/", referrer: str | None = None, **campaign: str) -> str:
    return str(describe_visit(Visit(campaign, url, referrer))["channel"])


@pytest.mark.parametrize(
    ("referrer", "channel"),
    [
        (None, "direct"),
        ("https://www.shop.cn/before", "direct"),
        ("https://www.baidu.com/link?url=x", "search"),
        ("https://www.google.co.uk/", "search"),
        ("https://m.sm.cn/s", "search"),
        ("https://mp.weixin.qq.com/s/abc", "social"),
        ("https://m.weibo.cn/1", "social"),
        ("https://www.douyin.com/video/1", "social"),
        ("https://www.xiaohongshu.com/explore", "social"),
        ("https://t.co/x", "social"),
        ("https://mail.google.com/", "email"),
        ("https://blog.example/post", "referral"),
        ("https://so.friend.example/", "referral"),
        ("not an address", "direct"),
    ],
)
def test_a_visit_that_no_campaign_brought_has_its_referrers_channel(
    referrer: str | None, channel: str
) -> None:
    assert channel_of(referrer=referrer) == channel


@pytest.mark.parametrize(
    ("campaign", "channel"),
    [
        ({"source": "google", "medium": "cpc"}, "paid"),
        ({"source": "baidu", "medium": "SEM"}, "paid"),
        ({"source": "spring", "medium": "edm"}, "email"),
        ({"source": "crm", "medium": "sms"}, "sms"),
        ({"source": "小红书", "medium": "kol"}, "social"),
        ({"source": "微信"}, "social"),
        ({"source": "baidu", "medium": "organic"}, "search"),
        ({"source": "newsletter"}, "email"),
        ({"source": "till-qr", "name": "spring"}, "campaign"),
    ],
)
def test_a_campaign_has_its_mediums_channel_else_its_sources(
    campaign: dict[str, str], channel: str
) -> None:
    assert channel_of(referrer="https://blog.example/", **campaign) == channel


def test_campaign_and_click_are_read_from_the_address_too() -> None:
    url = "https://shop.cn/?utm_source=weibo&utm_campaign=%E6%98%A5&bd_vid=77"
    told = describe_visit(Visit({}, url, None))
    assert (told["source"], told["campaign"], told["click_id"], told["channel"]) == (
        "weibo", "春", {"type": "bd_vid", "value": "77"}, "paid",
    )  # fmt: skip
    assert channel_of("https://shop.cn/?fbclid=1") == "social"


def test_what_the_context_says_of_a_campaign_goes_before_the_address() -> None:
    told = describe_visit(Visit({"source": "a"}, "https://shop.cn/?utm_source=b", None))
    assert told["source"] == "a"


def test_a_page_call_without_a_page_in_its_context_tells_it_by_its_properties() -> None:
    properties = {"url": "https://shop.cn/", "referrer": "https://x.com/1"}
    assert read_visit({}, properties, "page") == Visit({}, "https://shop.cn/", "https://x.com/1")
    assert read_visit({}, properties, "track") == Visit({}, None, None)
    assert read_visit({"page": "odd", "campaign": 1}, {}, "track") == Visit({}, None, None)


@pytest.mark.parametrize(
    ("url", "domain"),
    [("https://WWW.Shop.cn:8080/a", "shop.cn"), ("http://[::1", None), ("", None), (None, None)],
)
def test_a_domain_is_the_host_without_www(url: str | None, domain: str | None) -> None:
    assert find_domain(url) == domain
