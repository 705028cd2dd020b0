"""Building blocks on trio that know nothing of Sigstore."""
