"""The tracking plan: what sources send, what they should send, and how the two differ."""
