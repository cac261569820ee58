"""A real server with sources that hang, answer garbage, refuse and work: none hurts another, and no restart pays twice."""

from datetime import timedelta

import pytest
from cost_explorer import CostExplorer, line
from costwarden_server import Costwarden
from openai_admin import KEY, OpenaiAdmin
from stand_in import Answer, StandIn

pytestmark = pytest.mark.stack

AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture
def start(tmp_path, free_port):
    """`start(source, …)`: a server with these entries of `sources`."""
    servers = []

    def run(*sources):
        server = Costwarden(tmp_path / "server", free_port(), environment=AWS, sources=list(sources))
        servers.append(server)
        (server.folder / "key").write_text(KEY, encoding="utf-8")
        server.start()
        return server

    yield run
    for server in servers:
        server.stop()


def series(server):
    """Series -> value, as the page has them."""
    text = server.http.get("/metrics").text
    return {name: float(value) for name, _, value in (row.rpartition(" ") for row in text.splitlines() if not row.startswith("#"))}


def of_openai(name, url, **more):
    return {"type": "openai", "name": name, "admin_key": {"file": "key"}, "endpoint_url": url, "interval_seconds": 900, **more}


def test_a_source_that_hangs_answers_garbage_or_refuses_leaves_the_others_and_the_checks_alone(start, wait_until, today):
    good, hanging, refusing = OpenaiAdmin(), OpenaiAdmin(), OpenaiAdmin()
    good.cost(today - timedelta(days=1), "12.5")
    refusing.key = "sk-admin-another"
    with (
        StandIn(good.answer) as one,
        StandIn(hanging.answer) as two,
        StandIn(refusing.answer) as three,
        StandIn(lambda _: Answer(b"<html>hello")) as four,
    ):
        for _ in range(20):
            two.hang()
        server = start(
            of_openai("good", one.url),
            # Its thread is still in that request when the check is answered.
            of_openai("hanging", two.url, timeout_seconds=2, request_timeout_seconds=600),
            of_openai("refusing", three.url),
            of_openai("garbage", four.url),
        )
        up = 'costwarden_source_up{source="%s"}'
        failed = 'costwarden_source_refreshes_total{source="%s",outcome="failure"}'
        wait_until(lambda: series(server).get(up % "good") == 1)
        wait_until(lambda: all(series(server).get(failed % name, 0) >= 1 for name in ("hanging", "refusing", "garbage")))
        cost = 'other_cost_daily_usd{provider="openai",service="gpt-4o-2024-08-06, input"}'
        wait_until(lambda: series(server).get(cost) == 12.5)
        found = series(server)
        assert {name: found[up % name] for name in ("good", "hanging", "refusing", "garbage")} == {
            "good": 1,
            "hanging": 0,
            "refusing": 0,
            "garbage": 0,
        }
        server.set_budget("acme", 5)
        body = {"tenant_id": "acme", "model": "plain", "estimated_input_tokens": 1, "estimated_output_tokens": 1}
        assert server.http.post("/api/ai-budget/check", json=body).status_code == 200


def test_a_server_that_is_killed_again_and_again_does_not_pay_again(start, moto, wait_until, today):
    with CostExplorer(today=today, others=moto) as provider:
        day = today - timedelta(days=1)
        provider.lines["123456789012"] = [line(day.isoformat(), "7.25")]
        source = {"type": "aws", "access": {"endpoint_url": provider.url}, "budgets": False, "forecast": False}
        server = start(source)
        shown = 'aws_cost_daily_usd{provider="aws",region="us-east-1",service="AmazonEC2"}'
        refreshed = 'costwarden_source_refreshes_total{source="aws",outcome="success"}'
        wait_until(lambda: series(server).get(refreshed) == 1)
        wait_until(lambda: series(server).get(shown) == 7.25)
        paid = 'costwarden_source_request_cost_usd_total{source="aws"}'
        assert len(provider.asked()) == 2
        wait_until(lambda: series(server)[paid] == 0.02)
        # The second refresh asks for fewer days than the first, whose answers are for all of the history: it pays, too.
        for number in range(4):
            server.kill()
            server.start()
            # At once, from the ledger, whether it was refreshed by now or not.
            assert series(server)[shown] == 7.25
            # Once at every start; the ledger counts on.
            wait_until(lambda number=number: series(server)[refreshed] == number + 2)
            if number == 0:
                asked = len(provider.asked())
        assert len(provider.asked()) == asked
        wait_until(lambda: series(server)[paid] == 0.04)
