"""How large recorded calls were, for the estimates of those to come."""

from typing import NamedTuple

from sqlalchemy import Connection, and_, or_, select

from costwarden.ledger.schema import usage

MOST_PLAUSIBLE_TOKENS = 10_000_000
"""The longest context windows of models. What is longer in or out is no single call, whatever it was recorded as."""


class CallSize(NamedTuple):
    """A call that was made and answered, in tokens, with whose and what it was."""

    tenant_id: str
    provider: str
    model: str
    operation: str
    input_tokens: int
    output_tokens: int


def newest_sizes(connection: Connection, after_usage_id: int, limit: int) -> tuple[int, list[CallSize]]:
    """The newest recorded `usage_id`, and the sizes of what was recorded after `after_usage_id`, in the order of recording.

    Looks at the newest `limit` events only, however many came since. Failed calls, sums of several calls, corrections, images and audio,
    what has no tokens or implausibly many, and what its sender has put a price on say nothing about the tokens of a call, and are left out.
    """
    columns = (*(usage.c[name] for name in CallSize._fields), usage.c.usage_id)
    tells = and_(
        usage.c.success == 1,
        usage.c.requests == 1,
        # Of metrics, input and output are two events: neither is the size of a call.
        ~usage.c.event_id.startswith("metric:"),
        usage.c.images == 0,
        usage.c.audio_milliseconds == 0,
        usage.c.model != "",
        usage.c.priced_by != "caller",
        or_(usage.c.input_tokens > 0, usage.c.output_tokens > 0),
        usage.c.input_tokens <= MOST_PLAUSIBLE_TOKENS,
        usage.c.output_tokens <= MOST_PLAUSIBLE_TOKENS,
    )
    query = select(*columns, tells).where(usage.c.usage_id > after_usage_id).order_by(usage.c.usage_id.desc()).limit(limit)
    rows = connection.execute(query).all()
    newest: int = rows[0].usage_id if rows else after_usage_id
    return newest, [CallSize(*row[:-2]) for row in reversed(rows) if row[-1]]
