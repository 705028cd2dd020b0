"""Identities that the daemon itself holds, one module for each kind."""
