"""A full disk under the engine: everybody in the group is refused, and the figures in memory are those of the ledger again."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from costwarden.ledger import LedgerUnavailable
from costwarden.model import to_nanos


def fill(connection):
    """Let the file grow no further, on the writing connection: SQLite then answers SQLITE_FULL as it does for a disk."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@on_sqlite
def test_a_group_that_finds_no_room_changes_nothing_and_the_next_one_goes_on(desk):
    budget = desk.put("1000", tenant_id="acme")
    held = desk.check("0.50")
    settling = desk.check("0.25", event_id="settling")
    before = desk.status(budget)
    desk.ledger.write(fill)
    writer = desk.ledger.writer

    async def crowd():
        busy, free = threading.Event(), threading.Event()
        holding = asyncio.create_task(desk.ledger.write_async(lambda _: (busy.set(), free.wait(60))))
        await asyncio.to_thread(busy.wait, 60)
        # Far more rows than the pages that are there can hold.
        group = [writer.step(desk.engine.reserve, desk.wish("0.01", event_id=f"e{number}" + "x" * 200)) for number in range(500)]
        group.append(writer.step(desk.engine.settle, desk.call("0.25", reservation_id=settling.reservation_id)))
        answers = asyncio.gather(*group, return_exceptions=True)
        await asyncio.sleep(0)
        free.set()
        await holding
        return await answers

    answers = asyncio.run(crowd())
    assert len(answers) == 501
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert {str(answer) for answer in answers} == {"the ledger did not commit: database or disk is full"}
    # The figures are read anew, so that what was refused is neither set aside nor given back.
    assert desk.status(budget) == before == (0, to_nanos("0.75"), 0)
    desk.track("0.40", reservation_id=held.reservation_id)
    assert desk.track("0.20", event_id="settling").reservation_id == settling.reservation_id
    assert desk.status(budget) == (to_nanos("0.60"), 0, 0)
    assert desk.ledger.writer.healthy


@on_sqlite
@pytest.mark.parametrize("statement", ["put", "suspend"])
def test_a_statement_that_finds_no_room_changes_nothing(desk, statement):
    budget = desk.put("1.00", tenant_id="acme")
    desk.ledger.write(fill)
    desk.settings = desk.settings.model_copy(update={"thresholds": tuple(desk.settings.thresholds) * 20_000})
    with pytest.raises(LedgerUnavailable, match="database or disk is full"):
        desk.put("5.00", tenant_id="acme") if statement == "put" else desk.suspend("acme", reason="x" * 100_000)
    assert desk.check("0.90").allowed
    assert desk.check("0.20").reason == "budget_exceeded"
    assert desk.status(budget) == (0, to_nanos("0.90"), 0)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON usage_totals FOR EACH STATEMENT EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION full_disk();
"""
ROOM = "DROP TRIGGER full_disk ON usage_totals; DROP TRIGGER full_disk ON audit"


@on_postgresql
def test_a_postgresql_without_room_is_answered_with_a_refusal_and_goes_on_when_it_has_some(desk):
    budget = desk.put("1000", tenant_id="acme")
    held = desk.check("0.50")
    before = desk.status(budget)
    desk.ledger.write(lambda connection: connection.exec_driver_sql(FULL))
    writer, engine = desk.ledger.writer, desk.engine

    async def crowd():
        group = [writer.step(engine.reserve, desk.wish("0.01", event_id=f"e{number}")) for number in range(5)]
        group.append(writer.step(engine.settle, desk.call("0.25", reservation_id=held.reservation_id)))
        return await asyncio.gather(*group, return_exceptions=True)

    with capture_logs():
        answers = asyncio.run(crowd())
        for statement in (lambda: desk.put("5.00", tenant_id="acme"), lambda: desk.suspend("acme"), lambda: desk.put("1", user_id="u")):
            with pytest.raises(LedgerUnavailable, match="No space left on device"):
                statement()
    # All of them, because they share a transaction; and nothing of it has happened.
    refusal = "the ledger did not commit: could not extend file: No space left on device"
    assert [str(answer) for answer in answers] == [refusal] * 6
    assert not desk.ledger.writer.healthy
    assert desk.status(budget) == before
    desk.ledger.write(lambda connection: connection.exec_driver_sql(ROOM))
    assert desk.track("0.20", reservation_id=held.reservation_id).reservation_id == held.reservation_id
    assert desk.status(budget) == (to_nanos("0.20"), 0, 0)
    assert desk.ledger.writer.healthy
