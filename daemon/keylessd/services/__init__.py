"""The HTTP interfaces of Fulcio, Rekor and timestamp authorities."""
