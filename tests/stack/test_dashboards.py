"""Every query of every dashboard, as Grafana sends it, to a real Prometheus that scrapes a real costwarden with something of everything.

Figures are held against the bills that were written and the calls that were made, not against what costwarden says of them.
"""

import math
import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from dashboard_queries import DASHBOARDS, queries, substituted, variables
from expected_figures import BETWEEN, BY_BUDGET, CUSTOMERS, EXACT, one, tokens
from filled_stack import filled_stack
from picture_faults import dashboards, faults, no_data, write_page
from processes import NotInTime, wait_for

pytestmark = pytest.mark.stack

SECONDS = 60.0
"""CloudWatch is sent to every 10 seconds."""

CHOICES = ({}, {"tenant_id": "acme", "provider": "aws"}, {"tenant_id": ["acme", "globex"], "provider": ["aws", "kubernetes"]})
"""What a person chooses in the variables: nothing, which is All, one, or two."""

NEEDS_HISTORY = "a difference between two moments that lie an hour or a day apart; Prometheus has begun just now"
EMPTY_BY_NATURE = {
    "finops-ai-budget: Burn of an hour A": NEEDS_HISTORY,
    "finops-ai-budget: Burn of an hour B": NEEDS_HISTORY,
    "finops-ai-budget: Burn of a day A": NEEDS_HISTORY,
    "finops-ai-budget: Burn of a day B": NEEDS_HISTORY,
    "finops-cloud-cost: Burn of a day A": NEEDS_HISTORY,
    "finops-cloud-cost: Burn of a day B": NEEDS_HISTORY,
    "finops-pipeline: Firing: Severity A": "nothing is wrong with the pipeline",
    "finops-pipeline: Firing: Since B": "nothing is wrong with the pipeline",
}
"""Queries that may give nothing here, and why."""
EMPTY_OF_ONE = {
    "finops-ai-budget: Thresholds reached A": "acme has reached no threshold",
    "finops-ai-budget: At risk: Forecast C": "acme's budget is of a month, which has no forecast in its first tenth",
}
"""The same where one tenant and one cloud are chosen."""


def instant(filled, expression):
    """Label set and value of each series, as of `filled.at`. Raises `ValueError` where Prometheus refuses the query."""
    asked = {"query": expression, "time": filled.at.timestamp()}
    answer = filled.stack.http.get(f"{filled.prometheus}/api/v1/query", params=asked).json()
    if answer["status"] != "success":
        raise ValueError(f"{expression}: {answer['error']}")
    return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]


def has_lines(filled, expression):
    """Whether the same query over time, as a graph asks it, has an answer."""
    now = filled.at.timestamp()
    asked = {"query": expression, "start": now - 20, "end": now, "step": 1}
    answer = filled.stack.http.get(f"{filled.prometheus}/api/v1/query_range", params=asked).json()
    return answer["status"] == "success" and any(line["values"] for line in answer["data"]["result"])


def shown(query, samples):
    """What a panel shows: name (its legend, or its columns of labels with / between them) -> value."""
    if query.column:
        (organize,) = (found for found in query.panel["transformations"] if found["id"] == "organize")
        columns = [name for name in organize["options"]["indexByName"] if not name.startswith("Value")]
        columns.sort(key=organize["options"]["indexByName"].get)
        return {"/".join(labels[name] for name in columns if name in labels): value for labels, value in samples}
    if query.panel["type"] == "barchart":
        return {labels[query.panel["options"]["xField"]]: value for labels, value in samples}
    return {named(query.target["legendFormat"], labels): value for labels, value in samples}


def named(text, labels):
    """`text` with the values of labels put in."""
    return re.sub(r" +", " ", re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), text)).strip()


def differs(found, expected):
    """A sentence for each name that is missing, unexpected or has another value than to six digits."""
    faults = [f"{name or 'the number'} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name or 'a number'} is not expected: {found[name]}" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        allowed = expected[name] if isinstance(expected[name], tuple) else (expected[name],)
        if not any(math.isclose(found[name], float(figure), rel_tol=1e-6, abs_tol=1e-9) for figure in allowed):
            faults.append(f"{name or 'the number'} is {found[name]}, not {' or '.join(str(float(figure)) for figure in allowed)}")
    return faults


def faults_of(filled, query, chosen):
    """What is wrong with what a panel shows: sentences."""
    expression = substituted(query.uid, query.target["expr"], chosen)
    empty = EMPTY_BY_NATURE | (EMPTY_OF_ONE if chosen else {})
    samples = instant(filled, expression)
    if not samples:
        return [] if query.title in empty else ["is empty"]
    # Over time `topk` may have more lines than at any moment: figures are those of now.
    if query.target["range"] and not has_lines(filled, expression):
        return ["has no lines"]
    found = shown(query, samples)
    if len(found) < len(samples):
        return [f"shows {len(samples)} series under {len(found)} names"]
    if any(not math.isfinite(value) for value in found.values()):
        return [f"has no number: {found}"]
    if chosen:
        return []
    if query.title in EXACT:
        return differs(found, EXACT[query.title](filled))
    if query.title in BY_BUDGET:
        return differs({name.split("/")[0]: value for name, value in found.items()}, BY_BUDGET[query.title](filled))
    if query.title in BETWEEN:
        low, high = BETWEEN[query.title]
        return [f"{name or 'the number'} is {value}" for name, value in found.items() if not low <= value <= high]
    return []


def await_series(filled):
    """Wait for whatever a dashboard reads, but for what is empty by nature. What is not there in time is told of as a fault."""
    missing = [query for query in queries() if query.title not in EMPTY_BY_NATURE]

    def all_are_there():
        missing[:] = [query for query in missing if not filled.stack.query(substituted(query.uid, query.target["expr"]))]
        return not missing

    with suppress(NotInTime):
        wait_for("all series", all_are_there, SECONDS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, tools):
    """The filled stack: started once for all that only looks at it."""
    with filled_stack(tmp_path_factory.mktemp("filled")) as started:
        yield started


def faults_of_all(filled):
    """What is wrong as of now, all of it of one moment: sentences."""
    filled.at = datetime.now(UTC)
    faults = []
    for query in queries():
        for chosen in CHOICES:
            expression = substituted(query.uid, query.target["expr"], chosen)
            if not chosen or expression != substituted(query.uid, query.target["expr"]):
                faults += [f"{query.title} ({chosen or 'all'}): {fault}" for fault in faults_of(filled, query, chosen)]
    faults += [f"{uid}: {fault}" for uid in DASHBOARDS for fault in faults_of_variables(filled, uid)]
    faults += [f"{uid}: {fault}" for uid in DASHBOARDS for fault in faults_of_annotations(filled, uid)]
    faults += faults_of_documents(filled)
    return faults


@pytest.mark.timeout(600)
def test_every_panel_shows_what_the_bills_and_the_calls_say(filled):
    titles = {query.title for query in queries()}
    assert EXACT.keys() | BY_BUDGET.keys() | BETWEEN.keys() | EMPTY_BY_NATURE.keys() | EMPTY_OF_ONE.keys() <= titles
    await_series(filled)
    faults = []

    def are_right():
        # A scrape that took too long has no figures, and a page has them some seconds after an hour has turned.
        faults[:] = faults_of_all(filled)
        return not faults

    with suppress(NotInTime):
        wait_for("all figures", are_right, SECONDS)
    assert not faults, "\n".join(faults)


VALUES = {
    # stark has a budget, and has called nothing.
    "tenant_id": {"acme", "globex", "hooli", "initech", "stark"},
    "provider": {"aws", "gcp", "azure", "kubernetes", "openai"},
}


def faults_of_variables(filled, uid):
    """Whether `label_values(metric, label)` answers as Grafana asks it."""
    for variable in variables(uid):
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        answer = filled.stack.http.get(f"{filled.prometheus}/api/v1/label/{label}/values", params={"match[]": metric}).json()
        if set(answer["data"]) != VALUES[label]:
            yield f"variable {label} offers {answer['data']}"


def faults_of_annotations(filled, uid):
    """Whether alerts that fire, and runs that have ended, are told of, each by a title of its own."""
    wanted = {
        "Alerts": {"AIBudgetExceeded (critical)"},
        "Remediation runs": {"stop-ci-ec2: refused", "suspend-ai-tenant: succeeded"},
    }
    for annotation in DASHBOARDS[uid]["annotations"]["list"]:
        samples = instant(filled, substituted(uid, annotation["expr"]))
        titles = {named(annotation["titleFormat"], labels) for labels, _ in samples}
        if missing := wanted[annotation["name"]] - titles:
            yield f"annotation {annotation['name']} does not tell of {missing}, but of {titles}"


# --- the queries of the documents, verbatim ------------------------------------------------------------------------------------

DOCUMENTS = {
    # Document 2, AI budget metrics. Since the begin of Prometheus: what `increase` sees of it is less.
    "sum(increase(ai_token_usage_cost_usd[30d]))": None,
    "count(ai_budget_hard_limit_reached == 1)": one(lambda _: 1),
    'avg(ai_token_usage_cost_usd{report_type!=""}) by (report_type)': lambda _: {"quarterly": 0.738, "summary": 0.0198},
    # Document 2, cloud cost metrics.
    'sum(aws_cost_monthly_usd{month="current"})': one(lambda filled: filled.billed_this_month(provider="aws")),
    '(sum(aws_cost_monthly_usd{month="current"}) / sum(aws_budget_monthly_limit_usd)) * 100': one(
        lambda filled: filled.billed_this_month(provider="aws") / 10_000 * 100
    ),
    # Requests for nobody in particular, as those for this page, are not counted.
    'sum(aws_cost_monthly_usd{month="current"}) / count(count by (tenant_id) (http_requests_total))': one(
        lambda filled: filled.billed_this_month(provider="aws") / CUSTOMERS
    ),
    "aws_cost_daily_usd": None,
    "aws_cost_forecast_usd": None,
    "aws_budget_monthly_limit_usd": lambda _: {"": 10_000},
    # Document 3.
    "finops_total_cost_usd": one(lambda filled: filled.ai_cost_ever()),
    "sum(finops_cost_by_provider_usd)": one(lambda filled: filled.ai_cost_ever()),
    'max(finops_budget_percentage_used{budget="hooli-trial"})': one(lambda _: 100),
    'finops_budget_alerts_active{severity="critical"}': None,
    "sum(finops_tokens_total)": one(lambda _: sum(tokens("input").values()) + sum(tokens("output").values())),
}
"""Queries of the FinOps documents as they stand there -> what they answer; None: something, of which no sum of ours can be told."""


def faults_of_documents(filled):
    """Whether each of them answers, and right."""
    for expression, figures in DOCUMENTS.items():
        samples = instant(filled, expression)
        if not samples:
            yield f"{expression} is empty"
        elif figures is not None:
            found = {labels.get("report_type", ""): value for labels, value in samples}
            yield from (f"{expression}: {fault}" for fault in differs(found, figures(filled)))


# --- pictures ------------------------------------------------------------------------------------------------------------------

MAY_BE_EMPTY = {
    ("finops-pipeline", "Firing"): "nothing of the pipeline fails on the filled stack",
    ("finops-pipeline", "Notifications"): "the filled stack has no receivers",
}


@pytest.mark.timeout(600)
def test_no_panel_of_a_dashboard_is_blank_or_overlaps_on_a_real_prometheus(filled, tmp_path):
    shown = dashboards()
    assert {uid for uid, _ in MAY_BE_EMPTY} <= shown.keys()
    wait_for("figures in all panels", lambda: no_data(filled.prometheus, shown) <= MAY_BE_EMPTY.keys(), 3 * SECONDS)
    found = {}

    def are_right():
        # Drawn after a scrape that took too long, a panel has nothing to show: each is drawn until it is right once.
        for uid, dashboard in shown.items():
            if found.get(uid) == []:
                continue
            drawn = write_page(dashboard, tmp_path, filled.prometheus, start="now-5m")
            found[uid] = faults(drawn, dashboard, {title for of, title in MAY_BE_EMPTY if of == uid})
        return not any(found.values())

    with suppress(NotInTime):
        wait_for("pictures without a fault", are_right, 3 * SECONDS)
    assert found == {uid: [] for uid in shown}
