"""The thin client of keyless: names are loaded on first use, so that importing costs nothing."""
