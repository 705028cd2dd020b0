"""How a person logs in: by a browser on this machine, by a device code, by a pasted code."""
