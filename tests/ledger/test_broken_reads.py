"""A connection that breaks while it reads is a ledger that cannot be read, and the next one reads."""

import pytest

from costwarden.ledger import LedgerUnavailable

DATABASES = ("postgresql",)


def test_a_connection_that_breaks_in_the_middle_of_a_read_is_a_ledger_that_cannot_be_read(ledger):
    with pytest.raises(LedgerUnavailable, match="the ledger cannot be read"), ledger.read() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_a_connection_that_breaks_after_the_last_row_has_read_everything(ledger):
    with ledger.read() as connection, ledger.read() as other:
        process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        other.exec_driver_sql(f"SELECT pg_terminate_backend({process}, 60000)")
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_what_the_reader_raises_itself_comes_through(ledger):
    with pytest.raises(ZeroDivisionError), ledger.read():
        raise ZeroDivisionError
