"""The `exchange_rates` section of `costwarden.yaml`, and the file of rates that it may name."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from costwarden.settings import ConfigPath, Price, Settings
from costwarden.sources.settings.schedule import CurrencyCode

Dated = tuple[Sequence[date], Sequence[Decimal]]
"""First days, ascending, and the dollars for one unit from each of them on."""

RATE_DIGITS = 20
"""Significant digits of a rate: with the 38 of an amount its product is exact."""

CROSS_RATE_DIGITS = 12
"""Significant digits of a rate that is the quotient of two: the European Central Bank's have five or six."""

LARGEST_FILE = 20_000_000
"""Bytes; the Bank's file of all days since 1999 has 2 million."""

_OWN_COLUMNS = ("valid_from", "currency", "usd")
_CROSS = Context(prec=CROSS_RATE_DIGITS, rounding=ROUND_HALF_EVEN)
# Above 0, with at most RATE_DIGITS digits: 21 characters with the point.
_NUMBER = re.compile(r"(?=.*[1-9])(?=[0-9]{1,20}$|[0-9.]{3,21}$)[0-9]+(?:\.[0-9]+)?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UNQUOTED = ("", "N/A")


class ExchangeRate(Settings):
    """What a currency is worth from a day on."""

    valid_from: date
    """First day (UTC) of this rate; it holds until the day of the next."""
    usd: Annotated[Price, Field(gt=0, max_digits=RATE_DIGITS)]
    """Dollars for one unit of the currency."""


class ExchangeRates(Settings):
    """Dollars for other currencies. A charge is converted at the rate of its day; one that has none is rejected."""

    file: ConfigPath | None = None
    """CSV file of rates, read when the configuration is: with the columns `valid_from`, `currency` and `usd`, or the European Central
    Bank's `eurofxref-hist.csv`."""
    file_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the file, which must then be that one and no other; empty takes any."""
    currencies: dict[CurrencyCode, Annotated[tuple[ExchangeRate, ...], Field(min_length=1)]] = {}
    """Currency -> its rates, the oldest first, in place of all that the file has for it. Append; changing a rate changes the past."""

    _of_file: Mapping[str, Dated] = PrivateAttr(default={})

    @field_validator("currencies")
    @classmethod
    def _in_order(cls, currencies: dict[str, tuple[ExchangeRate, ...]]) -> dict[str, tuple[ExchangeRate, ...]]:
        if "USD" in currencies:
            raise ValueError("`USD` has no rate: a dollar is a dollar")
        for currency, rates in currencies.items():
            for earlier, later in pairwise(rates):
                if earlier.valid_from >= later.valid_from:
                    raise ValueError(f"the rates of `{currency}` must ascend: {later.valid_from} stands after {earlier.valid_from}")
        return currencies

    @model_validator(mode="after")
    def _read_file(self) -> Self:
        if self.file is None:
            if self.file_sha256:
                raise ValueError("`file_sha256` is given without `file`")
            return self
        content = _content(self.file)
        digest = hashlib.sha256(content).hexdigest()
        if self.file_sha256 not in {"", digest}:
            raise ValueError(f"{self.file}: has the SHA-256 {digest}, not {self.file_sha256} (`file_sha256`)")
        self._of_file = read_rates(self.file, content)
        # What is written down of this section, and compared, must tell one content of the file from another; the section is frozen.
        self.__dict__["file_sha256"] = digest
        return self

    @property
    def rates(self) -> dict[str, Dated]:
        """Currency -> its rates: the file's, and those that stand here in their place."""
        here = {
            currency: (tuple(rate.valid_from for rate in rates), tuple(rate.usd for rate in rates))
            for currency, rates in self.currencies.items()
        }
        return {**self._of_file, **here}


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{path}: is larger than {LARGEST_FILE} bytes")
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path}: is a ZIP archive: unpack it")
    return content


def read_rates(path: Path, content: bytes) -> dict[str, Dated]:
    """The rates of a file, in either layout; `path` is for messages.

    Raises `ValueError` with the first mistake: file, line, value, rule.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines = _lines(path, reader)
    _, header = next(lines, (1, []))
    names = [name.lower() for name in header]
    if sorted(names) == sorted(_OWN_COLUMNS):
        return _own_layout(path, lines, [names.index(name) for name in _OWN_COLUMNS])
    # The Bank ends each line with a comma.
    while header and not header[-1]:
        header.pop()
    if names[:1] == ["date"] and "USD" in header:
        return _ecb_layout(path, lines, header)
    raise ValueError(
        f"{path}: line 1: {','.join(header)!r}: must name the columns {', '.join(_OWN_COLUMNS)}, or begin with Date and name USD, "
        "as the European Central Bank's eurofxref-hist.csv does"
    )


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Number and trimmed fields of the lines that are not empty."""
    try:
        for fields in reader:
            trimmed = [field.strip() for field in fields]
            if any(trimmed):
                yield reader.line_num, trimmed
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}") from None


def _own_layout(path: Path, lines: Iterator[tuple[int, list[str]]], order: Sequence[int]) -> dict[str, Dated]:
    found: dict[str, dict[date, Decimal]] = {}
    for number, fields in lines:
        where = f"{path}: line {number}"
        if len(fields) != len(_OWN_COLUMNS):
            raise ValueError(f"{where}: {','.join(fields)!r}: must have {len(_OWN_COLUMNS)} fields")
        day_text, currency, usd = (fields[position] for position in order)
        if not _CURRENCY.fullmatch(currency):
            raise ValueError(f"{where}: currency {currency!r}: must be three capital letters, as EUR")
        if currency == "USD":
            raise ValueError(f"{where}: currency 'USD': has no rate: a dollar is a dollar")
        day = _day(where, day_text)
        rates = found.setdefault(currency, {})
        if day in rates:
            raise ValueError(f"{where}: {currency} has a second rate from {day} on")
        rates[day] = _rate(where, "usd", usd)
    return {currency: _dated(rates) for currency, rates in found.items()}


def _ecb_layout(path: Path, lines: Iterator[tuple[int, list[str]]], header: Sequence[str]) -> dict[str, Dated]:
    """Units of each currency for one euro, by day. What is N/A is not quoted that day.

    A currency that the newest day does not quote has ceased to be, and its last rate must not hold for ever; nor must one from before
    a gap. So a currency has the rates since its last N/A.
    https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/html/index.en.html
    """
    for name in header[1:]:
        if not _CURRENCY.fullmatch(name) or header.count(name) > 1 or name == "EUR":
            raise ValueError(f"{path}: line 1: column {name!r}: must be a currency other than EUR, once")
    table: dict[date, tuple[int, list[str]]] = {}
    for number, fields in lines:
        day = _day(f"{path}: line {number}", fields[0])
        if day in table:
            raise ValueError(f"{path}: line {number}: {day} stands on line {table[day][0]}, too")
        if len(fields) < len(header) or any(fields[len(header) :]):
            raise ValueError(f"{path}: line {number}: must have {len(header)} fields, as line 1")
        table[day] = number, fields
    found: dict[str, tuple[list[date], _Quotients]] = {name: ([], _Quotients()) for name in ("EUR", *header[1:])}
    quoted = list(enumerate(header))[1:]
    for day in sorted(table, reverse=True):
        number, fields = table[day]
        dollars = _checked(path, number, "USD", fields[header.index("USD")])
        found["EUR"][0].append(day)
        found["EUR"][1].append(dollars, "1")
        quoted = [(column, name) for column, name in quoted if fields[column] not in _UNQUOTED]
        for column, name in quoted:
            days, rates = found[name]
            days.append(day)
            rates.append(dollars, _checked(path, number, name, fields[column]))
    del found["USD"]
    return {currency: (days[::-1], rates.reversed()) for currency, (days, rates) in found.items() if days}


class _Quotients(Sequence[Decimal]):
    """Rates that are computed when they are asked for: of a quarter of a million in the Bank's file a bill needs a few hundred."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)

    def append(self, dollars: str, units: str) -> None:
        self._pairs.append((dollars, units))

    def reversed(self) -> "_Quotients":
        return _Quotients(self._pairs[::-1])

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Quotients(self._pairs[index])
        dollars, units = self._pairs[index]
        return Decimal(dollars) if units == "1" else _CROSS.divide(Decimal(dollars), Decimal(units))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Quotients) and self._pairs == other._pairs

    __hash__ = None  # type: ignore[assignment]


def _checked(path: Path, line: int, column: str, text: str) -> str:
    if not _NUMBER.fullmatch(text):
        _rate(f"{path}: line {line}", column, text)
    return text


def _day(where: str, text: str) -> date:
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f"{where}: {text!r}: must be a day, as 2026-01-31")


def _rate(where: str, column: str, text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{where}: {column} {text!r}: must be a number above 0 of at most {RATE_DIGITS} digits, with a point")
    return Decimal(text)


def _dated(rates: Mapping[date, Decimal]) -> Dated:
    days = sorted(rates)
    return tuple(days), tuple(rates[day] for day in days)
