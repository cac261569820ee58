"""Leases, guardrails, tiers, audio and service tiers; what periods have set aside; what engines tell each other; PostgreSQL."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DIMENSIONS = ("tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service")
QUANTITIES = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "images",
)
PERIOD = ("budget", "period_start", "spent", "input_tokens", "output_tokens", "requests", "reserved", "unsettled", "period_end", "reset_at")

BUDGETS_LOCK = 0x636F737477617264
"""As in `locks.py`."""


def _text(name: str, default: str = "") -> "sa.Column[str]":
    return sa.Column(name, TEXT, server_default=default, nullable=False)


def _integer(name: str, default: str = "0") -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), server_default=default, autoincrement=False, nullable=False)


def upgrade() -> None:
    op.add_column("usage", _integer("audio_milliseconds"))
    op.add_column("usage", _integer("requests", "1"))
    op.add_column("usage", _text("service_tier"))
    op.add_column("usage_hourly", _integer("audio_milliseconds"))
    op.add_column("usage_totals", _integer("audio_milliseconds"))
    op.add_column("budgets", _text("tier"))
    op.add_column("budget_periods", _integer("reserved"))
    op.add_column("budget_periods", _integer("unsettled"))
    op.add_column("budget_periods", _integer("period_end"))
    op.add_column("budget_periods", _integer("reset_at"))
    op.add_column("reservations", _text("kind", "call"))
    op.add_column("reservations", _integer("settled"))
    op.create_table(
        "book_changes",
        sa.Column("change_id", NUMBER, sa.Identity(), nullable=False),
        _text("kind"),
        _text("name"),
        sa.PrimaryKeyConstraint("change_id"),
    )
    op.create_table(
        "guardrail_breaches",
        sa.Column("guardrail", TEXT, nullable=False),
        sa.Column("breached_at", sa.BigInteger(), autoincrement=False, nullable=False),
        _integer("spent"),
        _integer("threshold_nanos"),
        _text("severity"),
        _text("actions"),
        sa.PrimaryKeyConstraint("guardrail", "breached_at"),
        sqlite_with_rowid=False,
    )
    noted = (("budgets", "budget", "budget"), ("suspended_tenants", "tenant", "tenant_id"))
    if op.get_bind().dialect.name != "postgresql":
        for table, kind, name in noted:
            _note_changes_on_sqlite(table, kind, name)
        return
    for statement in _POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)
    for table, kind, name in noted:
        for statement in _note_changes_on_postgresql(table, kind, name):
            op.get_bind().exec_driver_sql(statement)


def _note_changes_on_sqlite(table: str, kind: str, name: str) -> None:
    """Whoever changes a budget, by hand as well, tells the engines that know it."""
    for event, rows in (("INSERT", ("NEW",)), ("UPDATE", ("OLD", "NEW")), ("DELETE", ("OLD",))):
        # A renamed budget is two changes: the old name is gone.
        notes = " UNION ".join(f"SELECT '{kind}', {row}.{name}" for row in rows)
        trigger = f"{table}_{event.lower()}_noted"
        op.execute(f"CREATE TRIGGER {trigger} AFTER {event} ON {table} BEGIN INSERT INTO book_changes (kind, name) {notes}; END")


def _note_changes_on_postgresql(table: str, kind: str, name: str) -> tuple[str, ...]:
    """The same. The lock comes before the first row is touched, as in `locks.py`: else two could wait for each other."""
    change = f"INSERT OR UPDATE OR DELETE ON {table}"
    return (
        f"CREATE TRIGGER {table}_locked BEFORE {change} FOR EACH STATEMENT EXECUTE FUNCTION lock_budgets()",
        f"CREATE TRIGGER {table}_noted AFTER {change} FOR EACH ROW EXECUTE FUNCTION note_book_change('{kind}', '{name}')",
    )


def _columns(names: tuple[str, ...], kind: str) -> str:
    return ", ".join(f"{name} {kind}" for name in names)


_KEPT_TEXT = """text COLLATE "C" NOT NULL DEFAULT ''"""
_KEPT_NUMBER = "bigint NOT NULL DEFAULT 0"

# Partitions by month are made when they are needed (`partitions.py`). A unique constraint of a partitioned table would have to hold the
# time as well, so the identities of events have a table of their own.
_USAGE = f"""
CREATE TABLE usage (
  usage_id bigint NOT NULL DEFAULT nextval('usage_numbers'),
  recorded_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  source {_KEPT_TEXT}, event_id {_KEPT_TEXT}, timestamp {_KEPT_NUMBER},
  {_columns(DIMENSIONS, _KEPT_TEXT)},
  {_columns(QUANTITIES, _KEPT_NUMBER)},
  success {_KEPT_NUMBER}, cost {_KEPT_NUMBER}, priced_by {_KEPT_TEXT}, reservation_id {_KEPT_TEXT},
  audio_milliseconds {_KEPT_NUMBER}, requests bigint NOT NULL DEFAULT 1, service_tier {_KEPT_TEXT},
  PRIMARY KEY (timestamp, usage_id)
) PARTITION BY RANGE (timestamp)
"""

# As `timestamptz 'epoch' + …` would be, but immutable, so that an index can hold it. Doubles are exact to the microsecond until 2106.
_TIME = "to_timestamp({}::double precision / 1000000)"

_HOLD_PERIODS = f"""
CREATE FUNCTION hold_budget_periods(budget_names text[], period_starts bigint[])
RETURNS TABLE (
  budget text, period_start bigint, spent bigint, input_tokens bigint, output_tokens bigint, requests bigint, reserved bigint,
  unsettled bigint, period_end bigint, reset_at bigint, crossed text[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  held_names text[];
  held_starts bigint[];
BEGIN
  -- Locked first, read after: one statement would see the thresholds as they were before it waited. And nothing but what is locked: a row
  -- that another transaction has made meanwhile would be seen, and not be held.
  SELECT array_agg(held.name), array_agg(held.start) INTO held_names, held_starts FROM (
    SELECT p.budget AS name, p.period_start AS start FROM unnest(budget_names, period_starts) AS wanted (budget, period_start)
      JOIN budget_periods AS p ON p.budget = wanted.budget AND p.period_start = wanted.period_start
      ORDER BY p.budget, p.period_start FOR UPDATE OF p
  ) AS held;
  RETURN QUERY SELECT {", ".join(f"p.{name}" for name in PERIOD)},
      ARRAY(SELECT c.threshold::text FROM thresholds_crossed AS c WHERE c.budget = p.budget AND c.period_start = p.period_start)
    FROM unnest(held_names, held_starts) AS wanted (budget, period_start)
    JOIN budget_periods AS p ON p.budget = wanted.budget AND p.period_start = wanted.period_start;
END $$
"""  # noqa: S608

_LOCK_BUDGETS = f"""
CREATE FUNCTION lock_budgets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock({BUDGETS_LOCK});
  RETURN NULL;
END $$
"""

_NOTE_BOOK_CHANGE = """
CREATE FUNCTION note_book_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO book_changes (kind, name) VALUES (TG_ARGV[0], to_jsonb(OLD) ->> TG_ARGV[1]);
  END IF;
  IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR to_jsonb(NEW) ->> TG_ARGV[1] <> to_jsonb(OLD) ->> TG_ARGV[1]) THEN
    INSERT INTO book_changes (kind, name) VALUES (TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[1]);
  END IF;
  RETURN NULL;
END $$
"""

# One budget a row, of a tenant or of a tenant's model, by the month. A limit of 0 is shown as NULL: queries divide by it.
_AI_TOKEN_BUDGETS = f"""
CREATE VIEW ai_token_budgets AS
SELECT
  b.tenant_id, b.model,
  nullif(b.limit_nanos, 0) * 0.000000001 AS monthly_limit_usd,
  coalesce(p.spent, 0) * 0.000000001 AS current_usage_usd,
  coalesce(p.input_tokens, 0) AS token_count_input,
  coalesce(p.output_tokens, 0) AS token_count_output,
  coalesce({_TIME.format("p.period_end")}, date_trunc('month', now()) + interval '1 month') AS reset_date,
  coalesce(p.spent, 0) >= b.limit_nanos * nullif(b.soft_limit_ratio, '')::numeric AS soft_limit_notified,
  coalesce(p.spent, 0) + coalesce(p.unsettled, 0) >= b.limit_nanos AS hard_limit_reached,
  {_TIME.format("b.created_at")} AS created_at,
  {_TIME.format("b.updated_at")} AS updated_at,
  b.budget
FROM budgets AS b
LEFT JOIN LATERAL (
  SELECT * FROM budget_periods AS newest WHERE newest.budget = b.budget
    AND extract(epoch FROM now()) * 1000000 >= newest.period_start AND extract(epoch FROM now()) * 1000000 < newest.period_end
  ORDER BY newest.period_start DESC LIMIT 1
) AS p ON true
WHERE b.period = 'month' AND b.tenant_id <> ''
  AND {" AND ".join(f"b.{name} = ''" for name in DIMENSIONS if name not in ("tenant_id", "model"))}
"""  # noqa: S608

_AI_TOKEN_USAGE = f"""
CREATE VIEW ai_token_usage AS
SELECT
  usage_id AS id, {_TIME.format("timestamp")} AS timestamp, {", ".join(DIMENSIONS)},
  input_tokens AS prompt_tokens, output_tokens AS completion_tokens, input_tokens + output_tokens AS total_tokens,
  cost * 0.000000001 AS cost_usd, success = 1 AS success, requests, source, event_id, reservation_id, priced_by, service_tier,
  {", ".join(name for name in QUANTITIES if name not in ("input_tokens", "output_tokens"))}, audio_milliseconds
FROM usage
"""  # noqa: S608

# Exact, as SQLite's of the same name is: sum() of a text does not exist, and callers want text.
_DECIMAL_SUM = (
    """
CREATE FUNCTION decimal_sum_add(total numeric, amount text) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT coalesce(total, 0) + coalesce(amount::numeric, 0)'
""",
    """
CREATE FUNCTION decimal_sum_text(total numeric) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT total::text'
""",
    """
CREATE AGGREGATE decimal_sum(text) (
  SFUNC = decimal_sum_add, STYPE = numeric, FINALFUNC = decimal_sum_text, COMBINEFUNC = numeric_add, PARALLEL = SAFE
)
""",
)

_POSTGRESQL = (
    "DROP TABLE usage",
    "CREATE SEQUENCE usage_numbers",
    _USAGE,
    "ALTER SEQUENCE usage_numbers OWNED BY usage.usage_id",
    "CREATE INDEX usage_number ON usage (usage_id)",
    "CREATE INDEX usage_recorded ON usage (recorded_xid)",
    # Rows come in the order of their time, more or less: enough for such an index, which costs next to nothing.
    f"CREATE INDEX usage_time ON usage USING brin (({_TIME.format('timestamp')})) WITH (autosummarize = on, pages_per_range = 32)",
    # What comes for a month that has no partition yet, or none any more.
    "CREATE TABLE usage_other PARTITION OF usage DEFAULT",
    "CREATE TABLE usage_identities (identity uuid PRIMARY KEY, cost bigint NOT NULL, timestamp bigint NOT NULL)",
    # An index cannot hold more than 2,704 bytes of a row, and nine names can be longer: their digest stands for them.
    "ALTER TABLE usage_hourly DROP CONSTRAINT usage_hourly_pkey, ADD digest uuid NOT NULL, ADD PRIMARY KEY (hour, digest)",
    "ALTER TABLE usage_totals DROP CONSTRAINT usage_totals_pkey, ADD digest uuid NOT NULL, ADD PRIMARY KEY (digest)",
    "ALTER TABLE charges DROP CONSTRAINT charges_pkey",
    "CREATE INDEX charges_part ON charges (source, part)",
    "CREATE INDEX charges_date ON charges (charge_date)",
    "CREATE INDEX staged_charges_part ON staged_charges (source, part)",
    # What a tenant has spent is asked for at every look at its status. Its columns never change: an update leaves the index alone.
    "CREATE INDEX usage_hourly_tenant ON usage_hourly (tenant_id, hour)",
    "CREATE INDEX reservations_anonymous ON reservations (tenant_id, model, state, created_at) WHERE event_id = '' AND kind = 'call'",
    "CREATE INDEX reservations_expiry ON reservations (expires_at) WHERE state = 'open'",
    # Room for the next version of a row beside it, because these are written again and again.
    *(f"ALTER TABLE {table} SET (fillfactor = 70)" for table in ("budget_periods", "usage_totals", "usage_hourly")),
    *_DECIMAL_SUM,
    _HOLD_PERIODS,
    _LOCK_BUDGETS,
    _NOTE_BOOK_CHANGE,
    _AI_TOKEN_BUDGETS,
    _AI_TOKEN_USAGE,
)
