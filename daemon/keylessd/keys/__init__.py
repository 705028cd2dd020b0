"""Ephemeral keys and their certificates."""
