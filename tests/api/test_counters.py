"""What the API answers moves the counters on the metrics page."""

CHECKS = "ai_budget_checks_total"


def moved(server, before):
    return {name: value - before.get(name, 0) for name, value in server.series().items() if value != before.get(name, 0)}


def test_every_outcome_of_a_check_is_shown_before_it_first_happens(server):
    shown = {name: value for name, value in server.series().items() if name.startswith(CHECKS)}
    assert set(shown.values()) == {0}
    assert f'{CHECKS}{{outcome="allowed"}}' in shown
    assert len(shown) == 6


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
