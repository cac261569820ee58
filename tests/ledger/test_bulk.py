"""Many rows in few statements: every row arrives, whatever their number."""

import pytest

from costwarden.ledger.bulk import delete_keys, insert_rows
from costwarden.ledger.commit import driver
from costwarden.ledger.schema import usage

# Around the chunks of 1, 4, 16 and 64: 31 is 16 + 3 × 4 + 3, 33 is 2 × 16 + 1, 1000 is 15 × 64 + 2 × 16 + 2 × 4.
NUMBERS = [0, 1, 4, 5, 15, 16, 31, 33, 64, 65, 1000]


@pytest.fixture
def raw(ledger):
    with ledger.read() as connection:
        yield driver(connection)


def ids(raw):
    return [row[0] for row in raw.execute("SELECT tenant_id FROM suspended_tenants ORDER BY tenant_id")]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_is_inserted_once_and_in_its_columns(raw, number):
    rows = [(f"{position:04}", f"reason {position}") for position in range(number)]
    insert_rows(raw, "INSERT INTO suspended_tenants (tenant_id, reason)", rows)
    assert raw.execute("SELECT tenant_id, reason FROM suspended_tenants ORDER BY tenant_id").fetchall() == rows


@pytest.mark.parametrize("number", NUMBERS)
def test_every_key_is_deleted_and_no_other(raw, number):
    keys = [f"{position:04}" for position in range(number)]
    insert_rows(raw, "INSERT INTO suspended_tenants (tenant_id)", [(key,) for key in [*keys, "stays"]])
    delete_keys(raw, "suspended_tenants", "tenant_id", keys)
    assert ids(raw) == ["stays"]


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_of_many_columns_arrive_too(raw, number):
    # 27 columns: fewer rows fit into a statement.
    columns = [column.name for column in usage.columns]
    rows = [(position, "test", str(position), *range(len(columns) - 3)) for position in range(number)]
    insert_rows(raw, f"INSERT INTO usage ({', '.join(columns)})", rows)
    found = raw.execute(f"SELECT {', '.join(columns)} FROM usage ORDER BY usage_id").fetchall()
    # The columns of text keep a number as text.
    assert [[str(value) for value in row] for row in found] == [[str(value) for value in row] for row in rows]


def test_the_conflict_clause_holds_for_every_chunk(raw):
    insert, conflict = "INSERT INTO suspended_tenants (tenant_id, reason)", "ON CONFLICT (tenant_id) DO UPDATE SET reason = excluded.reason"
    insert_rows(raw, insert, [(f"{position:04}", "old") for position in range(300)])
    insert_rows(raw, insert, [(f"{position:04}", "new") for position in range(290, 333)], conflict)
    assert raw.execute("SELECT reason, count(*) FROM suspended_tenants GROUP BY reason").fetchall() == [("new", 43), ("old", 290)]
