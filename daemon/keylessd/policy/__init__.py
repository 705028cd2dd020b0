"""Pure decisions: who may ask for what, and which signer is expected."""
