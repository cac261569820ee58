"""A disk that is full: everybody is told, nothing half is kept, and writing goes on as soon as there is room."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from costwarden.ledger import LedgerUnavailable

# The disk of a PostgreSQL server is not ours to fill.
DATABASES = ("sqlite",)

COUNT = "SELECT count(*) FROM audit"
# Far more than the few pages that are left.
LARGE = "x" * 1_000_000


def fill(connection):
    """Let the file grow no further, on this connection: SQLite then answers SQLITE_FULL as it does for a disk."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def append(text):
    return lambda connection: connection.exec_driver_sql("INSERT INTO audit (before) VALUES (?)", (text,))


def entries(ledger):
    with ledger.read() as connection:
        return connection.exec_driver_sql(COUNT).scalar_one()


def test_the_whole_group_is_refused_and_the_next_one_finds_room(ledger, wait_until):
    ledger.write(append("before"))
    ledger.write(fill)
    busy, free = threading.Event(), threading.Event()
    with ThreadPoolExecutor() as callers:
        callers.submit(ledger.write, lambda _: (busy.set(), free.wait(60)))
        assert busy.wait(60)
        answers = []
        for position, text in enumerate(("small", LARGE, "small"), 1):
            answers.append(callers.submit(ledger.write, append(text)))
            wait_until(lambda position=position: len(ledger.writer._waiting) == position)
        free.set()
    # Neither the statement nor its values: they are another caller's.
    assert [str(answer.exception()) for answer in answers] == ["the ledger did not commit: database or disk is full"] * 3
    assert {type(answer.exception()) for answer in answers} == {LedgerUnavailable}
    assert (ledger.writer.healthy, ledger.writer.write_errors) == (False, 1)
    assert entries(ledger) == 1
    # A failed connection is thrown away; the new one has room.
    ledger.write(append(LARGE))
    assert (ledger.writer.healthy, entries(ledger)) == (True, 2)


# In a process of its own: the limit holds for every file that a process writes.
QUOTA = """
import resource, sys
from costwarden.ledger import Ledger, LedgerUnavailable

ledger = Ledger(sys.argv[1])
append = lambda text: lambda connection: connection.exec_driver_sql("INSERT INTO audit (before) VALUES (?)", (text,))
ledger.write(append("before"))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
refused = 0
for _ in range(3):
    try:
        ledger.write(append("x" * 1_000_000))
    except LedgerUnavailable as refusal:
        refused += 1
        print(refusal, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
healthy = ledger.writer.healthy
ledger.write(append("after"))
with ledger.read() as connection:
    kept = [row[0] for row in connection.exec_driver_sql("SELECT before FROM audit ORDER BY entry_id")]
    sound = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
print(refused, healthy, kept, sound)
ledger.close()
"""


def test_a_file_that_the_system_lets_grow_no_further_is_told_and_recovers(database_url, project):
    child = subprocess.run(
        [sys.executable, "-c", QUOTA, database_url],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(project / "exporter")},
        timeout=240,
        check=False,
    )
    assert child.stdout.splitlines()[-1:] == ["3 False ['before', 'after'] ok"], child.stderr
