"""Whoever changes a budget or a suspension, by hand as well, leaves word of it."""

import pytest

from costwarden.ledger.budgets import changes_since, newest_change

INSERT = "INSERT INTO budgets (budget) VALUES ('a'), ('b')"


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("UPDATE budgets SET limit_nanos = 5 WHERE budget = 'a'", [("budget", "a")]),
        ("UPDATE budgets SET limit_nanos = 5", [("budget", "a"), ("budget", "b")]),
        ("UPDATE budgets SET budget = 'c' WHERE budget = 'a'", [("budget", "a"), ("budget", "c")]),
        ("DELETE FROM budgets WHERE budget = 'b'", [("budget", "b")]),
        ("DELETE FROM budgets WHERE budget = 'gone'", []),
        ("INSERT INTO budgets (budget) VALUES ('c')", [("budget", "c")]),
        ("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')", [("tenant", "acme")]),
        ("INSERT INTO suspended_tenants (tenant_id) VALUES ('')", [("tenant", "")]),
    ],
)
def test_a_change_by_hand_is_noted(ledger, statement, changes):
    ledger.write(lambda connection: connection.exec_driver_sql(INSERT))
    with ledger.read() as connection:
        before = newest_change(connection)
    ledger.write(lambda connection: connection.exec_driver_sql(statement))
    with ledger.read() as connection:
        assert sorted(changes_since(connection, before)) == changes
        assert (newest_change(connection) > before) == bool(changes)
        assert changes_since(connection, newest_change(connection)) == []


def test_a_change_that_is_rolled_back_is_not_noted(ledger):
    def fail(connection):
        connection.exec_driver_sql(INSERT)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        ledger.write(fail)
    with ledger.read() as connection:
        assert newest_change(connection) == 0
