"""A ledger of the version before the notifier, with data in it: they stay as they are, and what is new works at once."""

from collections.abc import Callable
from pathlib import Path

import alembic.command
import msgspec
import pytest
import sqlalchemy

from costwarden.ledger import SCHEMA_REVISION, Connection, Ledger
from costwarden.ledger.audit import append_audit
from costwarden.ledger.notifications import NewNotification, begin_attempt, first_of_each, mark_delivered, outcome_totals, take_in
from costwarden.ledger.partitions import make_partitions
from costwarden.ledger.remediation import Firing, enqueue
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

NEW = {"notifications", "notification_attempts", "notification_totals"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'costwarden.db'}"
    url: str = request.getfixturevalue("postgresql_url")(migrated=False)
    return url


def fill(connection: Connection) -> None:
    """A thousand calls, an alert in the queue, a tenant that is suspended, and an entry of the audit log."""
    if connection.dialect.name == "postgresql":
        make_partitions(connection, NOON)
    calls = (
        Usage(source="test", event_id=str(number), timestamp=NOON + number, tenant_id="acme\x7f語", cost=number) for number in range(1000)
    )
    append_usage(connection, [msgspec.structs.astuple(call) for call in calls])
    enqueue(
        connection, [Firing("f", "2025-11-15T12:00:00.000000Z", "stop_ec2", {"budget": "a"}, {"summary": "s"})], group_key="g", now=NOON
    )
    connection.exec_driver_sql("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')")
    append_audit(connection, at=NOON, actor="a", action="suspend", subject="acme", before=None, after={"suspended": True})


def rows(ledger: Ledger) -> dict[str, list[str]]:
    """Every row of every table, partitions as parts of theirs."""
    with ledger.read() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        return {table: sorted(map(str, connection.exec_driver_sql(f'SELECT * FROM "{table}"'))) for table in tables}


def indexes(ledger: Ledger) -> set[str]:
    with ledger.read() as connection:
        inspector = sqlalchemy.inspect(connection)
        return {str(index["name"]) for table in inspector.get_table_names() for index in inspector.get_indexes(table)}


@pytest.fixture
def before(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A filled ledger of schema 0003, closed; what it holds."""
    upgrade: Callable[..., None] = alembic.command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(alembic.command, "upgrade", lambda config, _: upgrade(config, "0003"))
        ledger = Ledger(database_url, owner=True)
    ledger.write(fill)
    found = rows(ledger)
    ledger.close()
    assert found["alembic_version"] == ["('0003',)"]
    assert NEW.isdisjoint(found)
    # On PostgreSQL the table and its partition.
    assert {len(found[table]) for table in found if table.split("_p")[0] == "usage"} <= {0, 1000}
    assert len(found["usage"]) == 1000
    return found


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_an_upgrade_keeps_every_row_and_adds_empty_tables(before: dict[str, list[str]], database_url: str) -> None:
    ledger = Ledger(database_url, owner=True)
    after = rows(ledger)
    assert after.pop("alembic_version") == [f"('{SCHEMA_REVISION}',)"]
    assert {table: after.pop(table) for table in NEW} == {table: [] for table in NEW}
    del before["alembic_version"]
    assert after == before
    assert indexes(ledger) >= {"notifications_identity", "notifications_state", "notification_attempts_notification"}
    ledger.close()


def test_the_notifier_works_on_an_upgraded_ledger_and_calls_go_on(before: dict[str, list[str]], database_url: str) -> None:
    ledger = Ledger(database_url, owner=True)
    new = NewNotification(receiver="hook", identity="i", group_key="g", status="firing", alerts=1, subject="s", content="{}")
    number, is_new = ledger.write(lambda connection: take_in(connection, new, since=0, now=NOON))
    assert (number, is_new) == (1, True)
    with ledger.read() as connection:
        (first,) = first_of_each(connection)
    attempt = ledger.write(lambda connection: begin_attempt(connection, first, now=NOON, until=NOON + 1))
    assert attempt is not None
    ledger.write(lambda connection: mark_delivered(connection, number, attempt, now=NOON))
    call = msgspec.structs.astuple(Usage(source="test", event_id="new", timestamp=NOON, cost=7))
    ledger.write(lambda connection: append_usage(connection, [call]))
    with ledger.read() as connection:
        assert outcome_totals(connection) == {("hook", "delivered"): (1, NOON)}
        assert connection.exec_driver_sql("SELECT count(*) FROM usage").scalar_one() == 1000 + 1
    ledger.close()
