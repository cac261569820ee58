"""The migrations make the tables that `schema.py` declares, and a newer schema is left alone."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import costwarden.ledger
from costwarden.ledger import SCHEMA_REVISION, Ledger, LedgerError
from costwarden.ledger.schema import METADATA

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

VERSIONS = Path(costwarden.ledger.__file__).parent / "migrations" / "versions"


@SQLITE
def test_the_migrated_tables_indexes_and_constraints_are_the_declared_ones(ledger):
    with ledger.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


@SQLITE
def test_every_migrated_column_has_the_declared_type_default_and_key(ledger):
    # Alembic compares neither defaults nor keys of SQLite.
    declared = sqlalchemy.create_engine("sqlite://")
    METADATA.create_all(declared)
    with ledger.read() as migrated, declared.connect() as made:
        for table in METADATA.tables:
            query = f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}') ORDER BY name"
            assert migrated.exec_driver_sql(query).fetchall() == made.exec_driver_sql(query).fetchall()
    declared.dispose()


def test_the_revision_in_the_code_is_the_newest_migration():
    assert max(path.name.split("_")[0] for path in VERSIONS.glob("[0-9]*.py")) == SCHEMA_REVISION


def columns(connection, table):
    """By name: kind, whether it may be NULL, default; without what PostgreSQL adds to a default of a text."""
    found = {}
    for column in sqlalchemy.inspect(connection).get_columns(table):
        default = (column["default"] or "").removesuffix("::text").removesuffix("::bigint").strip("'")
        found[column["name"]] = (type(column["type"]), column["nullable"], default, "identity" in column)
    return found


# What PostgreSQL alone has: see `postgresql_schema.py` and migration 0002.
ONLY_POSTGRESQL = {"usage": {"recorded_xid"}, "usage_hourly": {"digest"}, "usage_totals": {"digest"}}


@POSTGRESQL
@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_every_column_on_postgresql_has_the_declared_type_and_default(ledger, postgresql_url):
    declared = sqlalchemy.create_engine(postgresql_url(migrated=False).replace("postgresql:", "postgresql+psycopg:"))
    METADATA.create_all(declared)
    with ledger.read() as migrated, declared.connect() as made:
        for table in METADATA.tables:
            extra = ONLY_POSTGRESQL.get(table, set())
            found = {name: column for name, column in columns(migrated, table).items() if name not in extra}
            wanted = columns(made, table)
            if table == "usage":
                assert found.pop("usage_id")[:2] == wanted.pop("usage_id")[:2]
            assert found == wanted, table
            key = sqlalchemy.inspect(migrated).get_pk_constraint(table)["constrained_columns"]
            if table not in {*ONLY_POSTGRESQL, "charges"}:
                assert key == sqlalchemy.inspect(made).get_pk_constraint(table)["constrained_columns"], table
    declared.dispose()


@POSTGRESQL
def test_every_text_sorts_by_its_bytes_whatever_the_database_says(ledger):
    collations = (
        "SELECT DISTINCT c.collname FROM pg_attribute AS a JOIN pg_class AS t ON t.oid = a.attrelid JOIN pg_collation AS c ON"
        " c.oid = a.attcollation WHERE t.relkind IN ('r', 'p') AND t.relnamespace = 'public'::regnamespace AND a.attnum > 0"
        " AND t.relname <> 'alembic_version'"
    )
    with ledger.read() as connection:
        assert connection.exec_driver_sql(collations).scalars().all() == ["C"]


@SQLITE
def test_a_ledger_of_a_newer_costwarden_is_refused_and_left_alone(open_ledger, database_url):
    ledger = open_ledger()
    ledger.write(lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerError) as refusal:
        Ledger(database_url, owner=True)
    assert (
        str(refusal.value)
        == f"{ledger.path}: written by a newer costwarden (schema 9999, this one knows {SCHEMA_REVISION}); upgrade costwarden"
    )
    assert ledger.path.read_bytes() == before


@POSTGRESQL
def test_a_database_of_a_newer_costwarden_is_refused(ledger, postgresql_url):
    url = postgresql_url()
    newer = Ledger(url)
    newer.write(lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    newer.close()
    with pytest.raises(LedgerError, match=f"written by a newer costwarden \\(schema 9999, this one knows {SCHEMA_REVISION}\\)"):
        Ledger(url)


def test_two_that_open_a_new_ledger_together_make_it_once(open_ledger):
    together = threading.Barrier(2)

    def open_at_once():
        together.wait()
        return open_ledger()

    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(open_at_once) for _ in range(2)]
    assert [answer.exception() for answer in answers] == [None, None]


def test_a_migration_that_is_cut_off_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "costwarden.db"

    def fail(*_, **__):
        raise RuntimeError("power cut")

    tables = "SELECT count(*) FROM sqlite_master"
    with monkeypatch.context() as patched:
        # Alembic writes its own table last of all in a migration.
        patched.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            Ledger(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    assert connection.execute(tables).fetchone() == (0,)
    connection.close()
    Ledger(f"sqlite:///{path}").close()
