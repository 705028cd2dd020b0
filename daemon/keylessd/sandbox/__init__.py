"""A whole local Sigstore for newcomers and tests. Nothing of the daemon imports it."""
