"""Who we sign as."""
