"""The door: SDK routes in plain ASGI, checked event by event, packed into the log."""
