"""The use cases: sign, attest, verify, status. No sockets, no wire types."""
