"""A customer data platform. Read ``cdp.pipeline`` first."""

__version__ = "0.1.0"
