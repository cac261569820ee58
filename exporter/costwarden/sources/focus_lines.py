"""A CSV file line by line: the careful reading of a file of which DuckDB's reading is not to be trusted, or not enough.

DuckDB cannot say on which line a row stands; an open quote swallows the rows up to the next one; threads that begin inside a quoted
newline may misread it without an error, and its single-threaded reader drops what an open quote has swallowed at the end of the file,
without an error too. Here every row gets its line, and of a broken one only its first line is given up: the rows after it are kept.
"""

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TextIO

import msgspec
from isal import igzip, isal_zlib

from costwarden.sources.focus_columns import UnreadableBill

LONGEST_ROW = 500_000
"""Characters of a row, quoted newlines included, and bytes where DuckDB reads it at once. What FOCUS and AWS allow is far below: a hundred
columns, and 50 tags of 128 + 256 characters, are some 40,000. So much of a line is in memory, however long it is."""

LONGEST_CONTENT = 2_000
"""Characters of a rejected row that are kept."""

# The stub takes the class for an instance of it.
DAMAGED: tuple[type[Exception], ...] = (EOFError, isal_zlib.error)  # type: ignore[assignment]
"""What reading a damaged gzip file raises, beside `OSError`."""

_UNCLOSED = ("unexpected end of data", f"field larger than field limit ({LONGEST_ROW})")
"""What Python's csv says of a quote that is still open at the end, or after so much that it cannot be meant."""

_TOO_LONG = f"is longer than {LONGEST_ROW:,} characters"

_ENDS = "\r\n"

# Rows between two looks at whether the reading is to go on: some 10 ms.
_ROWS_UNWATCHED = 4_096


class BrokenRow(msgspec.Struct, frozen=True):
    """A line that is no row."""

    line: int
    detail: str
    content: str
    """Its first `LONGEST_CONTENT` characters."""


class Copy(msgspec.Struct):
    """What `copy_with_lines` has met."""

    rows: int = 0
    """Written."""
    broken: int = 0
    first_broken: list[BrokenRow] = []
    undecodable: int = 0
    """Rows with bytes that are not UTF-8; each stands as U+FFFD."""


def read_header(path: Path) -> list[str]:
    """The column names. Raises `UnreadableBill` where there is none, and what opening and decompressing raise."""
    with _open(path) as file:
        reader = csv.reader(_Feed(_lines(file)))
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise UnreadableBill(f"is not CSV: line 1: {error}") from None
    if not header:
        raise UnreadableBill("line 1 is empty: the header must stand there" if reader.line_num else "is empty: not even a header")
    if "\0" in header[0] or "\ufffd" in header[0]:
        raise UnreadableBill("is not UTF-8 text")
    return header


def count_lines(path: Path, check_open: Callable[[], None]) -> int:
    """Lines, the header and empty ones included. Raises what `check_open`, reading and decompressing raise."""
    newlines, last = 0, b"\n"
    with _open_bytes(path) as file:
        while block := file.read(1 << 20):
            check_open()
            newlines += block.count(b"\n")
            last = block
    return newlines + (not last.endswith(b"\n"))


def copy_with_lines(path: Path, target: Path, keep: int, check_open: Callable[[], None]) -> Copy:
    """Write the readable rows to the CSV file `target`, each after its line and its number of lines, without a header.

    A row of the copy is a line: newlines in values become spaces. Of the broken rows the first `keep` are given with their text.
    Raises what `check_open`, reading `path` and writing `target` raise.
    """
    met = Copy()
    one_line = str.maketrans("\r\n", "  ")
    with _open(path) as file, target.open("w", encoding="utf-8", newline="") as out:
        write_values = csv.writer(out, lineterminator="\n").writerow
        for count, row in enumerate(read_rows(_lines(file, check_open))):
            if count % _ROWS_UNWATCHED == 0:
                # Lines that are read anew after a broken row are not asked of the file.
                check_open()
            if isinstance(row, BrokenRow):
                met.broken += 1
                if len(met.first_broken) < keep:
                    met.first_broken.append(row)
                continue
            number, lines, values = row
            met.rows += 1
            met.undecodable += any("\ufffd" in line for line in lines)
            if len(lines) == 1:
                out.write(f"{number},1,{lines[0].rstrip(_ENDS)}\n")
            else:
                write_values([number, len(lines), *(value.translate(one_line) for value in values)])
    return met


def row_texts(path: Path, lines: Mapping[int, int], check_open: Callable[[], None]) -> dict[int, str]:
    """The text of the rows that begin at the given lines, as it stands in the file, cut to `LONGEST_CONTENT` characters.

    The value of `lines` is how many lines the row takes.
    """
    texts: dict[int, str] = {}
    end = 0
    begin = 0
    with _open(path) as file:
        for number, line in enumerate(_lines(file, check_open), 1):
            if number in lines:
                begin, end = number, number + lines[number]
                texts[begin] = ""
            if number < end:
                texts[begin] = (texts[begin] + line)[: LONGEST_CONTENT + len(_ENDS)]
            elif len(texts) == len(lines):
                break
    return {number: text.rstrip(_ENDS)[:LONGEST_CONTENT] for number, text in texts.items()}


def read_rows(lines: Iterator[str]) -> Iterator[tuple[int, list[str], list[str]] | BrokenRow]:
    """The rows below the header (line, its lines, values), and the lines that are none. An empty line is neither."""
    # Of the whole process, but only ever raised: a field may be as long as its row.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
    feed = _Feed(lines)
    header = csv.reader(feed)
    width = len(next(header, []))
    number = header.line_num + 1
    rows = csv.reader(feed, strict=True, skipinitialspace=True)
    while True:
        taken = feed.begin_row()
        problem, values = "", None
        try:
            values = next(rows, None)
        except csv.Error as error:
            problem = "a quote is never closed" if str(error) in _UNCLOSED else str(error)
        if not taken:
            return
        if not problem and values is not None and len(values) != width and taken[0].strip(_ENDS):
            problem = f"{len(values)} values, and the header has {width}"
        if problem:
            # What follows the broken line may be good.
            feed.ahead.extendleft(reversed(taken[1:]))
            yield BrokenRow(number, problem, taken[0][:LONGEST_CONTENT].rstrip(_ENDS))
            number += 1
            continue
        if values:
            yield number, taken, values
        number += len(taken)


class _Feed:
    """The lines of a file, noting those that were taken and giving those again that were put back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.ahead: deque[str] = deque()
        self.begin_row()

    def begin_row(self) -> list[str]:
        """The lines that will be taken for the next row."""
        self._taken: list[str] = []
        self._characters = 0
        return self._taken

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self.ahead.popleft() if self.ahead else next(self._lines)
        self._taken.append(line)
        self._characters += len(line)
        if self._characters > LONGEST_ROW:
            # A row of more than one line has an open quote; csv itself minds only how long a field is, not how many a row has.
            raise csv.Error(_TOO_LONG if len(self._taken) == 1 else _UNCLOSED[1])
        return line


def _lines(file: TextIO, check_open: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The lines with their ends. Of one that is longer than `LONGEST_ROW` the rest is passed over, and one character more is given."""
    most = LONGEST_ROW + 1
    line = file.readline(most)
    number = 0
    while line:
        piece, following = line, None
        while len(piece) == most and not piece.endswith("\n"):
            check_open()
            following = file.readline(most)
            if piece.endswith("\r") and following != "\n":
                break
            piece, following = following, None
        yield line
        number += 1
        if number % _ROWS_UNWATCHED == 0:
            check_open()
        line = file.readline(most) if following is None else following


def _open(path: Path) -> TextIO:
    # newline="": line ends stay as they are, because a quoted value may hold some.
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", errors="replace", newline="")


def _open_bytes(path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        return path.open("rb")
    file: IO[bytes] = igzip.open(path, "rb")  # type: ignore[no-untyped-call]
    return file
