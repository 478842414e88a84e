"""What our layers of the server tell each other about a request, in its ASGI scope."""

from __future__ import annotations

BODY_IS_WHOLE = "cdp.body_is_whole"
"""Set when the whole body had arrived before the application was called."""
