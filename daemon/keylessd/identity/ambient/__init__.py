"""Identities of the caller's own environment, fetched for one request; a module for each kind."""
