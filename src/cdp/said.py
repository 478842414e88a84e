"""What a call says of its person: traits and consents. Pure.

The worker reads calls by these rules as they arrive; whoever tells of earlier moments, or works out
anew what counts, reads the stored events by the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def traits_said(
    call: str, properties: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the person's traits in a call: those in its context, and an identify call's own."""
    traits = dict(_as_object(context.get("traits")))
    if call == "identify":
        traits.update(properties)
    return traits


def consents_said(context: Mapping[str, Any]) -> dict[str, bool]:
    """Return the purposes that a call's context grants or denies.

    ``consent.categoryPreferences`` decides over ``consentManagement``, RudderStack's lists.
    """
    managed = _as_object(context.get("consentManagement"))
    consents = dict.fromkeys(_texts(managed.get("allowedConsentIds")), True)
    consents.update(dict.fromkeys(_texts(managed.get("deniedConsentIds")), False))
    preferences = _as_object(_as_object(context.get("consent")).get("categoryPreferences"))
    consents.update({k: v for k, v in preferences.items() if isinstance(v, bool)})
    return consents


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(values: Any) -> list[str]:
    return (
        [v for v in values if isinstance(v, str) and v] if isinstance(values, list | dict) else []
    )
