"""Many rows in few statements: every row arrives, whatever their number, on either database."""

import msgspec
import pytest

from costwarden.ledger.bulk import delete_keys, insert_rows, read_keys
from costwarden.ledger.schema import suspended_tenants, thresholds_crossed, usage
from costwarden.ledger.usage import USAGE_COLUMNS
from costwarden.model import Usage

# Around the chunks of 1, 4, 16 and 64: 31 is 16 + 3 × 4 + 3, 33 is 2 × 16 + 1, 1000 is 15 × 64 + 2 × 16 + 2 × 4.
NUMBERS = [0, 1, 4, 5, 15, 16, 31, 33, 64, 65, 1000]

# What PostgreSQL's own notation for arrays must not mistake for its own.
ODD = ["1", "01", "null", "NULL", '"', "'; DROP TABLE usage; --", "[1]", "{1,2}", ",", "", " ", "é", "😀", "a\nb", "\\u0041", "\\"]


def rows_of(connection, query):
    return [tuple(row) for row in connection.exec_driver_sql(query)]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_is_inserted_once_and_in_its_columns(ledger, number):
    rows = [(f"{position:04}", f"reason {position}", position) for position in range(number)]
    columns = ("tenant_id", "reason", "suspended_at")
    ledger.write(lambda connection: insert_rows(connection, suspended_tenants, columns, rows))
    with ledger.read() as connection:
        assert rows_of(connection, f"SELECT {', '.join(columns)} FROM suspended_tenants ORDER BY tenant_id") == rows


@pytest.mark.parametrize("number", NUMBERS)
def test_every_key_is_deleted_and_no_other(ledger, number):
    keys = [f"{position:04}" for position in range(number)]
    ledger.write(lambda connection: insert_rows(connection, suspended_tenants, ("tenant_id",), [(key,) for key in [*keys, "stays"]]))
    ledger.write(lambda connection: delete_keys(connection, suspended_tenants, "tenant_id", keys))
    with ledger.read() as connection:
        assert rows_of(connection, "SELECT tenant_id FROM suspended_tenants") == [("stays",)]


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_of_many_columns_arrive_too(ledger, number):
    # So many columns that fewer rows fit into a statement of SQLite.
    events = [Usage(source="test", event_id=str(n), timestamp=n, success=n % 2 == 0, cost=-n, images=n) for n in range(number)]
    rows = [msgspec.structs.astuple(event) for event in events]
    ledger.write(lambda connection: insert_rows(connection, usage, USAGE_COLUMNS, rows))
    with ledger.read() as connection:
        assert rows_of(connection, f"SELECT {', '.join(USAGE_COLUMNS)} FROM usage ORDER BY timestamp") == rows


def test_the_conflict_clause_holds_for_every_chunk(ledger):
    columns, conflict = ("tenant_id", "reason"), "ON CONFLICT (tenant_id) DO UPDATE SET reason = excluded.reason"
    old = [(f"{position:04}", "old") for position in range(300)]
    new = [(f"{position:04}", "new") for position in range(290, 333)]
    ledger.write(lambda connection: insert_rows(connection, suspended_tenants, columns, old))
    ledger.write(lambda connection: insert_rows(connection, suspended_tenants, columns, new, conflict))
    with ledger.read() as connection:
        counts = "SELECT reason, count(*) FROM suspended_tenants GROUP BY reason ORDER BY reason"
        assert rows_of(connection, counts) == [("new", 43), ("old", 290)]


@pytest.mark.parametrize("lock", [False, True])
def test_the_rows_of_keys_are_read_whatever_the_keys_look_like(ledger, lock):
    rows = [(name, number, "0.8", number) for number, name in enumerate(ODD)]
    columns = ("budget", "period_start", "threshold", "spent")
    ledger.write(lambda connection: insert_rows(connection, thresholds_crossed, columns, rows))
    keys = [*((name, number) for number, name in enumerate(ODD)), ("gone", 1), (ODD[1], 0)]
    read = ledger.write(lambda connection: read_keys(connection, thresholds_crossed, columns[:2], columns, keys, lock=lock))
    assert sorted(read) == sorted(rows)
    ledger.write(lambda connection: delete_keys(connection, thresholds_crossed, "budget", ODD))
    with ledger.read() as connection:
        assert rows_of(connection, "SELECT * FROM thresholds_crossed") == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_locked_rows_come_in_the_order_of_their_keys(ledger):
    rows = [(name, 0, "0.8") for name in ODD]
    columns = ("budget", "period_start", "threshold")
    ledger.write(lambda connection: insert_rows(connection, thresholds_crossed, columns, rows))
    keys = [(name, 0) for name in reversed(ODD)]
    read = ledger.write(lambda connection: read_keys(connection, thresholds_crossed, columns[:2], ("budget",), keys, lock=True))
    assert [row[0] for row in read] == sorted(ODD)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_text_that_postgresql_cannot_hold_is_refused_by_its_rule(ledger):
    with pytest.raises(Exception, match="cannot contain NUL"):
        ledger.write(lambda connection: insert_rows(connection, suspended_tenants, ("tenant_id",), [("a\0b",)]))
