"""A CSV file with broken lines: each is given up alone, with its line and its text."""

import gzip
import tracemalloc

import pytest

from costwarden.sources.focus_lines import LONGEST_ROW, copy_with_lines, count_lines, row_texts

HEADER = "ServiceName,BillingCurrency,ChargePeriodStart,BilledCost"


@pytest.fixture
def read_lines(folder, read_one):
    """`read_lines("a,USD,2026-01-01,1", …)`: reads a file of these lines below the header; `end` ends each."""

    def read(*lines, end="\n", last_end=None, encoding="utf-8", name="bill.csv"):
        text = end.join((HEADER, *lines)) + (end if last_end is None else last_end)
        data = text.encode(encoding)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return read_one()

    return read


def services(change):
    return {charge.service_name: charge.billed_cost for charge in change.charges}


@pytest.mark.parametrize("name", ["bill.csv", "bill.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("broken", "detail"),
    [
        ("x,USD,2026-01-01", "3 values, and the header has 4"),
        ("x,USD,2026-01-01,1,1", "5 values, and the header has 4"),
        ('"x"y,USD,2026-01-01,1', "',' expected after '\"'"),
        ('"x,USD,2026-01-01,1', "a quote is never closed"),
        ('x,USD,2026-01-01,"1', "a quote is never closed"),
        ("x", "1 values, and the header has 4"),
    ],
)
def test_a_broken_line_is_rejected_alone(read_lines, broken, detail, end, name):
    change = read_lines("a,USD,2026-01-01,1", broken, "b,USD,2026-01-01,2", "c,USD,2026-01-01,3", end=end, name=name)
    assert services(change) == {"a": 1, "b": 2, "c": 3}
    assert change.rejected == {"broken_row": 1}
    assert [(row.line, row.detail, row.content) for row in change.rejected_rows] == [(3, detail, broken)]


@pytest.mark.parametrize("last_end", ["", "\n", "\n\n\n", "\r\n"])
def test_an_open_quote_in_the_last_line_loses_nothing_in_silence(read_lines, last_end):
    change = read_lines("a,USD,2026-01-01,1", 'b,USD,2026-01-01,"2', last_end=last_end)
    assert (services(change), change.rejected) == ({"a": 1}, {"broken_row": 1})


def test_lines_are_those_of_the_file_also_after_values_with_newlines(read_lines):
    change = read_lines('"a\n\n",USD,2026-01-01,1', "", "b,USD,2026-01-01,x", '"c\nd",USD,2026-01-01,y', "e,USD", "f,USD,2026-01-01,2")
    assert services(change) == {"a": 1, "f": 2}
    # Header 1, the first row 2–4, an empty line 5.
    assert [(row.line, row.reason, row.content) for row in change.rejected_rows] == [
        (6, "bad_cost", "b,USD,2026-01-01,x"),
        (7, "bad_cost", '"c\nd",USD,2026-01-01,y'),
        (9, "broken_row", "e,USD"),
    ]


def test_quotes_commas_and_newlines_inside_values_break_nothing(read_lines):
    change = read_lines('"say ""hi"", you",USD,2026-01-01,1', '5" pipe,USD,2026-01-01,2', ' "spaced" ,USD,2026-01-01,4')
    assert services(change) == {'say "hi", you': 1, '5" pipe': 2, "spaced": 4}


def test_empty_lines_are_no_rows(read_lines):
    change = read_lines("", "a,USD,2026-01-01,1", "", "", "b,USD,2026-01-01,2", last_end="\n\n\n")
    assert (services(change), change.rejected) == ({"a": 1, "b": 2}, {})


def test_line_ends_of_all_kinds_in_one_file_are_understood(folder, read_one):
    (folder / "bill.csv").write_bytes(f"{HEADER}\na,USD,2026-01-01,1\r\nb,USD,2026-01-01,2\rc,USD,2026-01-01,3\n".encode())
    assert services(read_one()) == {"a": 1, "b": 2, "c": 3}


def test_a_byte_order_mark_is_no_part_of_the_first_name(read_lines):
    change = read_lines("a,USD,2026-01-01,1", encoding="utf-8-sig")
    assert (services(change), change.rejected) == ({"a": 1}, {})


def test_bytes_that_are_not_utf_8_cost_no_money(read_lines):
    change = read_lines("Müller,USD,2026-01-01,1", "b,USD,2026-01-01,2", encoding="latin-1")
    assert services(change) == {"M\ufffdller": 1, "b": 2}
    assert change.message.endswith("; 1 row with bytes that are not UTF-8")


def test_broken_lines_and_unreadable_rows_are_kept_in_order_of_their_lines(read_lines, read_one):
    read_lines(*(line for number in range(5) for line in (f"a,USD,2026-01-01,x{number}", "broken")))
    change = read_one(keep_rejected_rows=4)
    assert [(row.line, row.reason) for row in change.rejected_rows] == [
        (2, "bad_cost"),
        (3, "broken_row"),
        (4, "bad_cost"),
        (5, "broken_row"),
    ]
    assert change.rejected == {"bad_cost": 5, "broken_row": 5}


def test_an_open_quote_does_not_make_the_rest_of_a_large_file_be_read_again_and_again(read_lines):
    # Read anew from each of 2,000 open quotes to the next quote or 500,000 characters, this would take hours.
    lines = [line for number in range(2000) for line in (f'x{number},USD,2026-01-01,"1', *(["a,USD,2026-01-01,1"] * 20))]
    change = read_lines(*lines)
    assert change.rows + sum(change.rejected.values()) == len(lines)
    assert change.rejected == {"broken_row": 2000}


# --- rows without an end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bill.csv", "bill.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_is_too_long_is_one_broken_row_and_the_lines_after_it_keep_their_numbers(read_lines, name, end):
    for length in (LONGEST_ROW, LONGEST_ROW + 1, 3 * LONGEST_ROW):
        change = read_lines("a,USD,2026-01-01,1", "x" * length, "b,USD,2026-01-01,y", "c,USD,2026-01-01,2", end=end, name=name)
        assert services(change) == {"a": 1, "c": 2}
        assert change.rejected == {"broken_row": 1, "bad_cost": 1}
        assert [(row.line, len(row.content)) for row in change.rejected_rows] == [(3, 2000), (4, len("b,USD,2026-01-01,y"))]
        assert change.rejected_rows[0].detail == "is longer than 500,000 characters"


def test_a_row_of_four_bytes_a_character_may_be_as_long_as_any_other(read_lines):
    name = "\U0001f600" * 400_000
    change = read_lines(f"{name},USD,2026-01-01,1", "b,USD,2026-01-01,2", "broken")
    assert services(change) == {name: 1, "b": 2}


def test_a_row_of_quoted_newlines_without_an_end_is_given_up(read_lines):
    change = read_lines("a,USD,2026-01-01,1", '"', *(['","'] * 200_000))
    assert services(change) == {"a": 1}
    assert change.rejected == {"broken_row": 1 + 200_000}


def test_of_a_line_without_an_end_little_is_in_memory_at_a_time(tmp_path):
    path = tmp_path / "bill.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(f"{HEADER}\n")
        for _ in range(64):
            file.write("x" * (1 << 20))
        file.write("\na,USD,2026-01-01,1\n")
    tracemalloc.start()
    met = copy_with_lines(path, tmp_path / "copy.csv", 10, lambda: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (met.rows, met.broken) == (1, 1)
    assert peak < 16 << 20


def test_a_header_without_an_end_is_no_header(folder, fetch):
    (folder / "bill.csv").write_text("x" * (LONGEST_ROW + 1))
    (change,) = fetch().values()
    assert change.message == "bill.csv: is not CSV: line 1: is longer than 500,000 characters"


# --- being ended ---------------------------------------------------------------------------------------------------------------


class Closed(Exception):
    pass


class ClosesAfter:
    """Asked whether to go on, it says no at the `asked`th time."""

    def __init__(self, asked):
        self.left = asked

    def __call__(self):
        self.left -= 1
        if self.left < 0:
            raise Closed


@pytest.mark.parametrize(
    "lines",
    [["a,USD,2026-01-01,1"] * 100_000, ["x" * 10_000_000], ["broken"] * 100_000, ['"'] + ['","'] * 100_000],
    ids=["rows", "one line", "broken rows", "an open quote"],
)
@pytest.mark.parametrize(
    "passing",
    [
        lambda path, check: copy_with_lines(path, path.with_name("copy"), 10, check),
        count_lines,
        lambda path, check: row_texts(path, {200_000: 1}, check),
    ],
    ids=["copy", "count", "texts"],
)
def test_a_careful_reading_that_is_closed_ends_in_the_middle_of_the_file(tmp_path, lines, passing):
    path = tmp_path / "bill.csv"
    # Of 1 MiB and more: lines are counted in blocks of that.
    path.write_text("\n".join([HEADER, *lines, "x" * (2 << 20), ""]))
    with pytest.raises(Closed):
        passing(path, ClosesAfter(1))
