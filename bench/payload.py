"""The events that every part of the bench posts: 770 bytes, mixed Unicode, known people."""

from __future__ import annotations

import json
import random
from typing import Any

PEOPLE = 1_000


def make_track(person: int, number: int, at: str = "2026-03-01T08:00:00.000Z") -> dict[str, Any]:
    """One track call of about 770 bytes by ``person``; ``number`` makes its message id unique."""
    rng = random.Random(number)
    return {
        "type": "track",
        "event": rng.choice(("Product Viewed", "Product Added", "Order Completed")),
        "messageId": f"ajs-next-{1_700_000_000_000 + number}-{person:08d}-4b1f-9a55-c0ffee{number}",
        "userId": f"user-{person}",
        "anonymousId": f"anon-{person}-7f3a",
        "timestamp": at,
        "properties": {
            "product_id": f"sku-{rng.randrange(5_000)}",
            "name": "真丝围巾 Silk scarf",
            "category": rng.choice(("女装", "男装", "鞋", "包")),
            "price": round(rng.uniform(10, 2_000), 2),
            "quantity": rng.randrange(1, 4),
            "currency": "CNY",
            "url": "https://shop.example/products/silk-scarf?utm_source=wechat",
        },
        "context": {
            "library": {"name": "analytics.js", "version": "next-1.84.3"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari",
            "locale": "zh-CN",
            "timezone": "Asia/Shanghai",
            "page": {"path": "/products/silk-scarf", "title": "真丝围巾", "referrer": ""},
        },
        "integrations": {"Segment.io": True},
    }


def make_lines(count: int, first_number: int, people: int = PEOPLE) -> list[bytes]:
    """``count`` track calls as JSON lines, spread evenly over ``people``."""
    return [
        json.dumps(
            make_track(number % people, number), ensure_ascii=False, separators=(",", ":")
        ).encode()
        for number in range(first_number, first_number + count)
    ]
