"""Metered AI spend against what providers bill: what was never metered, and the corrections that make the ledger agree with the bill."""
