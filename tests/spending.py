"""A source read into a real ledger, as the server does: what `refresh` puts in force, and what the metrics page makes of it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from costwarden.config import reveal
from costwarden.ledger import Ledger, schema
from costwarden.ledger.charges import Part, Refresh, count_rejected, read_parts
from costwarden.ledger.providers import read_figures, read_provider_budgets
from costwarden.metrics.cloud import cloud_collector
from costwarden.metrics.exposition import render, text_metadata
from costwarden.metrics.providers import provider_collector
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import exact_sum, to_micros
from costwarden.sources.settings import AttributionSettings, ExchangeRates
from costwarden.sources.windows import Window, usual_window
from costwarden.sync import open_for_ledger, refresh


class Spending:
    """`today` may be set; `environ` holds what secrets of the form `{env: NAME}` name."""

    def __init__(self, database_url: str, today: date = date(2026, 11, 20)) -> None:
        self.ledger = Ledger(database_url)
        self.today = today
        self.minutes = 0
        """Minutes past noon: to let kept answers grow old without a new day."""
        self.environ: dict[str, str] = {}

    def now(self) -> int:
        """Noon of `today`, and `minutes`."""
        noon = datetime(self.today.year, self.today.month, self.today.day, 12, tzinfo=UTC)
        return to_micros(noon) + self.minutes * 60_000_000

    def refresh(self, settings: Any, *, rules: Any = (), currencies: Any = None, window: Window | None = None) -> Refresh:
        """One refresh, opened anew as the scheduler does. `failure` of the answer is empty where it succeeded."""
        reading = self.open(settings, rules=rules, currencies=currencies)
        days = window or usual_window(self.today, settings.history_days, settings.reread_days)
        try:
            return refresh(self.ledger, settings.name, reading, self.now, window=days)
        finally:
            reading.source.close()

    def open(self, settings: Any, *, rules: Any = (), currencies: Any = None) -> Any:
        """The `Reading` of a source: `.source.fetch`, `.source.probe`, `.requests.made`, `.requests.cost`."""
        return open_for_ledger(
            self.ledger,
            settings,
            AttributionSettings.model_validate({"rules": rules}),
            ExchangeRates.model_validate({"currencies": currencies or {}}),
            reveal=lambda secret: reveal(secret, self.environ),
            now=self.now,
        )

    def charges(self, **where: str) -> list[dict[str, Any]]:
        """The charges in force whose columns are as `where`, in the order of their key; costs are `Decimal`."""
        query = select(schema.charges).order_by(*(schema.charges.c[name] for name in schema.CHARGE_KEY))
        for name, value in where.items():
            query = query.where(schema.charges.c[name] == value)
        with self.ledger.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        money = {name for basis in schema.COST_BASES for name in (basis, f"{basis}_usd")} | {"usd_rate"}
        return [{name: Decimal(value) if name in money else value for name, value in row.items()} for row in rows]

    def total(self, column: str = "billed_cost_usd", **where: str) -> Decimal:
        """The exact sum of a column of the charges in force."""
        return exact_sum([charge[column] for charge in self.charges(**where)])

    def by(self, *columns: str, cost: str = "billed_cost") -> dict[Any, Decimal]:
        """Value (or values) of `columns` -> exact sum."""
        sums: dict[Any, list[Decimal]] = {}
        for charge in self.charges():
            key = tuple(charge[name] for name in columns)
            sums.setdefault(key if len(columns) > 1 else key[0], []).append(charge[cost])
        return {key: exact_sum(costs) for key, costs in sums.items()}

    def parts(self) -> dict[str, Part]:
        """Part -> what the ledger knows of it."""
        with self.ledger.read() as connection:
            return {part.part: part for _, part in read_parts(connection)}

    def rejected(self) -> dict[str, int]:
        """Reason -> rejected rows, of all sources."""
        with self.ledger.read() as connection:
            return {reason: rows for _, reason, rows in count_rejected(connection)}

    def reported(self) -> list[dict[str, Any]]:
        """What providers say was used: quantities of 0 and empty names left out."""
        query = select(schema.provider_usage).order_by(*schema.provider_usage.primary_key.columns)
        with self.ledger.read() as connection:
            return [{name: value for name, value in row.items() if value} for row in connection.execute(query).mappings()]

    def figures(self) -> dict[tuple[str, ...], Decimal]:
        """(metric, *labels) -> value, of what providers state."""
        with self.ledger.read() as connection:
            return {(figure.metric, *figure.labels): figure.value for figure in read_figures(connection)}

    def budgets(self) -> list[Any]:
        """The budgets kept at providers."""
        with self.ledger.read() as connection:
            return read_provider_budgets(connection)

    def state(self, source: str) -> Mapping[str, Any]:
        """The row of `source_state`: up, message, requests, request_cost (nano-dollars), rows, …"""
        with self.ledger.read() as connection:
            query = select(schema.source_state).where(schema.source_state.c.source == source)
            return dict(connection.execute(query).mappings().one())

    def exposition(self) -> str:
        """The text of the metrics page: cloud cost and what providers state. For golden files: bills give series in no order, here they are
        sorted."""
        collectors = (
            cloud_collector(self.ledger.read, MetricsSettings(), (), self.now),
            provider_collector(self.ledger.read),
        )
        families = [found for collector in collectors for found in collector.collect()]
        shown = [
            text_metadata(family) + render(family, sorted(samples), 10_000, None, lambda: None).lines
            for family, samples in families
            if samples
        ]
        return b"".join(shown).decode()
