"""What a history lets one expect. Pure: no ledger, no clock, no configuration."""
