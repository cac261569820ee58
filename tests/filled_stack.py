"""The demo's stack with something of everything in it, so that every series that a dashboard reads is there, and its figures are known.

Bills of four clouds and a cluster, an AI provider's bill, five weeks of usage before today and calls of today, budgets of every period in
every state, guardrails, playbooks that ran, were refused and wait: what is read from files and stand-ins on loopback, by real parts.
"""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import yaml
from cost_explorer import ACCOUNT, CostExplorer, line
from filled_history import Past, write_blocks
from openai_admin import KEY, OpenaiAdmin
from opencost_server import OpenCost
from stand_in import Answer, StandIn

from costwarden.ledger import Ledger
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage, to_micros

DEMO = Path(__file__).resolve().parents[1] / "deploy" / "demo"
sys.path.insert(0, str(DEMO))

from bills import EUR_USD, PROVIDERS, _rows, write_bills  # noqa: E402 (the path comes first)
from processes import wait_for  # noqa: E402
from stack import AWS_CREDENTIALS, TOOLS, Stack, start_instances  # noqa: E402

SECONDS = 240.0
"""Deadline of the filling, which takes 20 s on an idle machine."""
OF_ONE_DAY = timedelta(minutes=4)
"""What the filling and the looks at it have before the next day begins: figures are as of one."""

EC2, S3 = "Amazon Elastic Compute Cloud - Compute", "Amazon Simple Storage Service"
MEMBER_EC2, MEMBER_S3, MEMBER_S3_YESTERDAY = Decimal(40), Decimal(5), Decimal(65)
"""Dollars a day of a second account, which Cost Explorer tells of; what its storage cost yesterday is an anomaly."""
CLUSTER = Decimal(24)
"""Dollars a day of the cluster, whose machines stand in the bill of AWS."""
CLUSTER_DAYS = 12
OPENAI_BILL, OPENAI_METERED = Decimal("0.30"), Decimal("0.24")
"""Dollars a day: 24 calls of a cent are metered, and a fifth of what is billed is not."""
USAGE_DAYS = 35
BUCKET_BYTES = 2_500_000_000_000
PROVIDER_BUDGET, PROVIDER_BUDGET_SPENT, PROVIDER_BUDGET_FORECAST = 2000, 1500, 2400

# Dollars a million tokens: input, output, cached input.
PRICES = {
    "claude-3-5-sonnet-20241022": ("3", "15", "0.3"),
    "gpt-4o": ("2.5", "10", "1.25"),
    "gpt-4o-mini": ("0.15", "0.6", "0.075"),
    "gemini-2.0-flash": ("0.1", "0.4", "0.025"),
}


class Call(NamedTuple):
    """So many calls of one kind; `cached` are part of the input tokens."""

    count: int
    tenant_id: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached: int = 0
    names: Mapping[str, str] = {}

    @property
    def cost(self) -> Decimal:
        """Of one of them, in dollars."""
        if self.model not in PRICES:
            return Decimal(0)
        into, out, cached = (Decimal(price) / 1_000_000 for price in PRICES[self.model])
        return (self.input_tokens - self.cached) * into + self.cached * cached + self.output_tokens * out


REPORT = {"feature": "reports", "report_type": "quarterly"}
CALLS = (
    # 2,000 × $3 + 2,000 × $0.30 + 1,200 × $15 a million: $0.0246 a call.
    Call(30, "acme", "anthropic", "claude-3-5-sonnet-20241022", 4_000, 1_200, 2_000, REPORT),
    # $0.00099 a call.
    Call(20, "acme", "openai", "gpt-4o-mini", 3_000, 900, 0, {"feature": "drafts", "report_type": "summary"}),
    # $0.011 a call: $0.22 of a budget of $0.26, which is past its soft limit of 80 %.
    Call(20, "globex", "openai", "gpt-4o", 2_000, 600, 0, {"feature": "chat", "team": "support", "service": "chatbot", "user_id": "u-7"}),
    # $0.00096 a call.
    Call(10, "initech", "google", "gemini-2.0-flash", 8_000, 400, 0, {"feature": "search"}),
    Call(3, "initech", "local", "in-house-7b", 1_000, 100, 0, {"feature": "search"}),
    # $0.06 a call: ten fit into $0.60. Last, because what comes after them is refused.
    Call(10, "hooli", "anthropic", "claude-3-5-sonnet-20241022", 10_000, 2_000, 0, {"feature": "batch"}),
)
REFUSED = 2
"""Checks of hooli that its budget refuses."""

BUDGETS: list[dict[str, Any]] = [
    {"name": "acme-month", "scope": {"tenant_id": "acme"}, "limit_usd": 25},
    {"name": "globex-chat", "scope": {"tenant_id": "globex"}, "limit_usd": 0.26},
    {"name": "hooli-trial", "scope": {"tenant_id": "hooli"}, "limit_usd": 0.60, "action": "suspend-ai-tenant"},
    {"name": "initech-month", "scope": {"tenant_id": "initech"}, "limit_usd": 10},
    {"name": "stark-pilot", "scope": {"tenant_id": "stark"}, "limit_usd": 0.05},
    {"name": "reports-daily", "scope": {"feature": "reports"}, "limit_usd": 25.5, "period": "day"},
    {"name": "support-weekly", "scope": {"team": "support"}, "limit_usd": 5, "period": "week"},
    {"name": "chatbot-hourly", "scope": {"service": "chatbot"}, "limit_usd": 1, "period": "hour"},
    {"name": "u-7-pilot", "scope": {"user_id": "u-7"}, "limit_usd": 2, "period": "total"},
    {"name": "everything", "limit_usd": 60, "soft_limit_ratio": 0.9},
]
CLOUD_BUDGETS: list[dict[str, Any]] = [
    {"name": "aws", "monthly_limit_usd": 10_000, "scope": {"provider": "aws"}},
    {"name": "gcp", "monthly_limit_usd": 2_500, "scope": {"provider": "gcp"}},
    {"name": "azure", "monthly_limit_usd": 1_400, "scope": {"provider": "azure"}},
    # One day of either is more: both are overspent from the first of a month on.
    {"name": "aws-dev", "monthly_limit_usd": 10, "scope": {"provider": "aws", "environment": "dev"}, "action": "stop-dev-ec2"},
    {"name": "azure-ci", "monthly_limit_usd": 5, "scope": {"provider": "azure", "environment": "ci"}, "action": "stop-ci-ec2"},
]
GUARDRAILS: list[dict[str, Any]] = [
    # $0.738 + $0.0198 + $0.22 + $0.60 + $0.0096 have been spent within the hour.
    {"name": "hourly", "metric": "hourly_cost", "trailing": True, "threshold_usd": 1, "severity": "warning", "actions": ["alert"]},
    {"name": "daily", "metric": "daily_cost", "threshold_usd": 500, "severity": "high", "actions": ["alert"]},
    {"name": "runaway", "metric": "hourly_cost", "trailing": True, "threshold_usd": 5_000, "severity": "emergency", "actions": ["alert"]},
]


class Charge(NamedTuple):
    """A line of a bill in dollars."""

    provider: str
    day: date
    service: str
    region: str
    cost: Decimal
    tags: Mapping[str, str]


class FilledStack:
    """What runs, and what was put into it. All money in dollars."""

    def __init__(self, stack: Stack, today: date, charges: list[Charge]) -> None:
        self.stack = stack
        self.prometheus = stack.prometheus
        self.today = today
        self.at = datetime.now(UTC)
        """The moment as of which Prometheus is asked: figures of an hour are as of it."""
        self.called: list[tuple[datetime, Call]] = []
        """When each of today's calls was made."""
        self.charges = charges
        """Every line of every bill, those of the cluster, which stand in the bill of AWS too, left out."""

    @property
    def month(self) -> date:
        """Its first day."""
        return self.today.replace(day=1)

    @property
    def previous_month(self) -> date:
        """The first day of the month before."""
        return (self.month - timedelta(days=1)).replace(day=1)

    def billed(self, first: date, end: date, **where: str) -> Decimal:
        """The sum of the charges of a half-open span of days, whose fields are as `where`."""
        chosen = (charge for charge in self.charges if first <= charge.day < end)
        return sum((charge.cost for charge in chosen if all(getattr(charge, key) == value for key, value in where.items())), Decimal(0))

    def billed_this_month(self, **where: str) -> Decimal:
        return self.billed(self.month, self.today + timedelta(days=1), **where)

    def billed_month_before(self, **where: str) -> Decimal:
        return self.billed(self.previous_month, self.month, **where)

    def cluster_days(self, first: date, end: date) -> int:
        """Days of the cluster in a half-open span."""
        return sum(first <= self.today - timedelta(days=number) < end for number in range(1, CLUSTER_DAYS + 1))

    def usage_before_today(self) -> list[tuple[datetime, Decimal]]:
        """When a call of acme was made before today, and what it cost."""
        return [(when, Decimal("0.01")) for when in _hours(self.today)]

    def ai_cost_this_month(self, **where: str) -> Decimal:
        """Of today's calls and of those before; `where` names fields of a call: `tenant_id`, `provider`, `model`."""
        return self._before(self.month, where) + calls_cost(**where)

    def ai_cost_ever(self, **where: str) -> Decimal:
        """Since the ledger began."""
        return self._before(date.min, where) + calls_cost(**where)

    def _before(self, first: date, where: Mapping[str, str]) -> Decimal:
        seeded = {"tenant_id": "acme", "provider": "openai", "model": "gpt-4o"}
        if any(seeded[key] != value for key, value in where.items()):
            return Decimal(0)
        return sum((cost for when, cost in self.usage_before_today() if when.date() >= first), Decimal(0))


def calls_cost(**where: str) -> Decimal:
    """What today's calls cost."""
    chosen = (call for call in CALLS if all(getattr(call, key) == value for key, value in where.items()))
    return sum((call.count * call.cost for call in chosen), Decimal(0))


def _hours(today: date) -> list[datetime]:
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    return [midnight - timedelta(hours=number, minutes=30) for number in range(24 * USAGE_DAYS)]


class _FilledParts(Stack):
    """The stack, with credentials for the server, and with what is in AWS before the server asks for it."""

    def _prometheus_command(self) -> list[str | Path]:
        # The past has a sample an hour.
        return [*super()._prometheus_command(), "--query.lookback-delta=1h", "--storage.tsdb.retention.time=400d"]

    def start_costwarden(self) -> None:
        self._await_answer("moto", f"{self.moto}/moto-api/data.json")
        _fill_aws(self.moto)
        start_instances(self.ec2(), 2, {"environment": "dev"})
        start_instances(self.ec2(), 3, {"environment": "ci"})
        argv = [sys.executable, "-m", "costwarden", "serve", "--config", self.config_file]
        self.processes.launch("costwarden", argv, AWS_CREDENTIALS)
        self._await_answer("costwarden", f"{self.costwarden}/readyz")


def _fill_aws(moto: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo", "region_name": "us-east-1", "endpoint_url": moto}
    spent = {"ActualSpend": PROVIDER_BUDGET_SPENT, "ForecastedSpend": PROVIDER_BUDGET_FORECAST}
    boto3.client("budgets", **keys).create_budget(
        AccountId=ACCOUNT,
        Budget={
            "BudgetName": "payer",
            "BudgetLimit": {"Amount": str(PROVIDER_BUDGET), "Unit": "USD"},
            "TimeUnit": "MONTHLY",
            "BudgetType": "COST",
            "CalculatedSpend": {key: {"Amount": str(amount), "Unit": "USD"} for key, amount in spent.items()},
        },
    )
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    dimensions = [{"Name": "BucketName", "Value": "archive"}, {"Name": "StorageType", "Value": "StandardStorage"}]
    size = {
        "MetricName": "BucketSizeBytes",
        "Dimensions": dimensions,
        "Timestamp": yesterday,
        "Value": float(BUCKET_BYTES),
        "Unit": "Bytes",
    }
    boto3.client("cloudwatch", **keys).put_metric_data(Namespace="AWS/S3", MetricData=[size])


@contextlib.contextmanager
def filled_stack(
    folder: Path,
    *,
    more: Mapping[str, Any] | None = None,
    rules: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[FilledStack]:
    """The stack in `folder`, filled; `more` are sections of the configuration, `rules` edits the rules.

    Raises `NotInTime` where something is not there by the deadline, and says what.
    """
    today = wait_for("the next day", _a_day_with_time, 2 * OF_ONE_DAY.total_seconds())
    openai = OpenaiAdmin()
    with (
        CostExplorer(today=today) as explorer,
        OpenCost(today=today) as opencost,
        StandIn(openai.answer) as openai_server,
        StandIn(lambda _: Answer()) as chat,
    ):
        charges = _fill_stand_ins(today, explorer, opencost, openai)
        sections = _config(explorer.url, opencost.url, openai_server.url) | dict(more or {})
        stack = _FilledParts(folder / "stack", yaml.safe_dump(sections, sort_keys=False), edit_rules=partial(_at_once, rules))
        explorer.others = stack.moto
        (stack.folder / "tokens" / "openai").write_text(KEY, encoding="utf-8")
        (stack.folder / "tokens" / "finance-chat").write_text(chat.url.replace("http://", "json://"), encoding="utf-8")
        charges += _write_bills(stack.folder / "bills", today)
        _write_usage(stack.folder / "costwarden.db", today)
        past = _past(charges, today, stack.costwarden.removeprefix("http://"))
        write_blocks(past, TOOLS / "promtool", stack.folder, stack.folder / "data" / "prometheus")
        with stack:
            filled = FilledStack(stack, today, charges)
            filled.called += _make_calls(stack)
            stack.notify("finance-chat", {"alertname": "CloudCostSpike", "provider": "aws"}, "Daily cost of aws jumped")
            wait_for("the ends of two runs, and one that waits", lambda: _states(stack) == {"awaiting_approval": 1, "done": 2}, SECONDS)
            yield filled


def _a_day_with_time() -> date | None:
    """The day that it is in UTC, where it does not end under whoever asks."""
    now = datetime.now(UTC)
    return now.date() if (now + OF_ONE_DAY).date() == now.date() else None


def _past(charges: list[Charge], today: date, instance: str) -> Past:
    """What Prometheus would have recorded of all this."""

    def daily(chosen: Callable[[Charge], bool]) -> dict[date, Decimal]:
        days: dict[date, Decimal] = defaultdict(Decimal)
        for charge in charges:
            if chosen(charge):
                days[charge.day] += charge.cost
        return days

    def in_scope(scope: Mapping[str, str]) -> Callable[[Charge], bool]:
        return lambda charge: all({"provider": charge.provider, **charge.tags}.get(key) == value for key, value in scope.items())

    def labels(budget: Mapping[str, Any], **more: str) -> str:
        return ",".join(f'{key}="{value}"' for key, value in {"budget": budget["name"], **budget.get("scope", {}), **more}.items())

    budgets = {budget["name"]: budget for budget in BUDGETS}
    return Past(
        providers={name: daily(in_scope({"provider": name})) for name in ("aws", "gcp", "azure", "openai")},
        cloud_budgets={labels(budget): daily(in_scope(budget["scope"])) for budget in CLOUD_BUDGETS},
        limits={found["name"]: found["monthly_limit_usd"] for found in CLOUD_BUDGETS if list(found["scope"]) == ["provider"]},
        usage=sorted(_hours(today)),
        call_cost=Decimal("0.01"),
        ai_budgets=[labels(budgets[name], period="month") for name in ("acme-month", "everything")],
        target=f'job="costwarden",instance="{instance}"',
    )


def _at_once(edit: Callable[[dict[str, Any]], None] | None, document: dict[str, Any]) -> None:
    """Have every group evaluated each second, as Prometheus is told for all that name no interval."""
    for group in document["groups"]:
        group.pop("interval", None)
    if edit:
        edit(document)


def _states(stack: Stack) -> dict[str, int]:
    """How many alerts of the remediation queue wait for a person, and how many are done with."""
    waiting = stack.query('costwarden_remediation_queue_length{state="awaiting_approval"}')
    return {"awaiting_approval": int(sum(sample.value for sample in waiting)), "done": len(stack.finished_runs())}


def _fill_stand_ins(today: date, explorer: CostExplorer, opencost: OpenCost, openai: OpenaiAdmin) -> list[Charge]:
    charges = []
    for number in range(1, 63):
        day = today - timedelta(days=number)
        storage = MEMBER_S3_YESTERDAY if number == 1 else MEMBER_S3
        for service, region, cost in ((EC2, "us-east-1", MEMBER_EC2), (S3, "eu-west-1", storage)):
            explorer.bill.append(line(day.isoformat(), str(cost), SERVICE=service, REGION=region))
            charges.append(Charge("aws", day, service, region, cost, {}))
        openai.cost(day, float(OPENAI_BILL))
        charges.append(Charge("openai", day, "gpt-4o-2024-08-06, input", "", OPENAI_BILL, {}))
        usage = {"project_id": "proj_a", "user_id": "user_1", "api_key_id": "key_1", "model": "gpt-4o", "batch": False}
        openai.usage["completions"][day] = [{"input_tokens": 60_000, "output_tokens": 15_000, "num_model_requests": 30, **usage}]
    for number in range(1, CLUSTER_DAYS + 1):
        day = (today - timedelta(days=number)).isoformat()
        for namespace, controller, share in (("shop", "web", 3), ("data", "etl", 1)):
            opencost.run(day, namespace=namespace, controller=controller, cpuCost=str(CLUSTER * share / 4))
    return charges


def _write_bills(folder: Path, today: date) -> list[Charge]:
    """Four months of bills, so that eight weeks lie before any day of this one."""
    write_bills(folder, today)
    end = (today.replace(day=1) - timedelta(days=1)).replace(day=1) - timedelta(days=1)
    write_bills(folder / "older", end)
    charges = []
    for name, bill in PROVIDERS.items():
        (older,) = (folder / "older" / name).iterdir()
        older.rename(folder / name / f"older-{older.name}")
        rate = EUR_USD if bill.currency == "EUR" else Decimal(1)
        for row in (*_rows(bill, end), *_rows(bill, today)):
            tags = yaml.safe_load(row.get("Tags", "{}"))
            day, cost = date.fromisoformat(row["ChargePeriodStart"][:10]), Decimal(row["BilledCost"]) * rate
            charges.append(Charge(name, day, row["ServiceName"], row.get("RegionId", ""), cost, tags))
    return charges


def _write_usage(path: Path, today: date) -> None:
    """A call of acme at half past every hour of the five weeks before today: 2,000 tokens in, half of them cached, 500 out, a cent."""
    ledger = Ledger(f"sqlite:///{path}")
    tokens = {"input_tokens": 2_000, "cache_read_tokens": 1_000, "output_tokens": 500}
    names = {"tenant_id": "acme", "provider": "openai", "model": "gpt-4o", "operation": "chat", "feature": "drafts"}
    calls = [
        Usage(source="filled", event_id=str(number), timestamp=to_micros(when), cost=10_000_000, priced_by="reported", **tokens, **names)
        for number, when in enumerate(reversed(_hours(today)))
    ]
    ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(call) for call in calls]))
    ledger.close()


def _config(explorer: str, opencost: str, openai: str) -> dict[str, Any]:
    shipped = yaml.safe_load((DEMO / "costwarden.yaml").read_text(encoding="utf-8"))
    focus = [{"type": "focus", "name": name, "path": f"bills/{name}", "interval_seconds": 5, "jitter_ratio": 0} for name in PROVIDERS]
    playbooks = {playbook["name"]: playbook for playbook in shipped["remediation"]["playbooks"]}
    bill = {"provider": "openai", "services": ["*"], "source": "openai"}
    stop = playbooks["stop-dev-ec2"] | {"max_targets_ratio": None, "fresh_sources": []}
    return {name: shipped[name] for name in ("server", "logs", "auth", "exchange_rates")} | {
        "sources": [
            *focus,
            {"type": "aws", "name": "member", "access": {"endpoint_url": explorer}, "bucket_sizes": True, "reread_days": 3},
            {"type": "kubernetes", "name": "cluster", "url": opencost, "cluster": "shop-eu", "billed_by": "aws"},
            {"type": "openai", "name": "openai", "admin_key": {"file": "tokens/openai"}, "endpoint_url": openai},
        ],
        "cloud_budgets": CLOUD_BUDGETS,
        "budgets": {"default": None, "unbudgeted": "allow", "reservation_seconds": 5, "configured": BUDGETS},
        "pricing": {
            "unknown_price": "zero",
            "overrides": [
                {
                    "valid_from": "2020-01-01",
                    "model": model,
                    "input_usd_mtok": float(into),
                    "output_usd_mtok": float(out),
                    "cache_read_usd_mtok": float(cached),
                }
                for model, (into, out, cached) in PRICES.items()
            ],
        },
        "guardrails": GUARDRAILS,
        "reconciliation": {"providers": [{"provider": "openai", "usage_providers": ["openai"], "bills": [bill]}]},
        "cloudwatch": {"access": {"endpoint_url": "http://127.0.0.1:5000"}, "interval_seconds": 10},
        "notifier": {"receivers": [{"name": "finance-chat", "url": {"file": "tokens/finance-chat"}}]},
        "metrics": {"max_interval_seconds": 5},
        "remediation": {
            "mode": "enforce",
            "kill_switch_file": "/run/costwarden/STOP",
            "playbooks": [
                playbooks["suspend-ai-tenant"],
                stop | {"mode": "approve"},
                # Three instances are more than it may stop.
                stop | {"name": "stop-ci-ec2", "max_targets": 1, "parameters": stop["parameters"] | {"tags": {"environment": "ci"}}},
            ],
        },
    }


def _make_calls(stack: Stack) -> list[tuple[datetime, Call]]:
    """Make today's calls; when each of them was made."""
    made = []

    def post(path: str, body: Mapping[str, Any]) -> httpx.Response:
        return stack.call("POST", f"/api/ai-budget/{path}", body, bearer="applications")

    # Never told about again: unsettled as soon as its reservation ends. 10,000 × $2.50 a million: $0.025 of $0.05.
    stark = {"tenant_id": "stark", "provider": "openai", "model": "gpt-4o", "estimated_input_tokens": 10_000, "estimated_output_tokens": 0}
    post("check", stark).raise_for_status()
    # The last ones at the end, the others in turns.
    *together, last = CALLS
    turns = [call for number in range(max(call.count for call in together)) for call in together if number < call.count]
    for number, call in enumerate([*turns, *[last] * last.count]):
        if number == len(together):
            # A counter is born with its first request in it; what `increase` shall see comes after a scrape.
            wait_for("a scrape", lambda: stack.query("ai_unpriced_requests_total"), SECONDS)
        names = {"tenant_id": call.tenant_id, "provider": call.provider, "model": call.model, "operation": "chat", **call.names}
        wish = {"estimated_input_tokens": call.input_tokens, "estimated_output_tokens": call.output_tokens}
        asked = post("check", names | wish).raise_for_status().json()
        used = {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens, "cache_read_tokens": call.cached}
        made.append((datetime.now(UTC), call))
        told = post("track", names | used | {"reservation_id": asked["reservation_id"]}).raise_for_status()
        assert Decimal(str(told.json()["cost_usd"])) == call.cost, told.text
    # At once: the playbook that suspends it is on its way.
    hooli = CALLS[-1]
    for _ in range(REFUSED):
        wish = {"estimated_input_tokens": hooli.input_tokens, "estimated_output_tokens": hooli.output_tokens}
        refused = post("check", {"tenant_id": hooli.tenant_id, "provider": hooli.provider, "model": hooli.model, **wish})
        assert refused.json()["reason"] == "budget_exceeded", refused.text
    return made
