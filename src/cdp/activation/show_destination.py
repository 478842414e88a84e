"""A destination as it is shown. Pure."""

from __future__ import annotations

from typing import Any

from cdp.activation.destination import Destination, show_settings
from cdp.runtime.clock import format_time


def show_destination(one: Destination) -> dict[str, Any]:
    """Return a destination as it is shown, without its secrets."""
    return {
        "id": one.destination_id,
        "name": one.name,
        "type": one.type,
        "settings": show_settings(one.settings),
        "segments": list(one.segments),
        "tags": list(one.tags),
        "fields": list(one.fields),
        "consent": list(one.consent),
        "masked": one.is_masked,
        "status": one.status,
        "status_reason": one.status_reason,
        "everybody_told": one.scan is None,
        "created_at": format_time(one.created_at),
        "updated_at": format_time(one.updated_at),
    }
