"""A ledger that opens is durable and has one owner; one that does not open says why."""

import shutil
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from costwarden.ledger import Ledger, LedgerError, LedgerUnavailable
from costwarden.ledger.partitions import make_partitions


def pragma(connection, name):
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

FULL = 2
"""https://www.sqlite.org/pragma.html#pragma_synchronous"""


@SQLITE
def test_every_connection_writes_ahead_and_syncs_at_every_commit(ledger):
    with ledger.read() as connection:
        assert (pragma(connection, "journal_mode"), pragma(connection, "synchronous")) == ("wal", FULL)
    assert ledger.write(lambda connection: (pragma(connection, "journal_mode"), pragma(connection, "synchronous"))) == ("wal", FULL)


def test_what_was_written_is_there_when_it_is_opened_again(open_ledger):
    first = open_ledger()
    first.write(lambda connection: connection.exec_driver_sql("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')"))
    first.close()
    with open_ledger().read() as connection:
        assert connection.exec_driver_sql("SELECT tenant_id FROM suspended_tenants").scalar_one() == "acme"


def test_a_reader_sees_one_moment_while_others_write(ledger):
    count = "SELECT count(*) FROM suspended_tenants"
    with ledger.read() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == 0
        ledger.write(lambda writer: writer.exec_driver_sql("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')"))
        assert connection.exec_driver_sql(count).scalar_one() == 0
    with ledger.read() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == 1


@SQLITE
def test_a_second_owner_is_refused_because_two_would_spend_the_same_budget_twice(open_ledger, database_url):
    path = open_ledger(owner=True).path
    with pytest.raises(LedgerError) as refusal:
        Ledger(database_url, owner=True)
    assert str(refusal.value) == f"{path}: another costwarden serves this ledger; two would spend the same budget twice"


@SQLITE
def test_an_owner_in_another_process_is_refused_too(open_ledger, database_url, project):
    open_ledger(owner=True)
    program = "import sys; from costwarden.ledger import Ledger; Ledger(sys.argv[1], owner=True)"
    environ = {"PYTHONPATH": str(project / "exporter")}
    other = subprocess.run([sys.executable, "-c", program, database_url], capture_output=True, text=True, env=environ, check=False)
    assert other.returncode == 1
    assert "another costwarden serves this ledger" in other.stderr


def test_ownership_ends_with_close(open_ledger):
    open_ledger(owner=True).close()
    open_ledger(owner=True)


def test_ownership_ends_where_opening_fails(tmp_path):
    path = tmp_path / "costwarden.db"
    path.write_bytes(b"not a database, and longer than the header of one\n" * 100)
    for _ in range(2):
        with pytest.raises(LedgerError, match="file is not a database"):
            Ledger(f"sqlite:///{path}", owner=True)


def test_readers_and_the_command_line_open_beside_the_owner(open_ledger):
    open_ledger(owner=True)
    beside = open_ledger()
    assert beside.write(lambda connection: connection.exec_driver_sql("SELECT 1").scalar_one()) == 1


def test_a_directory_that_is_missing_is_named(tmp_path):
    path = tmp_path / "gone" / "costwarden.db"
    with pytest.raises(LedgerError) as refusal:
        Ledger(f"sqlite:///{path}")
    assert str(refusal.value) == f"{path}: the directory {path.parent} does not exist"


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "costwarden.db"
    content = b"not a database, and longer than the header of one\n" * 100
    path.write_bytes(content)
    with pytest.raises(LedgerError) as refusal:
        Ledger(f"sqlite:///{path}")
    assert str(refusal.value) == f"{path}: cannot be opened as a ledger: file is not a database"
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(LedgerError) as refusal:
        Ledger(f"sqlite:///{tmp_path}")
    assert str(refusal.value) == f"{tmp_path}: cannot be opened as a ledger: unable to open database file"


def test_a_lock_that_cannot_be_made_is_named(tmp_path):
    lock = tmp_path / "costwarden.db.lock"
    lock.mkdir()
    with pytest.raises(LedgerError) as refusal:
        Ledger(f"sqlite:///{tmp_path / 'costwarden.db'}", owner=True)
    assert str(refusal.value) == f"{lock}: Is a directory"


@pytest.mark.parametrize(
    ("database_url", "sentence"),
    [
        ("costwarden.db", "database_url: is not a URL, as `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`"),
        ("sqlite://", "database_url sqlite://: the ledger is kept in a file, `sqlite:///PATH`"),
        ("sqlite:///:memory:", "database_url sqlite:///%3Amemory%3A: the ledger is kept in a file, `sqlite:///PATH`"),
        (
            "mysql://costwarden:hunter2@db/costwarden",
            "database_url mysql://costwarden:***@db/costwarden: is neither `sqlite:///PATH` nor `postgresql://USER@HOST/DATABASE`",
        ),
        (
            "postgresql://costwarden:hunter2@db",
            "database_url postgresql://costwarden:***@db: names no database, `postgresql://USER@HOST/DATABASE`",
        ),
    ],
)
def test_a_url_that_names_no_ledger_is_refused_without_its_password(database_url, sentence):
    with pytest.raises(LedgerError) as refusal:
        Ledger(database_url)
    assert str(refusal.value) == sentence


@SQLITE
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_is_no_longer_there_takes_nothing_more(ledger, empty_ledger, replaced):
    # The connection would go on writing into the file that nobody can find again.
    changes = []
    ledger.writer.on_change = lambda: changes.append(ledger.writer.healthy)
    ledger.check_file()
    ledger.write(lambda connection: None)
    assert ledger.writer.healthy
    ledger.path.rename(f"{ledger.path}.old")
    if replaced:
        shutil.copy(empty_ledger, ledger.path)
    ledger.check_file()
    with pytest.raises(LedgerUnavailable) as refusal:
        ledger.write(lambda connection: None)
    assert str(refusal.value) == f"the file {ledger.path} was deleted or replaced; restart costwarden"
    assert changes[-1:] == [False]


def test_a_read_that_fails_is_told_as_such(ledger):
    cause = '(no such table: charge|relation "charge" does not exist)$'
    with pytest.raises(LedgerUnavailable, match=f"^the ledger cannot be read: {cause}"), ledger.read() as connection:
        connection.exec_driver_sql("SELECT * FROM charge")


def test_a_ledger_that_is_closed_refuses_to_write(ledger):
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="the ledger is closed"):
        ledger.write(lambda connection: None)


def test_a_file_that_was_deleted_or_replaced_is_not_written_any_more(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.check_file()
    ledger.write(lambda _: None)
    (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
    with capture_logs():
        ledger.check_file()
    assert not ledger.writer.healthy
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db was deleted or replaced; restart costwarden"):
        ledger.write(lambda _: None)
    ledger.close()


# --- PostgreSQL ----------------------------------------------------------------------------------------------------------------


@POSTGRESQL
def test_any_number_of_owners_share_a_database(open_ledger):
    first, second = open_ledger(owner=True), open_ledger(owner=True)
    first.write(lambda connection: connection.exec_driver_sql("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')"))
    with second.read() as connection:
        assert connection.exec_driver_sql("SELECT tenant_id FROM suspended_tenants").scalar_one() == "acme"


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path):
    with pytest.raises(LedgerError) as refusal:
        Ledger(f"postgresql://costwarden:hunter2@/costwarden?host={tmp_path}")
    assert str(refusal.value).startswith("postgresql://costwarden:***@/costwarden: cannot be opened as a ledger: ")
    assert "No such file or directory" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_database_that_is_not_there_is_named(postgresql):
    with pytest.raises(LedgerError, match=r'/nowhere: cannot be opened as a ledger: .*database "nowhere" does not exist'):
        Ledger(postgresql.url("nowhere"))


@POSTGRESQL
def test_a_reader_cannot_write(ledger):
    refusal = "the ledger cannot be read: cannot execute INSERT in a read-only transaction"
    with pytest.raises(LedgerUnavailable, match=refusal), ledger.read() as connection:
        connection.exec_driver_sql("INSERT INTO suspended_tenants (tenant_id) VALUES ('acme')")


def test_a_role_that_owns_its_database_needs_no_other_right(postgresql, postgresql_url):
    url = postgresql_url(migrated=False)
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.execute(f"CREATE ROLE owner_of_{name} LOGIN")
    postgresql.execute(f"ALTER DATABASE {name} OWNER TO owner_of_{name}")
    ledger = Ledger(url.replace("postgres@", f"owner_of_{name}@"), owner=True)
    assert len(ledger.write(lambda connection: make_partitions(connection, 1_763_208_000_000_000))) == 4
    assert ledger.lead()
    ledger.close()
    postgresql.drop(name)
    postgresql.execute(f"DROP ROLE owner_of_{name}")
