"""Reads the sources into the ledger: one refresh of one source, all of them on schedule, and the months before that."""

from costwarden.sync.backfill import backfill
from costwarden.sync.reading import Reading, open_for_ledger
from costwarden.sync.refresh import BeingRead, refresh
from costwarden.sync.scheduler import Scheduler

__all__ = ["BeingRead", "Reading", "Scheduler", "backfill", "open_for_ledger", "refresh"]
