"""Cost Explorer on loopback, answering from the request: metrics, groups, filters, days, pages, forecast. For real boto3.

Shapes and rules: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostAndUsage.html and API_GetCostForecast.html.
`Total` is empty where the request groups; a filter on a value that nothing has is no error; a group of a tag is `key$value`, that of no
tag `key$`. All other services are passed on to `others`, the address of a moto server.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from stand_in import Answer, Request, StandIn, pass_on

from costwarden.model import exact_sum
from costwarden.sources.settings import AwsSettings

TARGET = "AWSInsightsIndexService."
METRICS = {"AmortizedCost", "BlendedCost", "NetAmortizedCost", "NetUnblendedCost", "UnblendedCost"}
FORECAST_METRICS = {"AMORTIZED_COST": "AmortizedCost", "NET_UNBLENDED_COST": "NetUnblendedCost", "UNBLENDED_COST": "UnblendedCost"}
ACCOUNT = "123456789012"
"""As moto has it: whose the credentials are that it knows nothing of."""


@dataclass(frozen=True)
class Line:
    """A line of the bill. `keys` holds dimensions, `TAG:key` and `COST_CATEGORY:name`."""

    day: date
    cost: str
    """In every metric that `metrics` does not name."""
    keys: Mapping[str, str]
    metrics: Mapping[str, str] = field(default_factory=dict)
    unit: str = "USD"

    def get(self, key: str) -> str:
        defaults = {"SERVICE": "AmazonEC2", "REGION": "us-east-1", "RECORD_TYPE": "Usage", "LINKED_ACCOUNT": ACCOUNT}
        return self.keys.get(key, defaults.get(key, ""))

    def amount(self, metric: str) -> Decimal:
        return Decimal(self.metrics.get(metric, self.cost))


def line(day: str, cost: str, *, metrics: Mapping[str, str] | None = None, unit: str = "USD", **keys: str) -> Line:
    """`line("2026-11-01", "1.5", SERVICE="AmazonS3", **{"TAG:team": "search"})`."""
    return Line(date.fromisoformat(day), cost, keys, metrics or {}, unit)


class CostExplorer(StandIn):
    """`lines` holds the bill of each account; `today` decides what is estimated and where a forecast may begin."""

    def __init__(self, *, today: date = date(2026, 11, 20), others: str = "", page: int = 10_000) -> None:
        super().__init__(self._answer)
        self.today, self.others, self.page = today, others, page
        self.lines: dict[str, list[Line]] = defaultdict(list)
        self.denied: set[str] = set()
        """Operations that nobody may call."""
        self.roles: dict[str, str] = {}
        """Role -> the external id that its trust policy asks for."""
        self.has_history = True
        self.generation = 0
        """Raised to make all page tokens run out."""
        self._accounts: dict[str, str] = {}

    @property
    def bill(self) -> list[Line]:
        """The bill of `ACCOUNT`."""
        return self.lines[ACCOUNT]

    def total(self, account: str = ACCOUNT, metric: str = "UnblendedCost") -> Decimal:
        """The exact sum of a bill."""
        return exact_sum([one.amount(metric) for one in self.lines[account]])

    def operations(self, prefix: str = TARGET) -> list[str]:
        """Operations of Cost Explorer that were asked for, in order, repetitions included."""
        targets = [request.headers.get("x-amz-target", "") for request in self.requests]
        return [target.removeprefix(prefix) for target in targets if target.startswith(prefix)]

    def asked(self, operation: str = "GetCostAndUsage") -> list[Any]:
        """The parameters of all requests for `operation`."""
        return [request.json() for request in self.requests if request.headers.get("x-amz-target") == TARGET + operation]

    def _answer(self, request: Request) -> Answer:
        target = request.headers.get("x-amz-target", "")
        if not target.startswith(TARGET):
            return self._pass_on(request)
        operation = target.removeprefix(TARGET)
        if operation in self.denied:
            text = f"User: arn:aws:iam::{ACCOUNT}:user/costwarden is not authorized to perform: ce:{operation} on resource: *"
            return _error("AccessDeniedException", text)
        account = self._account(request)
        return {"GetCostAndUsage": self._costs, "GetCostForecast": self._forecast}[operation](request.json(), account)

    def _account(self, request: Request) -> str:
        key = re.search(r"Credential=([^/]+)/", request.headers["authorization"])
        assert key is not None
        return self._accounts.get(key[1], ACCOUNT)

    def _costs(self, asked: Mapping[str, Any], account: str) -> Answer:
        start, end = (date.fromisoformat(asked["TimePeriod"][name]) for name in ("Start", "End"))
        groups = [(group["Type"], group["Key"]) for group in asked.get("GroupBy", ())]
        if not set(asked["Metrics"]) <= METRICS or len(groups) > 2 or asked["Granularity"] != "DAILY" or not start < end:
            return _error("ValidationException", f"not valid: {asked}")
        if start > self.today:
            return _error("ValidationException", "Start date must be no later than the current date")
        chosen = [one for one in self.lines[account] if start <= one.day < end and _matches(one, asked.get("Filter"))]
        days = [start + timedelta(days=number) for number in range((end - start).days)]
        if not groups:
            return Answer({"ResultsByTime": [self._day(day, total=_metrics(chosen, day, asked["Metrics"])) for day in days]})
        found: dict[tuple[date, tuple[str, ...]], list[Line]] = {}
        for one in chosen:
            found.setdefault((one.day, tuple(_group(one, kind, key) for kind, key in groups)), []).append(one)
        entries = [(day, key) for day in days for key in (sorted(key for other, key in found if other == day) or [None])]
        offset, token = 0, asked.get("NextPageToken")
        if token:
            generation, _, text = token.partition("-")
            if generation != str(self.generation):
                return _error("InvalidNextTokenException", "The pagination token is invalid. Try again without a pagination token.")
            offset = int(text)
        results: dict[date, list[Any]] = {}
        for day, group in entries[offset : offset + self.page]:
            shown = results.setdefault(day, [])
            if group is not None:
                shown.append({"Keys": [*group], "Metrics": _sums(found[day, group], asked["Metrics"])})
        body: dict[str, Any] = {
            "GroupDefinitions": asked["GroupBy"],
            "ResultsByTime": [self._day(day, groups=shown) for day, shown in results.items()],
            "DimensionValueAttributes": [],
        }
        if offset + self.page < len(entries):
            body["NextPageToken"] = f"{self.generation}-{offset + self.page}"
        return Answer(body)

    def _day(self, day: date, *, total: Any = None, groups: Any = ()) -> dict[str, Any]:
        period = {"Start": day.isoformat(), "End": (day + timedelta(days=1)).isoformat()}
        estimated = day >= self.today.replace(day=1)
        return {"TimePeriod": period, "Total": total or {}, "Groups": [*groups], "Estimated": estimated}

    def _forecast(self, asked: Mapping[str, Any], account: str) -> Answer:
        """The mean of a day so far, for each day that is left; a percent of it to either side for each percent above 50."""
        start, end = (date.fromisoformat(asked["TimePeriod"][name]) for name in ("Start", "End"))
        if start < self.today or not start < end or asked["Granularity"] != "MONTHLY":
            return _error("ValidationException", f"not valid: {asked}")
        if not self.has_history:
            return _error("DataUnavailableException", "Insufficient amount of historical data to generate forecast.")
        metric = FORECAST_METRICS[asked["Metric"]]
        before = [one for one in self.lines[account] if one.day < start]
        mean = exact_sum([one.amount(metric) for one in before]) / len({one.day for one in before}) * (end - start).days
        width = mean * (asked["PredictionIntervalLevel"] - 50) / 100
        result = {
            "TimePeriod": {"Start": start.isoformat(), "End": end.isoformat()},
            "MeanValue": str(mean),
            "PredictionIntervalLowerBound": str(mean - width),
            "PredictionIntervalUpperBound": str(mean + width),
        }
        return Answer({"Total": {"Amount": str(mean), "Unit": before[0].unit}, "ForecastResultsByTime": [result]})

    def _pass_on(self, request: Request) -> Answer:
        form = parse_qs(request.body.decode("utf-8", "replace")) if b"Action=AssumeRole" in request.body else {}
        if form and self.roles.get(form["RoleArn"][0], "") != form.get("ExternalId", [""])[0]:
            text = (
                f"<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole on resource: {form['RoleArn'][0]}</Message>"
            )
            return Answer(f"<ErrorResponse><Error>{text}</Error></ErrorResponse>".encode(), 403, {"Content-Type": "text/xml"})
        assert self.others, f"nothing answers {request.method} {request.path} {request.headers.get('x-amz-target')}"
        answer = pass_on(request, self.others)
        # Whose the keys of an assumed role are.
        granted = re.findall(rb"<AccessKeyId>(.+?)</AccessKeyId>.*?<Arn>arn:aws:sts::(\d+):assumed-role", answer.content, re.DOTALL)
        self._accounts |= {key.decode(): account.decode() for key, account in granted}
        return answer


def _error(code: str, message: str) -> Answer:
    return Answer({"__type": code, "message": message}, 400, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code})


def throttled(code: str = "LimitExceededException") -> Any:
    """The body of a throttled answer, for `fail(400, throttled())`."""
    return {"__type": code, "message": "Rate limit exceeded"}


def _group(one: Line, kind: str, key: str) -> str:
    return one.get(key) if kind == "DIMENSION" else f"{key}${one.get(f'{kind}:{key}')}"


def _matches(one: Line, where: Mapping[str, Any] | None) -> bool:
    if where is None:
        return True
    ((kind, inner),) = where.items()
    if kind == "Not":
        return not _matches(one, inner)
    if kind in ("And", "Or"):
        return (all if kind == "And" else any)(_matches(one, part) for part in inner)
    prefix = {"Dimensions": "", "Tags": "TAG:", "CostCategories": "COST_CATEGORY:"}[kind]
    return one.get(prefix + inner["Key"]) in inner["Values"]


def _metrics(lines: Iterable[Line], day: date, names: Iterable[str]) -> Any:
    return _sums([one for one in lines if one.day == day], names)


def _sums(lines: list[Line], names: Iterable[str]) -> Any:
    unit = lines[0].unit if lines else "USD"
    return {name: {"Amount": str(exact_sum([one.amount(name) for one in lines])), "Unit": unit} for name in names}


def settings(server: StandIn, **more: Any) -> AwsSettings:
    """A source that reads `server`; without a forecast and budgets unless they are asked for."""
    access = {"endpoint_url": server.url} | more.pop("access", {})
    return AwsSettings.model_validate({"type": "aws", "forecast": False, "budgets": False, "access": access} | more)
