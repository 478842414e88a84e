"""Mappings for what tills, CRMs, ERPs and service desks export, found by the columns' names. Pure.

A preset says per field under which names exports have it, in English and Chinese. Names are
compared without case, spaces and punctuation. What the user's mapping says of a column counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdp.errors import Unprocessable
from cdp.ingest.imports.mapping import Column, ValueType
from cdp.ingest.imports.targets import Kind

_STATUS = {
    "已付款": "paid", "已支付": "paid", "待付款": "pending", "待支付": "pending",
    "已完成": "completed", "完成": "completed", "交易成功": "completed", "已取消": "cancelled",
    "取消": "cancelled", "作废": "cancelled", "已退货": "returned", "退货": "returned",
    "已退款": "returned",
}  # fmt: skip
_GENDER = {
    "男": "male",
    "女": "female",
    "先生": "male",
    "女士": "female",
    "M": "male",
    "F": "female",
}


class _Field(NamedTuple):
    target: str
    names: str
    """Separated by a vertical bar."""
    type: ValueType | None = None
    values: Mapping[str, str] = {}


class _Preset(NamedTuple):
    fields: tuple[_Field, ...]
    needed: tuple[tuple[str, ...], ...]
    """Of each group at least one target must have a column."""


_NAME = _Field(
    "traits.name", "name|full name|customer name|contact name|姓名|客户姓名|顾客姓名|联系人"
)
_EMAIL = _Field("identifiers.email", "email|e-mail|mail|email address|邮箱|电子邮箱|邮件|电子邮件")
_PHONE = _Field(
    "identifiers.phone",
    "phone|mobile|mobile phone|phone number|telephone|手机|手机号|手机号码|电话|联系电话|会员手机",
)
_CITY = _Field("traits.city", "city|城市|所在城市")
_MEMBER = _Field(
    "identifiers.loyalty_id",
    "loyalty id|loyalty card|member no|member id|card no|会员号|会员卡号|会员编号|卡号",
)

_PRESETS: dict[tuple[str, Kind], _Preset] = {
    ("pos-receipts", "orders"): _Preset(
        (
            _Field(
                "order_id",
                "order id|order no|receipt|receipt no|receipt number|receipt id|transaction id"
                "|小票号|单号|订单号|流水号|销售单号|交易号",
            ),
            _Field(
                "placed_at",
                "placed at|date|time|datetime|sold at|transaction time|receipt time|sale time"
                "|消费时间|交易时间|销售时间|下单时间|时间|日期|销售日期",
                "time",
            ),
            _Field("updated_at", "updated at|modified at|更新时间|修改时间", "time"),
            _Field("status", "status|state|状态|订单状态", None, _STATUS),
            _Field("currency", "currency|币种|货币"),
            _Field(
                "total",
                "total|order total|receipt total|amount due|grand total"
                "|总额|总金额|合计|订单金额|实收|实收金额|应收金额",
                "money",
            ),
            _Field("discount", "discount|discount total|优惠|优惠金额|折扣金额", "money"),
            _Field("tax", "tax|vat|税|税额", "money"),
            _Field("store", "store|store id|store name|shop|branch|门店|店铺|门店名称|门店编号"),
            _Field("channel", "channel|渠道"),
            _Field("lines.sku", "sku|item|item no|product id|barcode|商品编码|货号|条码|商品编号"),
            _Field("lines.name", "product|product name|item name|description|商品|商品名称|品名"),
            _Field("lines.category", "category|product category|类别|品类|商品分类"),
            _Field("lines.quantity", "quantity|qty|数量|件数", "number"),
            _Field("lines.price", "price|unit price|单价|售价", "money"),
            _MEMBER,
            _PHONE,
            _EMAIL,
        ),
        (("order_id",),),
    ),
    ("crm-contacts", "profiles"): _Preset(
        (
            _Field("identifiers.crm_id", "contact id|crm id|record id|客户编号|客户id|联系人编号"),
            _Field("userId", "user id|用户id|用户编号"),
            _EMAIL,
            _PHONE,
            _MEMBER,
            _NAME,
            _Field("traits.first_name", "first name|given name|名"),
            _Field("traits.last_name", "last name|surname|family name|姓"),
            _Field("traits.gender", "gender|sex|性别", None, _GENDER),
            _Field("traits.birthday", "birthday|birth date|date of birth|生日|出生日期", "date"),
            _Field("traits.company", "company|account|account name|公司|公司名称|单位"),
            _CITY,
            _Field("traits.address", "address|street|地址|联系地址"),
            _Field("traits.owner", "owner|account manager|负责人|跟进人"),
            _Field("timestamp", "updated at|last modified|modified|更新时间|最后修改时间", "time"),
            _Field("consent.marketing", "marketing consent|opt in|营销授权|同意营销", "boolean"),
        ),
        (
            (
                "identifiers.crm_id", "userId", "identifiers.email", "identifiers.phone",
                "identifiers.loyalty_id",
            ),
        ),
    ),
    ("erp-customers", "accounts"): _Preset(
        (
            _Field(
                "account_id",
                "customer no|customer number|customer id|account id|account no|debtor"
                "|客户编号|客户编码|客户代码|客户号",
            ),
            _Field("type", "type|customer type|客户类型|类型"),
            _Field("traits.name", "name|customer name|company|company name|客户名称|公司名称|名称"),
            _Field("traits.tax_number", "tax no|tax number|vat id|税号|纳税人识别号"),
            _Field("traits.industry", "industry|行业"),
            _CITY,
            _Field("traits.credit_limit", "credit limit|信用额度|授信额度", "money"),
            _Field("traits.payment_terms", "payment terms|terms|账期|付款条件"),
            _Field("members.identifiers.email", "contact email|email|邮箱|联系人邮箱"),
            _Field("members.identifiers.phone", "contact phone|phone|手机|电话|联系电话"),
            _Field("members.role", "role|contact role|职务|职位"),
        ),
        (("account_id",),),
    ),
    ("erp-customers", "profiles"): _Preset(
        (
            _Field(
                "identifiers.erp_id",
                "customer no|customer number|customer id|debtor|客户编号|客户编码|客户代码|客户号",
            ),
            _EMAIL,
            _PHONE,
            _Field("traits.name", "name|customer name|姓名|客户名称|客户姓名|名称"),
            _Field("traits.customer_group", "customer group|group|客户分类|客户等级|客户级别"),
            _CITY,
            _Field("traits.credit_limit", "credit limit|信用额度|授信额度", "money"),
            _Field("timestamp", "updated at|modified|更新时间|修改时间", "time"),
        ),
        (("identifiers.erp_id", "identifiers.email", "identifiers.phone"),),
    ),
    ("service-tickets", "events"): _Preset(
        (
            _Field(
                "properties.ticket_id",
                "ticket id|ticket no|ticket|case id|case number|工单号|工单编号|服务单号",
            ),
            _Field(
                "timestamp",
                "created at|created|opened at|date|time|创建时间|提交时间|受理时间|时间",
                "time",
            ),
            _Field("properties.status", "status|state|状态|工单状态"),
            _Field("properties.priority", "priority|优先级|紧急程度"),
            _Field("properties.category", "category|topic|type|分类|问题类型|工单类型"),
            _Field("properties.subject", "subject|title|summary|主题|标题"),
            _Field("properties.channel", "channel|source|渠道|来源"),
            _Field("properties.agent", "agent|assignee|客服|处理人"),
            _Field("properties.satisfaction", "satisfaction|csat|rating|满意度|评分", "number"),
            _Field("properties.nps", "nps|nps score|推荐分", "number"),
            _Field("properties.resolved_at", "resolved at|closed at|解决时间|关闭时间", "time"),
            _Field("userId", "user id|用户id"),
            _EMAIL,
            _PHONE,
            _MEMBER,
        ),
        (
            (
                "userId", "identifiers.email", "identifiers.phone", "identifiers.loyalty_id",
            ),
        ),
    ),
}  # fmt: skip

PRESETS: dict[str, Kind] = {
    "pos-receipts": "orders",
    "crm-contacts": "profiles",
    "erp-customers": "accounts",
    "service-tickets": "events",
}
"""The presets, and the kind that each is for when nobody says another."""

CONSTANTS: Mapping[tuple[str, Kind], Mapping[str, str]] = {
    ("service-tickets", "events"): {"type": "track", "event": "Ticket Created"},
}
_PUNCTUATION = re.compile(r"[\W_]+")


def check_preset(name: str, kind: Kind) -> None:
    """Raise ``Unprocessable`` when there is no such preset for rows of ``kind``."""
    if name not in PRESETS:
        raise Unprocessable(
            "unknown_preset", f"a preset is one of {', '.join(PRESETS)}", path="/mapping/preset"
        )
    kinds = [own for preset, own in _PRESETS if preset == name]
    if kind not in kinds:
        raise Unprocessable(
            "unknown_preset", f"{name} is for {' or '.join(kinds)}", path="/mapping/preset"
        )


def apply_preset(
    name: str, kind: Kind, columns: Sequence[str], chosen: Mapping[str, Column]
) -> dict[str, Column]:
    """Return what the preset says of ``columns`` that ``chosen`` does not name.

    Raises ``Unprocessable`` when the file lacks what rows of this preset cannot do without.
    """
    check_preset(name, kind)
    preset = _PRESETS[name, kind]
    folded = {fold_name(column): column for column in reversed(columns) if column not in chosen}
    taken = {column.to for column in chosen.values()}
    found: dict[str, Column] = {}
    for field in preset.fields:
        if field.target in taken:
            continue
        for alias in field.names.split("|"):
            column = folded.get(fold_name(alias))
            if column is not None and column not in found:
                found[column] = Column(field.target, field.type, values=field.values)
                break
    targets = taken | {column.to for column in found.values()}
    for group in preset.needed:
        if targets.isdisjoint(group):
            names = " | ".join(f.names for f in preset.fields if f.target in group)
            raise Unprocessable(
                "missing_column",
                f"{name} needs a column for {' or '.join(group)}, under one of these names: "
                f"{names.replace('|', ', ')[:600]}; or map one yourself",
                path="/mapping/preset",
            )
    return found


def fold_name(name: str) -> str:
    """Return a column's name without case, width, spaces and punctuation."""
    return _PUNCTUATION.sub("", unicodedata.normalize("NFKC", name).casefold())
