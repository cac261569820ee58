"""What the API answers moves the counters on the metrics page."""

from costwarden.metrics import counts

CHECKS = "ai_budget_checks_total"


def moved(server, before):
    return {name: value - before.get(name, 0) for name, value in server.series().items() if value != before.get(name, 0)}


def test_every_outcome_of_a_check_is_shown_before_it_first_happens(server):
    shown = {name: value for name, value in server.series().items() if name.startswith(CHECKS)}
    assert set(shown.values()) == {0}
    assert f'{CHECKS}{{outcome="allowed"}}' in shown
    assert len(shown) == 9


def test_checks_are_counted_by_outcome_and_reason(server):
    before = server.series()
    server.check(1)
    server.set(1)
    server.check(300_000)
    server.check(300_000, event_id="e1")
    server.check(300_000, event_id="e1", model="mini")
    server.check(900_000)
    server.check(900_000)
    server.check(1, model="no-such-model")
    server.post("/api/ai-budget/tenant/acme/suspend", {"reason": "runaway"})
    server.check(1)
    changes = {name: value for name, value in moved(server, before).items() if name.startswith("ai_budget_checks_total")}
    assert changes == {
        'ai_budget_checks_total{outcome="allowed"}': 2,
        'ai_budget_checks_total{outcome="denied",reason="no_budget"}': 1,
        'ai_budget_checks_total{outcome="denied",reason="event_id_conflict"}': 1,
        'ai_budget_checks_total{outcome="denied",reason="budget_exceeded"}': 2,
        'ai_budget_checks_total{outcome="denied",reason="unknown_price"}': 1,
        'ai_budget_checks_total{outcome="denied",reason="tenant_suspended"}': 1,
    }
    assert server.series()['ai_budget_denied_checks_total{budget="tenant_id=acme/month",period="month"}'] == 2


def test_budgets_move_on_the_page(server):
    server.set(2, model="plain")
    reservation = server.check(500_000).json()["reservation_id"]
    labels = 'budget="tenant_id=acme,model=plain/month",period="month",tenant_id="acme",model="plain"'

    def shown(*names):
        series = server.series()
        return [series[f"ai_budget_{name}{{{labels}}}"] for name in names]

    assert shown("limit_usd", "spent_usd", "reserved_usd", "hard_limit_reached") == [2, 0, 0.5, 0]
    server.track(1_600_000, reservation_id=reservation)
    assert shown("spent_usd", "reserved_usd", "soft_limit_reached", "hard_limit_reached") == [1.6, 0, 1, 0]
    server.track(400_000)
    assert shown("spent_usd", "soft_limit_reached", "hard_limit_reached") == [2, 1, 1]


def test_refusals_by_a_budget_are_no_rejected_requests(server):
    server.check(1)
    assert [name for name in server.series() if name.startswith("costwarden_http_rejected_requests_total")] == []


def test_the_page_comes_in_what_the_scraper_asks_for(server):
    server.page.render()
    text = server.get("/metrics", headers={"accept-encoding": "identity"})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert text.content.startswith(b"# HELP")
    openmetrics = server.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.content.endswith(b"# EOF\n")
    assert server.get("/metrics", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_requests_are_counted_by_tenant_and_status(server, problem_of):
    server.set(1)
    server.check(1)
    server.check(1, tenant_id="globex", model="no-such-model")
    server.check(900_000_000)
    server.get("/healthz")
    problem_of(server.post("/api/ai-budget/check", {"tenant": "acme"}), 422, "invalid_request")
    series = {name: value for name, value in server.series().items() if name.startswith("http_requests_total") and value}
    assert series['http_requests_total{tenant_id="acme",code="200"}'] == 2  # set, check
    assert series['http_requests_total{tenant_id="acme",code="429"}'] == 1
    assert series['http_requests_total{tenant_id="globex",code="422"}'] == 1
    assert len(series) == 3  # neither healthz nor a request that names no tenant is one for a tenant


def test_a_check_that_gets_no_answer_is_counted_as_failed(server, problem_of):
    server.ledger.close()
    problem_of(server.check(1), 503, "ledger_unavailable")
    collected = {family.name: dict(samples) for family, samples in server.counts.collector().collect()}
    assert collected["ai_budget_checks_total"]["failed", "ledger_unavailable"] == 1


def test_past_a_number_of_tenants_requests_are_counted_together(monkeypatch):
    monkeypatch.setattr(counts, "MOST_TENANT_SERIES", 2)
    counted = counts.Counts()
    for tenant in ("a", "b", "c", "d", "a"):
        counted.add_request(tenant, 200)
    (samples,) = [dict(samples) for family, samples in counted.collector().collect() if family.name == "http_requests_total"]
    assert {labels: value for labels, value in samples.items() if value} == {("a", "200"): 2, ("b", "200"): 1, ("other", "200"): 2}
