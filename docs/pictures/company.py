"""A made-up company: what three clouds bill it each day, what its applications use each hour, and the budgets that it has set itself.

The same days give the same figures. What a day costs grows slowly, is less on Saturdays and Sundays, and strays a little.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "deploy" / "demo")]

from bills import AWS, AZURE, EC2, GOOGLE, Bill, Item, _row, _write_csv  # noqa: E402 (the path comes first)

from costwarden.budgets.requests import TrackRequest  # noqa: E402

BILLED_DAYS = 125
"""Days of bills before the present one: four months."""
TREND_DAYS = 400.0
"""After so many days everything costs e times as much."""

BILLS: dict[str, Bill] = {
    "aws": AWS._replace(
        items=(
            Item(EC2, "Compute", "eu-central-1", "i-web", Decimal(412), "prod", "web", "shop"),
            Item(EC2, "Compute", "us-east-1", "i-search", Decimal(168), "prod", "search", "search"),
            Item(EC2, "Compute", "eu-central-1", "i-train", Decimal(74), "dev", "research", "training"),
            Item("Amazon Relational Database Service", "Databases", "eu-central-1", "db", Decimal(186), "prod", "web", "orders"),
            Item("Amazon Simple Storage Service", "Storage", "us-east-1", "archive", Decimal(61), "prod", "data"),
            Item("Amazon CloudFront", "Networking", "us-east-1", "cdn", Decimal(48), "prod", "", "shop"),
        )
    ),
    "gcp": GOOGLE._replace(
        items=(
            Item("Kubernetes Engine", "Compute", "europe-west3", "gke-main", Decimal(143), "prod", "platform"),
            Item("BigQuery", "Analytics", "europe-west3", "warehouse", Decimal(97), "prod", "data", "reports"),
            Item("Cloud Storage", "Storage", "europe-west1", "exports", Decimal(22), "prod", "data", "exports"),
            # What initech's calls of Gemini cost, and some that nobody meters.
            Item("Vertex AI", "AI and Machine Learning", "europe-west1", "gemini", Decimal("10.60"), "prod", "search", "search"),
        )
    ),
    "azure": AZURE._replace(
        items=(
            Item("Azure OpenAI", "AI and Machine Learning", "westeurope", "openai", Decimal(88), "prod", "reports", "summaries"),
            Item("Virtual Machines", "Compute", "westeurope", "vm-build", Decimal(57), "ci", "platform"),
        )
    ),
}

SPIKES = {("aws", "i-train"): {9: 3.4, 8: 2.6}, ("gcp", "warehouse"): {17: 2.2}, ("azure", "vm-build"): {3: 1.7}}
"""How many times the ordinary a resource cost, by days before today."""


class Application(NamedTuple):
    """A tenant's use of a model: calls in an hour of a working day, and what each uses."""

    tenant_id: str
    provider: str
    model: str
    feature: str
    team: str
    report_type: str
    calls: float
    input_tokens: int
    output_tokens: int
    cached: float = 0
    """Share of the input tokens that come from a cache."""


APPLICATIONS = (
    Application("acme", "anthropic", "claude-sonnet-4-5", "reports", "analytics", "quarterly", 58, 14_000, 2_600, 0.55),
    Application("acme", "openai", "gpt-4.1-mini", "drafts", "analytics", "summary", 90, 3_000, 900),
    Application("globex", "openai", "gpt-4.1", "chat", "support", "", 120, 6_000, 700, 0.3),
    Application("globex", "anthropic", "claude-haiku-4-5", "triage", "support", "", 150, 2_500, 250),
    Application("initech", "google", "gemini-2.5-flash", "search", "search", "", 260, 8_000, 400),
    Application("hooli", "anthropic", "claude-sonnet-4-5", "batch", "research", "weekly", 16, 10_000, 2_000),
    Application("umbrella", "openai", "gpt-4.1", "agents", "agents", "", 38, 18_000, 1_500, 0.6),
)
RUNAWAY = ("umbrella", 6, 14, 6.0)
"""An agent that went round in circles: which tenant, how many days ago, at which hour, and how many times the ordinary."""

CLOUD_BUDGETS: list[dict[str, Any]] = [
    {"name": "aws", "monthly_limit_usd": 29_000, "scope": {"provider": "aws"}},
    {"name": "gcp", "monthly_limit_usd": 6_900, "scope": {"provider": "gcp"}},
    {"name": "azure", "monthly_limit_usd": 5_000, "scope": {"provider": "azure"}},
    {"name": "aws-dev", "monthly_limit_usd": 1_580, "scope": {"provider": "aws", "environment": "dev"}, "action": "stop-dev-ec2"},
    {"name": "data", "monthly_limit_usd": 4_000, "scope": {"team": "data"}},
    {"name": "platform", "monthly_limit_usd": 6_200, "scope": {"team": "platform"}},
]
BUDGETS: list[dict[str, Any]] = [
    {"name": "everything", "limit_usd": 2_200, "soft_limit_ratio": 0.9},
    {"name": "acme", "scope": {"tenant_id": "acme"}, "limit_usd": 980},
    {"name": "globex", "scope": {"tenant_id": "globex"}, "limit_usd": 560},
    {"name": "initech", "scope": {"tenant_id": "initech"}, "limit_usd": 400},
    {"name": "hooli-trial", "scope": {"tenant_id": "hooli"}, "limit_usd": 190, "action": "suspend-ai-tenant"},
    {"name": "umbrella", "scope": {"tenant_id": "umbrella"}, "limit_usd": 290},
    {"name": "support-daily", "scope": {"team": "support"}, "limit_usd": 18, "period": "day"},
    {"name": "agents-hourly", "scope": {"feature": "agents"}, "limit_usd": 2, "period": "hour"},
    {"name": "research-weekly", "scope": {"team": "research"}, "limit_usd": 90, "period": "week"},
]
GUARDRAILS: list[dict[str, Any]] = [
    {"name": "hourly", "metric": "hourly_cost", "trailing": True, "threshold_usd": 50, "severity": "critical", "actions": ["alert"]},
    {"name": "daily", "metric": "daily_cost", "threshold_usd": 500, "severity": "high", "actions": ["alert"]},
]


def write_bills(folder: Path, days: Sequence[date], today: date) -> None:
    """Write what each cloud billed for some days, a file a cloud."""
    for provider, bill in BILLS.items():
        (folder / provider).mkdir(parents=True, exist_ok=True)
        rows = [row for day in days for row in _rows(provider, bill, day, today)]
        _write_csv(folder / provider / f"{days[0]}.csv", bill.columns, rows)


def _rows(provider: str, bill: Bill, day: date, today: date) -> Iterator[dict[str, Any]]:
    if day.day == 1:
        yield _row(bill, day, "Credit", bill.credit * 6, "promotional credit")
        yield _row(bill, day, "Tax", bill.tax * 8, "value added tax")
    back = (today - day).days
    draw = Random(f"{provider} {day}")  # noqa: S311 (a sample, not a secret)
    weekend = 0.74 if day.weekday() >= 5 else 1.0
    for item in bill.items:
        factor = math.exp(-back / TREND_DAYS) * draw.uniform(0.96, 1.05) * SPIKES.get((provider, item.resource), {}).get(back, 1.0)
        cost = (item.daily * Decimal(weekend * factor)).quantize(Decimal("0.01"))
        yield _row(bill, day, "Usage", cost, f"{item.service}, a day", item)


def calls_of(hour: datetime, today: date) -> Iterator[TrackRequest]:
    """What the applications used in an hour, some calls of each in one."""
    back = (today - hour.date()).days
    draw = Random(f"{hour}")  # noqa: S311
    daylight = 0.35 + 0.65 * math.exp(-(((hour.hour - 13.5) / 4.5) ** 2))
    weekend = 0.45 if hour.weekday() >= 5 else 1.0
    for number, app in enumerate(APPLICATIONS):
        load = app.calls * daylight * weekend * math.exp(-back / 60) * draw.uniform(0.8, 1.2)
        tenant, days, from_hour, times = RUNAWAY
        if app.tenant_id == tenant and back == days and from_hour <= hour.hour < from_hour + 5:
            load *= times
        for part in range(4):
            calls = load / 4 * draw.uniform(0.7, 1.3)
            yield TrackRequest(
                tenant_id=app.tenant_id,
                provider=app.provider,
                model=app.model,
                operation="chat",
                feature=app.feature,
                team=app.team,
                report_type=app.report_type,
                event_id=f"{hour:%Y%m%d%H}-{number}-{part}",
                timestamp=f"{hour + timedelta(minutes=7 + 14 * part):%Y-%m-%dT%H:%M:%SZ}",
                input_tokens=round(calls * app.input_tokens),
                cache_read_tokens=round(calls * app.input_tokens * app.cached),
                output_tokens=round(calls * app.output_tokens),
            )
