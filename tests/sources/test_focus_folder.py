"""The folder: what is read, what is left out, and what happens when files change, vanish, repeat each other or break."""

import gzip
import os
import shutil
import threading
import time
from decimal import Decimal

import duckdb
import pytest

from costwarden.sources import Duplicate, Failed, Gone, Read, SourceError, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings


def kinds(changes):
    return {part: type(change) for part, change in changes.items()}


def test_bills_are_found_at_any_depth_and_named_by_their_path(write_bill, fetch):
    names = ["a.csv", "2026/01/b.csv.gz", "year=2026/c.parquet", "D.CSV", "odd [1] * ?'.csv", "folder.csv/e.csv"]
    for number, name in enumerate(names):
        write_bill(name, {"BilledCost": str(number)})
    assert kinds(fetch()) == dict.fromkeys(names, Read)


def test_other_files_and_those_that_begin_with_a_dot_are_passed_over(folder, write_bill, fetch):
    write_bill("a.csv")
    write_bill(".a.csv.upload")
    write_bill(".partial.csv")
    write_bill(".hidden/b.csv")
    (folder / "manifest.json").write_text("{}")
    assert kinds(fetch()) == {"a.csv": Read}


def test_only_what_has_changed_is_read_again(write_bill, fetch, remember):
    write_bill("a.csv", {"BilledCost": "1"})
    write_bill("b.csv", {"BilledCost": "2"})
    known = remember(fetch())
    assert fetch(known) == {}
    write_bill("b.csv", {"BilledCost": "3"}, {"BilledCost": "4"})
    write_bill("c.csv", {"BilledCost": "5"})
    assert kinds(fetch(known)) == {"b.csv": Read, "c.csv": Read}


def test_a_file_that_changed_within_its_size_is_read_again(write_bill, fetch, remember):
    path = write_bill("a.csv", {"BilledCost": "1"})
    known = remember(fetch())
    write_bill("a.csv", {"BilledCost": "2"})
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert kinds(fetch(known)) == {"a.csv": Read}


def test_a_file_that_took_the_place_of_another_with_its_size_and_its_time_is_read_again(write_bill, fetch, remember):
    path = write_bill("a.csv", {"BilledCost": "1"})
    written = path.stat().st_mtime_ns
    known = remember(fetch())
    write_bill(".new.csv", {"BilledCost": "2"}).replace(path)
    os.utime(path, ns=(written, written))
    assert kinds(fetch(known)) == {"a.csv": Read}


def test_a_file_that_was_written_over_with_its_size_and_its_time_is_read_again(write_bill, fetch, remember):
    path = write_bill("a.csv", {"BilledCost": "1"})
    before = path.stat()
    known = remember(fetch())
    deadline = time.monotonic() + 10
    # The clock of a file system moves in steps of some milliseconds.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        assert time.monotonic() < deadline
        write_bill("a.csv", {"BilledCost": "2"})
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_ino == before.st_ino
    assert kinds(fetch(known)) == {"a.csv": Read}


@pytest.mark.parametrize(
    "meaning",
    [
        {"default_currency": "EUR"},
        {"rules": [{"target": "team", "origins": ["service_name"]}]},
        {"currencies": {"EUR": [{"valid_from": "2026-01-01", "usd": "1.1"}]}},
    ],
)
def test_everything_is_read_again_when_the_rules_that_it_was_read_by_change(write_bill, fetch, remember, meaning):
    write_bill("a.csv")
    known = remember(fetch())
    assert kinds(fetch(known, **meaning)) == {"a.csv": Read}


def test_a_file_that_is_gone_takes_its_charges_with_it(write_bill, fetch, remember):
    write_bill("a.csv")
    path = write_bill("b.csv", {"BilledCost": "2"})
    known = remember(fetch())
    path.unlink()
    assert fetch(known) == {"b.csv": Gone(part="b.csv")}


def test_a_folder_that_is_gone_is_a_failure_and_not_a_bill_of_nothing(folder, write_bill, fetch, remember):
    write_bill("a.csv")
    known = remember(fetch())
    shutil.rmtree(folder)
    with pytest.raises(SourceError, match=f"^{folder}: No such file or directory$"):
        fetch(known)
    folder.mkdir()
    with pytest.raises(SourceError, match=r"bills: holds no \*\.csv, \*\.csv\.gz, \*\.parquet$"):
        fetch(known)


# --- copies --------------------------------------------------------------------------------------------------------------------


def test_a_copy_under_another_name_compressed_or_in_another_order_is_not_counted(write_bill, fetch):
    rows = ({"BilledCost": "1.50", "ResourceId": "i-1"}, {"BilledCost": "2", "ResourceId": "i-2", "ServiceName": "S3"})
    write_bill("a.csv", *rows)
    write_bill("b.csv", *reversed(rows))
    write_bill("c.csv.gz", *rows)
    write_bill("d.parquet", *rows)
    write_bill("e.parquet", *reversed(rows))
    changes = fetch()
    assert kinds(changes) == {"a.csv": Read, "b.csv": Duplicate, "c.csv.gz": Duplicate, "d.parquet": Read, "e.parquet": Duplicate}
    assert changes["c.csv.gz"].message == "c.csv.gz: has the same charges as a.csv and is not counted"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_copy_with_its_columns_in_another_order_is_not_counted(write_bill, fetch, suffix):
    row = {"ResourceId": "i-1", "x_Note": "a"}
    path = write_bill(f"a.{suffix}", row)
    write_bill(f"c.{suffix}", row | {"x_Note": "b"})
    with duckdb.connect() as connection:
        table = f"read_csv('{path}', all_varchar = true)" if suffix == "csv" else f"'{path}'"
        names = reversed([column[0] for column in connection.execute(f"DESCRIBE FROM {table}").fetchall()])
        connection.execute(f"COPY (SELECT {', '.join(names)} FROM {table}) TO '{path.with_name(f'b.{suffix}')}'")
    assert kinds(fetch()) == {f"a.{suffix}": Read, f"b.{suffix}": Duplicate, f"c.{suffix}": Read}


@pytest.mark.parametrize(
    "difference",
    [
        {"BilledCost": "2"},
        {"ResourceId": "i-2"},
        {"ChargePeriodStart": "2026-01-15T01:00:00Z"},
        {"ChargePeriodEnd": "2026-01-15T02:00:00Z"},
        {"RegionId": "eu"},
        {"x_Unread": "b"},
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_bills_that_differ_in_one_row_are_both_counted(write_bill, fetch, suffix, difference):
    row = {"ResourceId": "i-1", "ChargePeriodEnd": "2026-01-15T01:00:00Z", "x_Unread": "a"}
    write_bill(f"a.{suffix}", row, row)
    write_bill(f"b.{suffix}", row, row | difference)
    assert kinds(fetch()) == {f"a.{suffix}": Read, f"b.{suffix}": Read}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("broken", [{}, {"BilledCost": "x"}])
def test_the_files_of_the_hours_of_a_day_are_all_counted(write_bill, fetch, totals, suffix, broken):
    for hour in range(24):
        row = {"ResourceId": "i-1", "ChargePeriodStart": f"2026-01-15T{hour:02}:00:00Z", "BilledCost": "0.10"}
        write_bill(f"hour-{hour:02}.{suffix}", row, *([row | broken] if broken else []))
    changes = fetch()
    assert set(kinds(changes).values()) == {Read}
    assert sum(totals(change)["billed_cost"] for change in changes.values()) == Decimal("0.10") * 24


def test_a_copy_stays_one_and_is_not_read_again(write_bill, fetch, remember):
    write_bill("a.csv")
    write_bill("b.csv")
    assert fetch(remember(fetch())) == {}


def test_a_copy_counts_once_its_original_is_gone(write_bill, fetch, remember):
    original = write_bill("a.csv")
    write_bill("b.csv")
    known = remember(fetch())
    original.unlink()
    assert kinds(fetch(known)) == {"a.csv": Gone, "b.csv": Read}


def test_a_copy_counts_once_its_original_has_changed(write_bill, fetch, remember):
    write_bill("a.csv")
    write_bill("b.csv")
    known = remember(fetch())
    write_bill("a.csv", {"BilledCost": "77"})
    assert kinds(fetch(known)) == {"a.csv": Read, "b.csv": Read}


def test_what_is_counted_already_stays_so_when_a_copy_comes_that_sorts_before_it(write_bill, fetch, remember):
    write_bill("b.csv")
    known = remember(fetch())
    write_bill("a.csv")
    assert kinds(fetch(known)) == {"a.csv": Duplicate}


def test_a_renamed_file_is_gone_and_read_in_one_fetch(write_bill, fetch, remember):
    path = write_bill("a.csv")
    known = remember(fetch())
    path.rename(path.with_name("b.csv"))
    assert kinds(fetch(known)) == {"a.csv": Gone, "b.csv": Read}


def test_the_bill_that_a_broken_file_held_is_not_counted_twice_when_it_comes_under_another_name(folder, write_bill, fetch, remember):
    write_bill("b.csv")
    known = remember(fetch())
    (folder / "b.csv").write_text("nonsense")
    known = remember(fetch(known), known)
    write_bill("a.csv")
    assert kinds(fetch(known)) == {"a.csv": Duplicate, "b.csv": Failed}


def test_two_empty_bills_are_no_copies(folder, write_bill, fetch, remember):
    header = write_bill("x.csv").read_text().splitlines()[0]
    for name in ("x.csv", "y.csv"):
        (folder / name).write_text(header + "\n")
    changes = fetch()
    assert kinds(changes) == {"x.csv": Read, "y.csv": Read}
    assert [(change.rows, change.figures, change.charges) for change in changes.values()] == [(0, "", [])] * 2
    write_bill("z.csv", {"BilledCost": "x"})
    assert kinds(fetch(remember(changes))) == {"z.csv": Read}


# --- broken files --------------------------------------------------------------------------------------------------------------


def truncated_gzip(path):
    data = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name("bad.csv.gz").write_bytes(data[: len(data) - 9])


def damaged_gzip(path):
    data = bytearray(gzip.compress(path.read_bytes()))
    path.unlink()
    data[-5] ^= 0xFF
    path.with_name("bad.csv.gz").write_bytes(data)


def cut_parquet(path):
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{path}') TO '{path.with_suffix('.parquet')}'")
    path.unlink()
    os.truncate(path.with_suffix(".parquet"), 1000)


def corrupt_parquet(path):
    path.rename(path.with_name("bad.parquet"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncated_gzip, "bad.csv.gz: Compressed file ended before the end-of-stream marker was reached"),
        (damaged_gzip, "bad.csv.gz: CRC check failed"),
        (cut_parquet, "bad.parquet: Invalid Input Error: No magic bytes found at end of file 'bad.parquet'"),
        (corrupt_parquet, "bad.parquet: Invalid Input Error: No magic bytes found at end of file 'bad.parquet'"),
        (lambda path: path.write_text(""), "bad.csv: is empty: not even a header"),
        (lambda path: path.write_text("\nBilledCost,ChargePeriodStart\n"), "bad.csv: line 1 is empty: the header must stand there"),
        (lambda path: path.write_text("a,b\n1,2\n"), "bad.csv: is not a FOCUS bill: no column BilledCost and ChargePeriodStart"),
        (lambda path: path.write_text("BilledCost\n1\n"), "bad.csv: is not a FOCUS bill: no column ChargePeriodStart"),
        (lambda path: path.write_text("BilledCost,ChargePeriodStart,billedcost \n"), "bad.csv: the column BilledCost stands twice"),
        (lambda path: path.write_text("BilledCost,ChargePeriodStart\n", encoding="utf-16"), "bad.csv: is not UTF-8 text"),
        (lambda path: path.write_bytes(b"\x00\x01\x02" * 100), "bad.csv: is not UTF-8 text"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "bad.csv: No such file or directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "bad.csv: is not a regular file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(write_bill, fetch, damage, sentence):
    write_bill("good.csv", {"BilledCost": "5"})
    damage(write_bill("bad.csv", *({"BilledCost": str(number)} for number in range(100))))
    changes = fetch()
    assert isinstance(changes.pop("good.csv"), Read)
    (failed,) = changes.values()
    assert isinstance(failed, Failed)
    assert failed.message.startswith(sentence)


def test_a_file_whose_name_is_no_text_is_told_by_an_escaped_one_and_the_others_are_read(folder, write_bill, fetch, remember):
    write_bill("good.csv", {"BilledCost": "5"})
    odd = os.fsencode(folder) + b"/b\xff.csv"
    with open(odd, "w") as file:  # noqa: PTH123 (a path of bytes)
        file.write("BilledCost,ChargePeriodStart\n1,2026-01-01\n")
    changes = fetch()
    assert kinds(changes) == {"good.csv": Read, r"b\udcff.csv": Failed}
    assert changes[r"b\udcff.csv"].message == r"b\udcff.csv: has a name that is not UTF-8 text; rename it"
    os.unlink(odd)  # noqa: PTH108
    assert kinds(fetch(remember(changes))) == {r"b\udcff.csv": Gone}


def test_a_nul_in_a_name_is_the_same_text_as_in_the_ledger(folder, fetch, by):
    texts = ("S\0x", "S\ufffdx", "\0", "S")
    rows = [f"{2**position},2026-01-01,USD,{text}\n" for position, text in enumerate(texts)]
    (folder / "a.csv").write_text("BilledCost,ChargePeriodStart,BillingCurrency,ServiceName\n" + "".join(rows))
    (folder / "b.csv").write_text("BilledCost,ChargePeriodStart,BillingCurrency,ServiceName\n" + "".join(reversed(rows)))
    changes = fetch()
    assert kinds(changes) == {"a.csv": Read, "b.csv": Duplicate}
    assert by(changes["a.csv"], "service_name") == {"S\ufffdx": 1 + 2, "\ufffd": 4, "S": 8}
    assert len(changes["a.csv"].charges) == 3


def test_a_file_that_failed_is_tried_again_at_every_fetch(folder, write_bill, fetch, remember):
    (folder / "a.csv").write_text("nonsense")
    known = remember(fetch())
    assert kinds(fetch(known)) == {"a.csv": Failed}
    write_bill("a.csv")
    assert kinds(fetch(known)) == {"a.csv": Read}


def test_a_sum_that_has_no_room_fails_its_file_and_no_other(write_bill, fetch):
    write_bill("a.csv", *({"BilledCost": "999999999999"} for _ in range(200)))
    write_bill("b.csv")
    changes = fetch()
    assert kinds(changes) == {"a.csv": Failed, "b.csv": Read}
    assert changes["a.csv"].message == "a.csv: the costs of a day add up to more than 14 digits before the point"


# --- being ended ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_focus(folder):
    """A source that reads the folder."""
    return open_source(FocusSettings(path=folder), AttributionSettings(), ExchangeRates())


def test_a_fetch_that_is_closed_between_two_files_ends_with_an_error(write_bill, open_focus):
    for name in ("a.csv", "b.csv"):
        write_bill(name, {"RegionId": name})
    fetching = open_focus.fetch({})
    assert next(fetching).part == "a.csv"
    open_focus.close()
    with pytest.raises(SourceError, match="closed while it was being read"):
        next(fetching)


def test_a_fetch_that_is_closed_in_the_middle_of_a_file_ends_as_a_whole_and_not_as_a_broken_file(folder, open_focus, monkeypatch):
    with duckdb.connect() as connection:
        # Every row a combination of its own: a second and more to group and to attribute.
        connection.execute(
            "COPY (SELECT i AS BilledCost, DATE '2026-01-01' AS ChargePeriodStart, 'USD' AS BillingCurrency, 'a-' || i AS SubAccountId"
            f" FROM range(1_000_000) AS rows (i)) TO '{folder / 'a.parquet'}'"
        )
    read, begun, closed, ended = open_focus._reading, threading.Event(), threading.Event(), threading.Event()

    def reading(*arguments):
        begun.set()
        try:
            return read(*arguments)
        finally:
            closed.wait(60)

    def close():
        # A query that has not begun cannot be interrupted.
        begun.wait(60)
        while not ended.wait(0.05):
            open_focus.close()
            closed.set()

    monkeypatch.setattr(open_focus, "_reading", reading)
    thread = threading.Thread(target=close)
    thread.start()
    try:
        with pytest.raises(SourceError, match="closed while it was being read"):
            list(open_focus.fetch({}))
    finally:
        ended.set()
        thread.join()


def test_nothing_is_left_in_the_temporary_directory(write_bill, fetch, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write_bill("a.csv", {"BilledCost": "x"})
    write_bill("b.parquet", {"ServiceName": "S3"})
    (write_bill("c.csv.gz")).write_bytes(b"no gzip")
    assert kinds(fetch()) == {"a.csv": Read, "b.parquet": Read, "c.csv.gz": Failed}
    assert list(scratch.iterdir()) == []
