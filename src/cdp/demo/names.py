"""Names, places and goods that the demo draws from. Invented people, real cities."""

from __future__ import annotations

from typing import NamedTuple

FAMILY_NAMES: tuple[tuple[str, str], ...] = (
    ("王", "wang"), ("李", "li"), ("张", "zhang"), ("刘", "liu"), ("陈", "chen"), ("杨", "yang"),
    ("赵", "zhao"), ("黄", "huang"), ("周", "zhou"), ("吴", "wu"), ("徐", "xu"), ("孙", "sun"),
    ("胡", "hu"), ("朱", "zhu"), ("高", "gao"), ("林", "lin"), ("何", "he"), ("郭", "guo"),
    ("马", "ma"), ("罗", "luo"), ("梁", "liang"), ("宋", "song"), ("郑", "zheng"), ("谢", "xie"),
    ("韩", "han"), ("唐", "tang"), ("冯", "feng"), ("于", "yu"), ("董", "dong"), ("欧阳", "ouyang"),
)  # fmt: skip

GIVEN_NAMES: tuple[tuple[str, str], ...] = (
    ("伟", "wei"), ("芳", "fang"), ("娜", "na"), ("敏", "min"), ("静", "jing"), ("丽", "li"),
    ("强", "qiang"), ("磊", "lei"), ("洋", "yang"), ("艳", "yan"), ("勇", "yong"), ("杰", "jie"),
    ("子涵", "zihan"), ("欣怡", "xinyi"), ("宇轩", "yuxuan"), ("梓萱", "zixuan"),
    ("浩然", "haoran"),
    ("雨桐", "yutong"), ("一诺", "yinuo"), ("思远", "siyuan"), ("嘉怡", "jiayi"),
    ("俊杰", "junjie"),
    ("晓明", "xiaoming"), ("雪梅", "xuemei"), ("建国", "jianguo"), ("志强", "zhiqiang"),
    ("秀英", "xiuying"), ("婷婷", "tingting"), ("安妮", "anni"), ("天宇", "tianyu"),
)  # fmt: skip

WESTERN_FIRST_NAMES: tuple[str, ...] = (
    "Ann", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Isabel", "James", "Kate",
    "Liam", "Maria", "Noah", "Olivia", "Peter", "Rosa", "Samuel", "Tessa", "Victor", "Zoë",
)  # fmt: skip

WESTERN_LAST_NAMES: tuple[str, ...] = (
    "Adams", "Baker", "Carter", "Dubois", "Evans", "Fischer", "García", "Hughes", "Ivanov",
    "Jensen", "Keller", "Lopez", "Müller", "Novak", "O'Brien", "Parker", "Rossi", "Smith", "Young",
)  # fmt: skip

# City and how many of a hundred people live there.
CITIES: tuple[tuple[str, int], ...] = (
    ("上海", 22), ("北京", 18), ("深圳", 12), ("广州", 11), ("杭州", 9), ("成都", 8), ("武汉", 6),
    ("南京", 5), ("西安", 4), ("重庆", 3), ("苏州", 2),
)  # fmt: skip

MAIL_HOSTS: tuple[str, ...] = ("example.com", "example.cn", "example.net", "mail.example")

MOBILE_PREFIXES: tuple[str, ...] = (
    "135", "136", "138", "139", "150", "151", "158", "176", "182", "186", "187", "188",
)  # fmt: skip


class Product(NamedTuple):
    """Something on sale; ``fen`` is its price in hundredths of a yuan."""

    sku: str
    name: str
    category: str
    fen: int


PRODUCTS: tuple[Product, ...] = (
    Product("TEA-001", "明前龙井 100g", "茶叶", 26800),
    Product("TEA-002", "正山小种 150g", "茶叶", 15800),
    Product("TEA-003", "老白茶饼 350g", "茶叶", 39900),
    Product("TEA-004", "茉莉花茶 200g", "茶叶", 8800),
    Product("COF-001", "云南小粒咖啡豆 250g", "咖啡", 7900),
    Product("COF-002", "挂耳咖啡 20 包", "咖啡", 9900),
    Product("COF-003", "手冲壶", "器具", 23900),
    Product("WAR-001", "青瓷盖碗", "器具", 18900),
    Product("WAR-002", "紫砂壶", "器具", 69900),
    Product("WAR-003", "旅行茶具套装", "器具", 32900),
    Product("WAR-004", "保温杯 480ml", "器具", 12900),
    Product("SNA-001", "桂花糕礼盒", "点心", 6800),
    Product("SNA-002", "坚果六罐装", "点心", 15900),
    Product("SNA-003", "黑巧克力 85%", "点心", 4900),
    Product("GIF-001", "新年茶礼", "礼盒", 49900),
    Product("GIF-002", "中秋月饼礼盒", "礼盒", 29900),
    Product("GIF-003", "企业定制礼盒", "礼盒", 88800),
    Product("HOM-001", "竹制茶盘", "家居", 21900),
    Product("HOM-002", "香薰蜡烛", "家居", 11900),
    Product("HOM-003", "亚麻桌旗", "家居", 8900),
)

# Two stores, each with tablets that many customers sign in on.
STORES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("上海静安店", ("tablet-jingan-1", "tablet-jingan-2")),
    ("杭州西湖店", ("tablet-xihu-1", "tablet-xihu-2")),
)

CAMPAIGNS: tuple[tuple[str, str, str], ...] = (
    ("wechat", "social", "spring-tea"),
    ("xiaohongshu", "social", "new-ware"),
    ("baidu", "cpc", "brand"),
    ("newsletter", "email", "weekly"),
)

TICKET_SUBJECTS: tuple[str, ...] = ("物流延迟", "商品破损", "发票问题", "退款进度", "口味咨询")

REFUND_REASONS: tuple[str, ...] = ("破损", "不合口味", "发错货")

# Stars, and what was written with them.
REVIEWS: tuple[tuple[int, str], ...] = (
    (5, "茶叶很香，非常喜欢，包装精美，还会再来"),
    (5, "质量很好，送给父母，他们十分满意"),
    (5, "味道醇厚，物流很快，强烈推荐"),
    (4, "不错，喜欢这个味道，就是有点贵"),
    (3, "收到了，还没有喝"),
    (2, "味道一般，有些失望"),
    (1, "质量很差，包装破损，非常失望"),
    (1, "客服态度恶劣，太糟糕了，不会再买"),
    (5, "Wonderful tea, I love it! Beautifully packed."),
    (4, "Good quality and fast delivery."),
    (3, "It arrived on Tuesday."),
    (2, "Disappointing, the taste is rather weak."),
    (1, "The cup came broken. Terrible packaging and poor service."),
)
