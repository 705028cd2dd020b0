"""Pure Sigstore: formats and checks. No clock, network, files, environment or randomness."""
