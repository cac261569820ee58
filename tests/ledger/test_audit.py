"""The audit log: who changed what, newest first."""

import json
from decimal import Decimal

from costwarden.ledger.audit import append_audit, list_audit


def test_an_entry_keeps_what_was_before_and_after(ledger):
    ledger.write(
        lambda connection: append_audit(
            connection, at=1, actor="alice", action="set_budget", subject="acme", before={"limit": 1}, after={"ratio": Decimal("0.8")}
        )
    )
    with ledger.read() as connection:
        (entry,) = list_audit(connection)
    assert {name: entry[name] for name in ("at", "actor", "action", "subject")} == {
        "at": 1,
        "actor": "alice",
        "action": "set_budget",
        "subject": "acme",
    }
    assert (json.loads(entry["before"]), json.loads(entry["after"])) == ({"limit": 1}, {"ratio": "0.8"})


def test_the_newest_entries_come_first_and_the_rest_is_left_out(ledger):
    def write(connection):
        for at in range(5):
            append_audit(connection, at=at, actor="alice", action="suspend_tenant", subject="acme")

    ledger.write(write)
    with ledger.read() as connection:
        assert [(entry["at"], entry["before"], entry["after"]) for entry in list_audit(connection, limit=2)] == [(4, "", ""), (3, "", "")]
