"""What arrives now and what becomes of it, for whoever watches; nothing runs while nobody does."""
