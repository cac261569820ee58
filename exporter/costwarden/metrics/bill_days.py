"""Up to which day bills are known: bills of different providers, and accounts of one provider, are of different age."""

from collections.abc import Mapping
from datetime import date, timedelta

from costwarden.analytics.completeness import WEEKS, known_up_to
from costwarden.analytics.forecast import latest_bill_begins
from costwarden.ledger import Connection
from costwarden.ledger.figures import account_days

Account = tuple[str, str]
"""Source and billing account: what comes together or not at all."""

Known = dict[str, dict[Account, date]]
"""Provider -> account -> the last day of which its cost is known."""


def known_days(connection: Connection, today: date) -> Known:
    """Up to which day before `today` each account's bill is known; without providers that have stopped.

    A provider has stopped when it has billed nothing since `latest_bill_begins`: its last day would be the newest for ever.
    """
    latest = latest_bill_begins(today)
    found = account_days(connection, latest - timedelta(weeks=WEEKS), today)
    known = {provider: known_up_to(accounts) for provider, accounts in found.items()}
    return {provider: accounts for provider, accounts in known.items() if max(accounts.values()) >= latest}


def newest_complete(known: Mapping[str, Mapping[Account, date]]) -> dict[str, date]:
    """By provider, the newest day of which the cost of all its accounts is known."""
    return {provider: min(accounts.values()) for provider, accounts in known.items()}
