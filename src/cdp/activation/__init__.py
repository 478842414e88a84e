"""Activation: what changes about people reaches the systems that act on it."""
