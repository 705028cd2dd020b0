"""Helpers of the tests: builders and fakes. No tests in here."""
