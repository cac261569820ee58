"""Tables as PostgreSQL has them, where these differ from `schema.py`: an index holds at most 2,704 bytes of a row there.

Names may be longer together, so a digest of them is the key. Migration 0002 makes these.
"""

import hashlib
from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, MetaData, Table, Uuid

from costwarden.ledger import schema

POSTGRESQL = MetaData()

# Who was recorded already: a unique constraint of the partitioned `usage` could not tell.
usage_identities = Table(
    "usage_identities",
    POSTGRESQL,
    Column("identity", Uuid(as_uuid=False), primary_key=True),
    Column("cost", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
)

usage_hourly = schema.usage_hourly.to_metadata(POSTGRESQL)
usage_hourly.append_column(Column("digest", Uuid(as_uuid=False), nullable=False))

usage_totals = schema.usage_totals.to_metadata(POSTGRESQL)
usage_totals.append_column(Column("digest", Uuid(as_uuid=False), nullable=False))


def digest(names: Iterable[str]) -> str:
    """What stands for `names`, 32 hexadecimal digits. PostgreSQL's texts hold no U+0000, so no two lists of them are taken for one."""
    return hashlib.blake2b("\0".join(names).encode(), digest_size=16).hexdigest()
