"""What the tables of the ledger are made of."""

from sqlalchemy import BigInteger, Column, Identity, Integer, MetaData, Text

METADATA = MetaData()
"""Every table of the ledger."""

# PostgreSQL's identity columns are 64 bits wide, as SQLite's row ids are.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def text(name: str, *, key: bool = False) -> Column[str]:
    """A text, empty unless said otherwise."""
    return Column(name, Text, nullable=False, primary_key=key, server_default=None if key else "")


def integer(name: str, *, key: bool = False) -> Column[int]:
    """A whole number of 64 bits, 0 unless said otherwise."""
    return Column(name, BigInteger, nullable=False, primary_key=key, autoincrement=False, server_default=None if key else "0")


def number(name: str) -> Column[int]:
    """The key of rows that the database numbers."""
    return Column(name, NUMBER, Identity(), primary_key=True)
