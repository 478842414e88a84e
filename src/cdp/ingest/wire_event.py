"""The parts of an SDK's event that we look into, as msgspec reads them; the rest stays bytes. Pure.

Types are as wide as what SDKs were seen to send, so that only the odd event takes the slow path.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

LONGEST_ID = 512
"""Characters. Longer ones are no identifiers of people, and do not fit into an index."""

WireId = Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | int | None
"""An identifier as sent: rudder-node and the Python SDKs leave numbers in groupId, previousId."""

_EMPTY = Raw(b"")


class WireDevice(msgspec.Struct, gc=False, rename="camel"):
    """``context.device``."""

    id: WireId = None
    type: str | None = None
    advertising_id: WireId = None
    token: WireId = None


class WireApp(msgspec.Struct, gc=False):
    """``context.app``."""

    namespace: str | None = None


class WireExternalId(msgspec.Struct, gc=False, rename="camel"):
    """One of ``context.externalIds``."""

    id: WireId = None
    type: str | None = None
    collection: str | None = None
    encoding: str | None = None


class WireConsent(msgspec.Struct, gc=False, rename="camel"):
    """``context.consent`` as Segment's SDKs fill it."""

    category_preferences: dict[str, Any] | None = None


class WireConsentManagement(msgspec.Struct, gc=False, rename="camel"):
    """``context.consentManagement`` as RudderStack's SDKs fill it."""

    allowed_consent_ids: list[Any] | dict[str, Any] | None = None
    denied_consent_ids: list[Any] | None = None


class WireContext(msgspec.Struct, rename="camel"):
    """``context``: who, and what they agreed to."""

    traits: dict[str, Any] | None = None
    external_ids: list[WireExternalId] | None = None
    device: WireDevice | None = None
    app: WireApp | None = None
    consent: WireConsent | None = None
    consent_management: WireConsentManagement | None = None


class WireLine(msgspec.Struct, rename="camel"):
    """One event, as the worker reads it, with what SDKs add that says nothing of the person."""

    type: str
    event: str | None = None
    name: str | None = None
    category: str | None = None
    user_id: WireId = None
    anonymous_id: WireId = None
    previous_id: WireId = None
    group_id: WireId = None
    message_id: str | int | None = None
    timestamp: str | int | float | None = None
    original_timestamp: str | int | float | None = None
    sent_at: str | int | float | None = None
    properties: Raw = _EMPTY
    traits: Raw = _EMPTY
    context: Raw = _EMPTY
    integrations: Raw = _EMPTY
    channel: Raw = _EMPTY
    write_key: Raw = _EMPTY
    received_at: Raw = _EMPTY
    metadata: Raw = msgspec.field(default=_EMPTY, name="_metadata")


class _KnownLine(WireLine, forbid_unknown_fields=True):
    """One event that has no other members."""


class WireNamed(msgspec.Struct, gc=False):
    """What a page's properties may say twice."""

    name: Any = None
    category: Any = None


class WireHead(msgspec.Struct, gc=False, rename="camel"):
    """As much of an event as the door needs."""

    type: str | UnsetType = UNSET
    user_id: WireId = None
    anonymous_id: WireId = None


class WireTypedHead(msgspec.Struct, gc=False, rename="camel"):
    """The same of an event whose type no route says."""

    type: Literal["track", "identify", "page", "screen", "group", "alias"]
    user_id: WireId = None
    anonymous_id: WireId = None


class _Contact(msgspec.Struct, gc=False):
    email: str | None = None
    phone: WireId = None


class WireOrderContact(msgspec.Struct, gc=False):
    """What the properties of an order say of its buyer."""

    order_id: Any = None
    email: Any = None
    phone: Any = None
    member_card: Any = None


class _ContactContext(msgspec.Struct, gc=False, rename="camel"):
    traits: _Contact | None = None
    external_ids: list[WireExternalId] | None = None
    device: WireDevice | None = None


class WireContacts(msgspec.Struct, gc=False, rename="camel"):
    """Every other way in which an event may name a person."""

    previous_id: WireId = None
    traits: _Contact | None = None
    context: _ContactContext | None = None
    properties: WireOrderContact | None = None
    type: str = ""
    event: str | None = None


class WireBatch(msgspec.Struct, gc=False, rename="camel"):
    """The body of a batch request; each element is judged alone."""

    batch: list[Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: Raw | UnsetType | None = UNSET
    integrations: Raw | UnsetType | None = UNSET


class WireKey(msgspec.Struct, gc=False, rename="camel"):
    """The write key in the body of a single event."""

    write_key: str | None = None


decode_head = msgspec.json.Decoder(WireHead).decode
decode_typed_head = msgspec.json.Decoder(WireTypedHead).decode
decode_contacts = msgspec.json.Decoder(WireContacts).decode
decode_batch = msgspec.json.Decoder(WireBatch).decode
decode_key = msgspec.json.Decoder(WireKey).decode
decode_line = msgspec.json.Decoder(WireLine).decode
decode_known_line = msgspec.json.Decoder(_KnownLine).decode
decode_context = msgspec.json.Decoder(WireContext).decode
decode_named = msgspec.json.Decoder(WireNamed).decode
decode_order_contact = msgspec.json.Decoder(WireOrderContact).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode

KNOWN_MEMBERS = frozenset(field.encode_name for field in msgspec.structs.fields(WireLine))
"""The members of an event that have a meaning here, by their names on the wire."""

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What strict decoding raises for an event that then takes the slow path."""


def read_id(value: WireId) -> str | None:
    """Return an identifier as text: digits for a whole number, nothing for an empty one."""
    if value is None:
        return None
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    return str(value)
