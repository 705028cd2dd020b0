"""keylessd: the daemon that owns trust, sessions and ephemeral keys, and signs and verifies."""
