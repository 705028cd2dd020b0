"""Where the trust root comes from, and which one is in force."""
