"""What each query of each dashboard is to show on the filled stack, computed from the bills that were written and the calls that were made.

`EXACT` to six digits, `BETWEEN` two bounds, `BY_BUDGET` to six digits by the name of the budget: the title of a query -> its figures.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from filled_stack import (
    BUCKET_BYTES,
    BUDGETS,
    CALLS,
    CLOUD_BUDGETS,
    CLUSTER,
    CLUSTER_DAYS,
    GUARDRAILS,
    OPENAI_BILL,
    OPENAI_METERED,
    PROVIDER_BUDGET,
    PROVIDER_BUDGET_FORECAST,
    PROVIDER_BUDGET_SPENT,
    calls_cost,
)

from costwarden import __version__
from costwarden.analytics.forecast import month_end

CUSTOMERS = 5
"""acme, globex, hooli, initech and stark."""
DAY = timedelta(days=1)


def by(filled, *fields, first, end, **where):
    """Sum of the charges of a span of days by `fields`, with a space between them as in a legend."""
    sums = defaultdict(Decimal)
    for charge in filled.charges:
        if first <= charge.day < end and all(getattr(charge, key) == value for key, value in where.items()):
            sums[" ".join(getattr(charge, field) for field in fields).strip()] += charge.cost
    return sums


def this_month(filled, *fields, **where):
    return by(filled, *fields, first=filled.month, end=filled.today + DAY, **where)


def cluster_this_month(filled):
    return CLUSTER * filled.cluster_days(filled.month, filled.today)


def regions(filled):
    found = this_month(filled, "region")
    # What the cluster costs stands in the bill of AWS.
    nowhere = found.pop("")
    return {**found, "(no region)": nowhere}


def months(filled):
    """The bars of months: what a cluster costs stands in the bill of its cloud."""
    sums = defaultdict(Decimal)
    for charge in filled.charges:
        month = charge.day.replace(day=1)
        name = {filled.month: "this month", filled.previous_month: "last month"}.get(month, f"{month:%Y-%m}")
        sums[name] += charge.cost
    return sums


def charges_of(filled, budget):
    """The charges in the scope of a cloud budget."""
    scope = dict(budget["scope"])
    provider = scope.pop("provider")
    return [found for found in filled.charges if found.provider == provider and scope.items() <= found.tags.items()]


def spent_of(filled, budget):
    """What is spent of a cloud budget this month."""
    return sum((charge.cost for charge in charges_of(filled, budget) if charge.day >= filled.month), Decimal(0))


def cloud_used(filled):
    return {budget["name"]: spent_of(filled, budget) / budget["monthly_limit_usd"] for budget in CLOUD_BUDGETS}


def ai_spent(filled):
    """What is spent and unsettled of AI budgets in their period, those aside whose period may turn while the test runs."""
    tenants = {f"{tenant}": filled.ai_cost_this_month(tenant_id=tenant) for tenant in ("acme", "globex", "hooli", "initech")}
    reports = sum((call.count * call.cost for call in CALLS if call.names.get("feature") == "reports"), Decimal(0))
    support = sum((call.count * call.cost for call in CALLS if call.names.get("team") == "support"), Decimal(0))
    # 10,000 tokens at $2.50 a million that nobody told about.
    unsettled = Decimal("0.025")
    return {
        "acme-month": tenants["acme"],
        "globex-chat": tenants["globex"],
        "hooli-trial": tenants["hooli"],
        "initech-month": tenants["initech"],
        "stark-pilot": unsettled,
        "reports-daily": reports,
        "support-weekly": support,
        "u-7-pilot": support,
        "everything": filled.ai_cost_this_month() + unsettled,
        "chatbot-hourly": sum((call.cost for when, call in filled.called if is_chatbots(call) and when.hour == filled.at.hour), Decimal(0)),
    }


def is_chatbots(call):
    return call.names.get("service") == "chatbot"


def ai_used(filled):
    limits = {budget["name"]: Decimal(str(budget["limit_usd"])) for budget in BUDGETS}
    return {name: spent / limits[name] for name, spent in ai_spent(filled).items()}


def with_pace(figures):
    """Without the budget whose period, all time, has no end that it could be spent before."""
    return {name: figure for name, figure in figures.items() if name != "u-7-pilot"}


def forecast(filled, **where):
    """The forecast of a provider's bill by its days: the formula on the bills that were written."""
    days = {datetime.fromisoformat(day).date(): float(cost) for day, cost in _daily(filled, **where).items()}
    return month_end(days, filled.today - DAY, filled.today)


def _daily(filled, **where):
    sums = defaultdict(Decimal)
    for charge in filled.charges:
        if all(getattr(charge, key) == value for key, value in where.items()):
            sums[charge.day.isoformat()] += charge.cost
    return sums


def all_forecasts(filled):
    found = [forecast(filled, provider=provider) for provider in ("aws", "gcp", "azure", "openai")]
    return sum(found[1:], found[0])


def services(filled):
    """(Observed yesterday, expected: the median of the same weekday of the eight weeks before) by service."""
    found = {}
    yesterday = filled.today - DAY
    for charge in filled.charges:
        key = (charge.provider, charge.service)
        if charge.day == yesterday and key not in found:
            daily = _daily(filled, provider=key[0], service=key[1])
            before = [float(daily.get((yesterday - timedelta(weeks=week)).isoformat(), 0)) for week in range(1, 9)]
            found["/".join(key)] = (float(daily[yesterday.isoformat()]), median(before))
    return found


def window(filled, days):
    """AI cost by tenant of the last `days` days. Usage of acme before today is a cent at half past each hour."""
    since = filled.at - timedelta(days=days)
    tenants = {call.tenant_id: calls_cost(tenant_id=call.tenant_id) for call in CALLS}
    tenants["acme"] += sum((cost for when, cost in filled.usage_before_today() if when >= since), Decimal(0))
    return tenants


def tokens(kind):
    """Tokens of a kind by model, the seeded ones of gpt-4o included."""
    sums = defaultdict(int)
    for call in CALLS:
        count = {"input": call.input_tokens, "output": call.output_tokens, "cache_read": call.cached}[kind]
        sums[f"{call.provider} {call.model}"] += call.count * count
    sums["openai gpt-4o"] += 24 * 35 * {"input": 2_000, "output": 500, "cache_read": 1_000}[kind]
    return sums


def model_costs(filled):
    return {f"{call.provider} {call.model}": filled.ai_cost_ever(provider=call.provider, model=call.model) for call in CALLS}


def per_million(filled):
    costs = model_costs(filled)
    return {model: 1_000_000 * cost / (tokens("input")[model] + tokens("output")[model]) for model, cost in costs.items()}


def cached():
    return {model: Decimal(count) / tokens("input")[model] for model, count in tokens("cache_read").items() if count}


def over_budget(filled, limit):
    return sum(used > limit for used in (*cloud_used(filled).values(), *ai_used(filled).values()))


def growth(filled):
    return filled.billed_this_month() / filled.billed_month_before() - 1


def budget_sum(filled):
    return sum(budget["monthly_limit_usd"] for budget in CLOUD_BUDGETS if list(budget["scope"]) == ["provider"])


def budgeted(filled):
    return sum(filled.billed_this_month(provider=name) for name in ("aws", "gcp", "azure"))


def of_days(filled, number):
    """Cost by provider of the day that lies `number` days back, the cluster's own included."""
    day = filled.today - number * DAY
    return {**by(filled, "provider", first=day, end=day + DAY), "kubernetes": CLUSTER}


def bounds(filled):
    found = all_forecasts(filled)
    return {"lower bound": found.lower, "upper bound": found.upper, "forecast": found.cost}


def ai_forecast(filled, bound):
    """The ledger is asked once an hour: today's calls count from the next one on."""
    days = defaultdict(float)
    for when, cost in filled.usage_before_today():
        days[when.date()] += float(cost)
    without = getattr(month_end(days, filled.today - DAY, filled.today), bound)
    days[filled.today] += float(calls_cost())
    return without, getattr(month_end(days, filled.today - DAY, filled.today), bound)


def settled(filled):
    """What is spent of AI budgets; unsettled dollars are told apart."""
    return {**ai_spent(filled), "stark-pilot": Decimal(0), "everything": filled.ai_cost_this_month()}


def forecast_of_budget(filled, budget):
    days = defaultdict(float)
    for charge in charges_of(filled, budget):
        days[charge.day] += float(charge.cost)
    return month_end(days, filled.today - DAY, filled.today).cost


def cloud_forecasts(filled):
    return {budget["name"]: forecast_of_budget(filled, budget) for budget in CLOUD_BUDGETS}


def growth_so_far(filled):
    before = by(filled, "provider", first=filled.previous_month, end=filled.month)
    before["kubernetes"] = CLUSTER * filled.cluster_days(filled.previous_month, filled.month)
    current = {**this_month(filled, "provider"), "kubernetes": cluster_this_month(filled)}
    return {name: current[name] / cost - 1 for name, cost in before.items() if cost and name in current}


def forecast_growth(filled):
    before = by(filled, "provider", first=filled.previous_month, end=filled.month)
    found = {name: forecast(filled, provider=name).cost / float(cost) - 1 for name, cost in before.items()}
    if cluster := float(CLUSTER * filled.cluster_days(filled.previous_month, filled.month)):
        days = {filled.today - number * DAY: float(CLUSTER) for number in range(1, CLUSTER_DAYS + 1)}
        found["kubernetes"] = month_end(days, filled.today - DAY, filled.today).cost / cluster - 1
    return found


def provider_forecasts(filled):
    """The forecast of each provider's bill, the cluster's among them."""
    days = {filled.today - number * DAY: float(CLUSTER) for number in range(1, CLUSTER_DAYS + 1)}
    cluster = month_end(days, filled.today - DAY, filled.today).cost
    return {name: forecast(filled, provider=name).cost for name in ("aws", "gcp", "azure", "openai")} | {"kubernetes": cluster}


def month_before(filled):
    """Of each provider, the cluster among them where it ran then."""
    before = dict(by(filled, "provider", first=filled.previous_month, end=filled.month))
    days = filled.cluster_days(filled.previous_month, filled.month)
    return before | ({"kubernetes": CLUSTER * days} if days else {})


def forecast_over(filled):
    """The forecast of all bills against the month before."""
    return all_forecasts(filled).cost / float(filled.billed_month_before()) - 1


def weekdays(filled):
    """The median of yesterday's weekday in the four weeks before, by provider; of the cluster too little is known."""
    yesterday = filled.today - DAY
    daily = {provider: _daily(filled, provider=provider) for provider in ("aws", "gcp", "azure", "openai")}
    days = [(yesterday - timedelta(weeks=week)).isoformat() for week in range(1, 5)]
    return {f"{provider}, usual": median(float(found.get(day, 0)) for day in days) for provider, found in daily.items()}


def deviations(filled):
    """1.4826 times the median absolute deviation of that weekday in eight weeks, at least as far as the second dearest, by service."""
    found = {}
    yesterday = filled.today - DAY
    for name in services(filled):
        provider, service = name.split("/")
        daily = _daily(filled, provider=provider, service=service)
        before = [float(daily.get((yesterday - timedelta(weeks=week)).isoformat(), 0)) for week in range(1, 9)]
        spread = 1.4826 * median(abs(cost - median(before)) for cost in before)
        found[name] = max(spread, (sorted(before)[6] - median(before)) / 1.2816)
    return found


def beyond(filled):
    """The five services that are furthest above the limit of four deviations."""
    strays = deviations(filled)
    excess = {name.replace("/", " "): observed - usual - 4 * strays[name] for name, (observed, usual) in services(filled).items()}
    return dict(sorted(excess.items(), key=lambda found: found[1])[-5:])


def drivers(filled, *fields, number=10):
    """The services that cost most this month, as a table names them."""
    sums = defaultdict(Decimal)
    for charge in filled.charges:
        if charge.day >= filled.month:
            sums["/".join(value for field in fields if (value := getattr(charge, field)))] += charge.cost
    for name, cost in _cluster_services(filled).items():
        sums[name.replace(" ", "/", 1)] += cost
    return dict(sorted(sums.items(), key=lambda found: found[1], reverse=True)[:number])


def months_before(filled):
    """Of the services that cost most this month."""
    sums = by(filled, "provider", "service", first=filled.previous_month, end=filled.month)
    shares = CLUSTER * filled.cluster_days(filled.previous_month, filled.month)
    cluster = {"kubernetes/deployment/web": shares * 3 / 4, "kubernetes/deployment/etl": shares / 4} if shares else {}
    found = {name.replace(" ", "/", 1): cost for name, cost in sums.items()} | cluster
    return {name: cost for name, cost in found.items() if name in drivers(filled, "provider", "service")}


def of_model(filled):
    """The last 30 days by model."""
    costs = {f"{call.provider} {call.model}": calls_cost(provider=call.provider, model=call.model) for call in CALLS}
    costs["openai gpt-4o"] += window(filled, 30)["acme"] - calls_cost(tenant_id="acme")
    return {model: cost for model, cost in costs.items() if cost}


def of_feature(filled):
    sums = defaultdict(Decimal)
    for call in CALLS:
        sums[call.names["feature"]] += call.count * call.cost
    sums["drafts"] += filled.ai_cost_ever() - calls_cost()
    return sums


def last_hour(filled):
    """AI cost by tenant of the last hour; what was used before today is at most one call of it."""
    return window(filled, 1 / 24)


def guarded(filled):
    in_hour = sum(last_hour(filled).values())
    return {"hourly/warning": in_hour, "daily/high": calls_cost(), "runaway/emergency": in_hour}


def owned(filled):
    """Usage of this month with a team, and without one: the credits, the taxes and the cluster's share aside."""
    usage = [charge for charge in filled.charges if charge.day >= filled.month and charge.service not in ("Credit", "Tax")]
    with_team = sum((charge.cost for charge in usage if charge.tags.get("team")), Decimal(0))
    return with_team, sum((charge.cost for charge in usage), Decimal(0)) - with_team


def explained(filled):
    """The cluster's cost of seven days as a share of the bill of AWS of these days."""
    return 7 * CLUSTER / filled.billed(filled.today - 7 * DAY, filled.today, provider="aws")


def one(figure):
    """A panel of one number, whose series has no name."""
    return lambda filled: {"": figure(filled)}


EXACT = {
    # Cloud.
    "finops-cloud-cost: Month to date A": one(lambda filled: filled.billed_this_month()),
    "finops-cloud-cost: Budget A": one(budget_sum),
    "finops-cloud-cost: Budget used A": one(lambda filled: budgeted(filled) / budget_sum(filled)),
    "finops-cloud-cost: Forecast A": one(lambda filled: all_forecasts(filled).cost),
    "finops-cloud-cost: Month over month B": lambda filled: {"so far": growth(filled)},
    "finops-cloud-cost: Cost per customer A": one(lambda filled: filled.billed_this_month() / CUSTOMERS),
    "finops-cloud-cost: Month to date against the budget A": lambda filled: {
        **this_month(filled, "provider"),
        "kubernetes": cluster_this_month(filled),
    },
    "finops-cloud-cost: Month to date against the budget B": lambda _: {"aws budget": 10_000, "gcp budget": 2_500, "azure budget": 1_400},
    "finops-cloud-cost: Forecast of the month C": lambda filled: {"lower bound": bounds(filled)["lower bound"]},
    "finops-cloud-cost: Forecast of the month D": lambda filled: {"upper bound": bounds(filled)["upper bound"]},
    "finops-cloud-cost: Forecast of the month E": lambda filled: {"budget": budget_sum(filled)},
    "finops-cloud-cost: Cost by region, this month A": regions,
    "finops-cloud-cost: Cost by service, this month A": lambda filled: dict(
        sorted(
            {**this_month(filled, "provider", "service"), **_cluster_services(filled)}.items(), key=lambda found: found[1], reverse=True
        )[:10]
    ),
    "finops-cloud-cost: Budgets kept at providers: Limit A": lambda _: {"aws/123456789012/payer/month": PROVIDER_BUDGET},
    "finops-cloud-cost: Budgets kept at providers: Spent B": lambda _: {"aws/123456789012/payer/month": PROVIDER_BUDGET_SPENT},
    "finops-cloud-cost: Budgets kept at providers: Forecast C": lambda _: {"aws/123456789012/payer/month": PROVIDER_BUDGET_FORECAST},
    "finops-cloud-cost: Buckets A": lambda _: {"archive": BUCKET_BYTES},
    "finops-cloud-cost: Cost of a day A": lambda filled: of_days(filled, 1),
    "finops-cloud-cost: Day over day A": lambda filled: {
        name: cost / of_days(filled, 2)[name] - 1 for name, cost in of_days(filled, 1).items()
    },
    "finops-cloud-cost: Day over day B": lambda _: {"limit": 0.2},
    "finops-cloud-cost: Months A": months,
    "finops-cloud-cost: Expected and observed: Excess A": lambda filled: {
        name: observed - expected for name, (observed, expected) in services(filled).items()
    },
    # Of the cluster too little is known: nothing is expected of it.
    "finops-cloud-cost: Expected and observed: Observed B": lambda filled: {name: found[0] for name, found in services(filled).items()},
    "finops-cloud-cost: Expected and observed: Expected C": lambda filled: {name: found[1] for name, found in services(filled).items()},
    # The row of each of two bills of AWS that nobody can read.
    "finops-cloud-cost: Rejected rows A": lambda _: {"aws bad_cost": 2},
    # AI.
    "finops-ai-budget: Month to date A": one(lambda filled: filled.ai_cost_this_month()),
    "finops-ai-budget: Of the limit A": one(lambda filled: filled.ai_cost_this_month() / 10_000),
    # hooli's.
    "finops-ai-budget: Budgets used up A": one(lambda _: 1),
    # hooli's and globex's.
    "finops-ai-budget: Budgets at risk A": one(lambda _: 2),
    "finops-ai-budget: Emergency stop A": one(lambda _: 0),
    "finops-ai-budget: Forecast of the month B": lambda filled: {"forecast": ai_forecast(filled, "cost")},
    "finops-ai-budget: Forecast of the month C": lambda filled: {"lower bound": ai_forecast(filled, "lower")},
    "finops-ai-budget: Forecast of the month D": lambda filled: {"upper bound": ai_forecast(filled, "upper")},
    "finops-ai-budget: Forecast of the month E": lambda _: {"limit": 10_000},
    "finops-ai-budget: Spend by tenant, 30 days A": lambda filled: window(filled, 30),
    "finops-ai-budget: Cost of a million tokens, all time A": per_million,
    # 30 × $0.0246 / 30, and 20 × $0.00099 / 20.
    "finops-ai-budget: Cost of a report, all time A": lambda _: {"quarterly": 0.0246, "summary": 0.00099},
    "finops-ai-budget: Cached input, all time A": lambda _: cached(),
    # 0.60 of 0.60, 0.22 of 0.26, which is 85 %, and 0.025 of 0.05, which are unsettled.
    "finops-ai-budget: Thresholds reached A": lambda _: {"hooli-trial": 1, "globex-chat": 0.8, "stark-pilot": 0.5},
    "finops-ai-budget: Guardrails: Breached A": lambda _: {"hourly/warning": 1, "daily/high": 0, "runaway/emergency": 0},
    "finops-ai-budget: Guardrails: Threshold C": lambda _: {
        f"{found['name']}/{found['severity']}": found["threshold_usd"] for found in GUARDRAILS
    },
    "finops-ai-budget: Unsettled A": one(lambda _: 1),
    # 10,000 × $2.50 a million.
    "finops-ai-budget: Unsettled dollars A": one(lambda _: 0.025),
    "finops-ai-budget: Billed and metered: Captured A": lambda _: {"openai": OPENAI_METERED / OPENAI_BILL},
    "finops-ai-budget: Billed and metered: Billed B": lambda _: {"openai": 7 * OPENAI_BILL},
    "finops-ai-budget: Billed and metered: Metered C": lambda _: {"openai": 7 * OPENAI_METERED},
    "finops-ai-budget: Billed and metered: Corrected D": lambda _: {"openai": 0},
    "finops-ai-budget: Billed and metered: Residual E": lambda _: {"openai": 7 * (OPENAI_BILL - OPENAI_METERED)},
    "finops-ai-budget: Billed and metered: Days F": lambda _: {"openai": 7},
    # Overview.
    "finops-overview: Cloud, month to date A": one(lambda filled: filled.billed_this_month()),
    "finops-overview: Cloud, forecast A": one(lambda filled: all_forecasts(filled).cost),
    "finops-overview: AI, month to date A": one(lambda filled: filled.ai_cost_this_month()),
    "finops-overview: AI of the limit A": one(lambda filled: filled.ai_cost_this_month() / 10_000),
    "finops-overview: Budget adherence A": one(lambda filled: 1 - over_budget(filled, 1) / Decimal(len(CLOUD_BUDGETS) + len(BUDGETS))),
    "finops-overview: Budgets above 80 % A": one(lambda filled: over_budget(filled, Decimal("0.8"))),
    "finops-overview: Cost per customer A": one(lambda filled: filled.billed_this_month() / CUSTOMERS),
    "finops-overview: AI per customer A": one(lambda filled: filled.ai_cost_this_month() / CUSTOMERS),
    "finops-overview: Month over month B": lambda filled: {"so far": growth(filled)},
    "finops-overview: Months A": months,
    "finops-overview: AI cost, all time A": one(lambda filled: filled.ai_cost_ever()),
    "finops-overview: AI cost by provider, all time A": lambda filled: {
        call.provider: filled.ai_cost_ever(provider=call.provider) for call in CALLS
    },
    "finops-overview: Tokens by model, all time A": lambda _: {
        model: count + tokens("output")[model] for model, count in tokens("input").items()
    },
    "finops-overview: Cost of a million tokens, all time A": one(
        lambda filled: 1_000_000 * filled.ai_cost_ever() / (sum(tokens("input").values()) + sum(tokens("output").values()))
    ),
    "finops-overview: AI input from caches A": one(lambda _: Decimal(sum(tokens("cache_read").values())) / sum(tokens("input").values())),
    "finops-overview: AI bills metered A": one(lambda _: OPENAI_METERED / OPENAI_BILL),
    "finops-overview: Top AI consumers: 30 days A": lambda filled: window(filled, 30),
    "finops-overview: Top AI consumers: 7 days B": lambda filled: window(filled, 7),
    # Pipeline.
    "finops-pipeline: Reachable A": one(lambda _: 1),
    "finops-pipeline: Ledger A": one(lambda _: 1),
    "finops-pipeline: Figures current A": one(lambda _: 1),
    "finops-pipeline: Configuration A": one(lambda _: 1),
    "finops-pipeline: Other versions than $costwarden_version A": one(lambda _: 0),
    "finops-pipeline: Exporter A": lambda _: {__version__: 1},
    "finops-pipeline: Sources: Up A": lambda _: dict.fromkeys(("aws", "gcp", "azure", "member", "cluster", "openai"), 1),
    "finops-pipeline: Sources: Request limit I": lambda _: dict.fromkeys(("aws", "gcp", "azure", "member", "cluster", "openai"), 1),
    "finops-pipeline: Rejected rows A": lambda _: {"aws bad_cost": 2},
    "finops-pipeline: Reservations A": lambda _: {"open": 0, "unsettled": 1},
    "finops-pipeline: CloudWatch A": one(lambda _: 1),
    "finops-pipeline: Lost to CloudWatch, 7 days A": one(lambda _: 0),
    "finops-pipeline: Series above their limit A": one(lambda _: 0),
    "finops-pipeline: Notifications: Delivered A": lambda _: {"finance-chat": 1},
    "finops-pipeline: Notifications: Retried B": lambda _: {"finance-chat": 0},
    "finops-pipeline: Notifications: Failed C": lambda _: {"finance-chat": 0},
    "finops-pipeline: Notifications: Waiting D": lambda _: {"finance-chat": 0},
    # Remediation.
    "finops-remediation: Mode A": lambda _: {"enforce": 1},
    "finops-remediation: Kill switch A": one(lambda _: 0),
    "finops-remediation: Waits for approval A": one(lambda _: 1),
    "finops-remediation: Interrupted A": one(lambda _: 0),
    "finops-remediation: Runs failed, 7 days A": one(lambda _: 0),
    "finops-remediation: Refused, 7 days A": one(lambda _: 1),
    "finops-remediation: Runs by outcome A": lambda _: {"suspend-ai-tenant: succeeded": 1, "stop-ci-ec2: refused": 1},
    "finops-remediation: Refusals by reason A": lambda _: {"stop-ci-ec2 too_many_targets": 1},
    "finops-remediation: AI budgets with a playbook: Used A": lambda _: {"hooli-trial/month/hooli/suspend-ai-tenant": 1},
    "finops-remediation: AI budgets with a playbook: Limit B": lambda _: {"hooli-trial/month/hooli/suspend-ai-tenant": 0.6},
    "finops-remediation: Cloud budgets with a playbook: Used A": lambda filled: {
        "aws-dev/aws/stop-dev-ec2": cloud_used(filled)["aws-dev"],
        "azure-ci/azure/stop-ci-ec2": cloud_used(filled)["azure-ci"],
    },
    "finops-remediation: Cloud budgets with a playbook: Limit B": lambda _: {
        "aws-dev/aws/stop-dev-ec2": 10,
        "azure-ci/azure/stop-ci-ec2": 5,
    },
}
"""What queries show with everything chosen: name -> figure, or all that are right, of every series."""

EXACT |= {
    "finops-cloud-cost: Forecast of the month A": lambda filled: {"month to date": filled.billed_this_month()},
    "finops-cloud-cost: Forecast of the month B": lambda filled: {"forecast": bounds(filled)["forecast"]},
    "finops-cloud-cost: Growth so far A": growth_so_far,
    "finops-cloud-cost: Growth by cloud: Growth A": forecast_growth,
    "finops-cloud-cost: Growth by cloud: Forecast B": provider_forecasts,
    "finops-cloud-cost: Growth by cloud: Month before C": month_before,
    "finops-cloud-cost: Growth by cloud: Month to date D": lambda filled: {
        **this_month(filled, "provider"),
        "kubernetes": cluster_this_month(filled),
    },
    "finops-cloud-cost: Month over month A": lambda filled: {"by forecast": forecast_over(filled)},
    "finops-overview: Month over month A": lambda filled: {"by forecast": forecast_over(filled)},
    "finops-cloud-cost: Top 10 cost drivers, this month: Month to date A": lambda filled: drivers(filled, "provider", "region", "service"),
    "finops-cloud-cost: Cost of a day B": weekdays,
    "finops-cloud-cost: Expected and observed: Deviation D": deviations,
    "finops-cloud-cost: Services beyond what is expected A": beyond,
    # Seven days at $24.
    "finops-cloud-cost: Explained by clusters A": lambda _: {"cluster of aws": 7 * CLUSTER},
    "finops-ai-budget: Forecast of the month A": lambda filled: {"month to date": filled.ai_cost_this_month()},
    "finops-ai-budget: Spend of 24 hours A": lambda filled: window(filled, 1),
    "finops-ai-budget: Spend by model, 30 days A": of_model,
    "finops-ai-budget: Spend by feature, all time A": of_feature,
    "finops-ai-budget: Guardrails: Spent B": guarded,
    "finops-remediation: Guardrails: Spent B": guarded,
    "finops-ai-budget: Expected and observed: Observed B": lambda filled: {"acme": last_hour(filled)["acme"]},
    # A cent in each hour of five weeks.
    "finops-ai-budget: Expected and observed: Expected C": lambda _: {"acme": 0.01},
    "finops-ai-budget: Expected and observed: Deviation D": lambda _: {"acme": 0},
    "finops-ai-budget: Expected and observed: Excess A": lambda filled: {"acme": last_hour(filled)["acme"] - Decimal("0.01")},
    "finops-ai-budget: Hours beyond what is expected A": lambda filled: {"acme": last_hour(filled)["acme"] - Decimal("0.01")},
    "finops-overview: Forecast of the budget A": one(
        lambda filled: sum(forecast(filled, provider=name).cost for name in ("aws", "gcp", "azure")) / budget_sum(filled)
    ),
    "finops-overview: AI, forecast A": one(lambda filled: ai_forecast(filled, "cost")),
    "finops-overview: Month to date and forecast A": lambda filled: {"month to date": filled.billed_this_month()},
    "finops-overview: Month to date and forecast B": lambda filled: {"forecast": bounds(filled)["forecast"]},
    "finops-overview: Month to date and forecast C": lambda filled: {"lower bound": bounds(filled)["lower bound"]},
    "finops-overview: Month to date and forecast D": lambda filled: {"upper bound": bounds(filled)["upper bound"]},
    "finops-overview: Month to date and forecast E": lambda filled: {"budget": budget_sum(filled)},
    "finops-overview: Top cost drivers, this month: Month to date A": lambda filled: drivers(filled, "provider", "service"),
    "finops-overview: Top cost drivers, this month: Month before B": months_before,
    "finops-overview: AI cost by model, 30 days A": of_model,
    "finops-overview: Cost that has an owner A": one(lambda filled: owned(filled)[0] / sum(owned(filled))),
    "finops-overview: Cost without an owner A": one(lambda filled: owned(filled)[1]),
    "finops-overview: Clusters explained A": one(explained),
    "finops-pipeline: Sources: Rejected G": lambda _: {"aws": 2},
    "finops-pipeline: Sources: Stale after C": lambda _: (
        dict.fromkeys(("aws", "gcp", "azure"), 7_200) | dict.fromkeys(("member", "cluster", "openai"), 86_400)
    ),
    "finops-remediation: Queue A": lambda _: {"awaiting_approval": 1, "interrupted": 0, "queued": 0, "running": 0},
}

BETWEEN = {
    # Two, extrapolated to the begin and the end of the scrapes.
    "finops-ai-budget: Refused, 24 hours A": (1, 4),
    "finops-ai-budget: Refusals, 24 hours A": (1, 4),
    "finops-overview: AI calls refused, 30 days A": (1, 4),
    "finops-ai-budget: Requests without a price, 24 hours A": (1, 4),
    "finops-ai-budget: Budget status: Resets F": (1.7e12, 4e12),
    "finops-overview: AI budgets: Resets D": (1.7e12, 4e12),
    "finops-pipeline: Notifications: Last E": (1.7e12, 4e12),
    # Yesterday's, which began between one and two days ago.
    "finops-cloud-cost: Age of the newest day A": (86_400, 2 * 86_400),
    "finops-cloud-cost: Age of sources A": (0, 3_600),
    "finops-cloud-cost: Attributed cost, this month A": (0, 1),
    "finops-pipeline: Sources: Read ago B": (0, 3_600),
    # Data end at midnight, of bills that have today's charges already in a midnight to come.
    "finops-pipeline: Sources: Data end ago D": (0, 86_400),
    "finops-pipeline: Sources: Took E": (0, 60),
    # Five requests of Cost Explorer at the most, and one of CloudWatch.
    "finops-pipeline: Sources: Requests today H": (0, 0.1),
    "finops-pipeline: Cost of requests A": (0, 0.1),
    "finops-pipeline: Age of the page A": (0, 30),
    "finops-pipeline: Age of the prices A": (0, 1e8),
    "finops-pipeline: Parts of the page A": (1, 1),
    "finops-pipeline: OpenTelemetry A": (0, 0),
    "finops-pipeline: OpenTelemetry, not counted A": (0, 0),
    "finops-pipeline: Commits a second B": (0, 0),
    "finops-pipeline: Status cache B": (0, 0),
    "finops-pipeline: CloudWatch taken A": (0, 300),
    "finops-pipeline: Sent to CloudWatch A": (1, 1_000),
    "finops-pipeline: CloudWatch requests A": (1, 100),
    "finops-pipeline: CloudWatch cost A": (0.00001, 0.001),
    "finops-pipeline: Memory A": (1e7, 2e9),
    "finops-pipeline: CPU A": (0, 4),
    "finops-pipeline: Rendering A": (0, 10),
    "finops-overview: Alerts that fire A": (3, 100),
}
BETWEEN |= {f"finops-{name}: Firing: Severity A": (1, 3) for name in ("cloud-cost", "ai-budget", "overview", "remediation")}
BETWEEN |= {f"finops-{name}: Firing: Since B": (1.7e12, 4e12) for name in ("cloud-cost", "ai-budget", "overview", "remediation")}
"""Where the exact figure depends on the moment: all of a panel's figures lie between these two, inclusive."""

BY_BUDGET = {
    "finops-cloud-cost: Budget status: Used A": cloud_used,
    "finops-cloud-cost: Budget status: Spent C": lambda filled: {found["name"]: spent_of(filled, found) for found in CLOUD_BUDGETS},
    "finops-cloud-cost: Budget status: Limit B": lambda _: {found["name"]: found["monthly_limit_usd"] for found in CLOUD_BUDGETS},
    "finops-cloud-cost: Budget status: Forecast D": cloud_forecasts,
    "finops-cloud-cost: Budget status: Forecast used E": lambda filled: {
        found["name"]: cloud_forecasts(filled)[found["name"]] / found["monthly_limit_usd"] for found in CLOUD_BUDGETS
    },
    "finops-overview: Cloud budgets: Forecast D": cloud_forecasts,
    "finops-overview: Cloud budgets: Limit B": lambda _: {found["name"]: found["monthly_limit_usd"] for found in CLOUD_BUDGETS},
    "finops-overview: Cloud budgets: Spent C": lambda filled: {found["name"]: spent_of(filled, found) for found in CLOUD_BUDGETS},
    "finops-overview: Cloud budgets: Used A": cloud_used,
    "finops-overview: AI budgets: Spent C": settled,
    "finops-ai-budget: Budget status: Spent C": settled,
    "finops-ai-budget: Budget status: Unsettled E": lambda filled: {
        name: spent - settled(filled)[name] for name, spent in ai_spent(filled).items()
    },
    "finops-ai-budget: At risk: Used B": lambda filled: with_pace(ai_used(filled)),
    "finops-ai-budget: At risk: Limit D": lambda _: with_pace({found["name"]: found["limit_usd"] for found in BUDGETS}),
    "finops-ai-budget: At risk: Soft limit E": lambda _: with_pace(
        {found["name"]: float(found["name"] in ("hooli-trial", "globex-chat")) for found in BUDGETS}
    ),
    "finops-overview: AI budgets: Used A": ai_used,
    "finops-overview: AI budgets: Limit B": lambda _: {found["name"]: found["limit_usd"] for found in BUDGETS},
    "finops-ai-budget: Budget status: Used A": ai_used,
    "finops-ai-budget: Budget status: Limit B": lambda _: {found["name"]: found["limit_usd"] for found in BUDGETS},
    "finops-ai-budget: Budget status: Reserved D": lambda _: {found["name"]: 0 for found in BUDGETS},
    "finops-overview: Budgets used, per cent A": lambda filled: {
        name: 100 * used for name, used in (cloud_used(filled) | ai_used(filled)).items()
    },
}
"""Tables of budgets: the name of the budget -> figure; the table shows more labels."""


def _cluster_services(filled):
    share = cluster_this_month(filled)
    # Of the two workloads one takes three quarters; a workload is a service of the cluster's bill.
    return {name: share * part / 4 for name, part in (("kubernetes deployment/web", 3), ("kubernetes deployment/etl", 1))} if share else {}
