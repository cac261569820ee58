"""costwarden from a bill and a token to a stopped workload, on real parts, in front of your eyes: `make demo`."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from applications import CONNECTIONS, Application, exact_json, run_applications
from bills import EUR_USD, PROVIDERS, write_bills, write_breach
from processes import NotInTime, StartFailed, wait_for
from screen import ClaimFailed, Screen, dollars
from stack import HERE, TOOLS, Stack, instance_states, start_instances
from timeline import Hop, breach_hops

T = TypeVar("T")

SOON = 60.0
"""Seconds for what takes 1 to 4: room for a machine that is busy with other things."""

CAPPED = "hooli"
CAP = Decimal("0.60")
"""The tenant whose cap stands in costwarden.yaml; the limits of the others are set over the API."""
LIMITS = {"acme": 25, "globex": 50}

APPLICATIONS = (
    Application("acme", "anthropic", "claude-3-5-sonnet-20241022", "reports", 30, 4_000, 1_200),
    Application("acme", "openai", "gpt-4o-mini", "drafts", 40, 3_000, 900),
    Application("globex", "openai", "gpt-4o", "chat", 30, 2_000, 600),
    Application("globex", "google", "gemini-2.0-flash", "search", 40, 8_000, 400),
    # 10,000 tokens in at $3 and 2,000 out at $15 a million: $0.03 + $0.03 a call, always.
    Application(CAPPED, "anthropic", "claude-3-5-sonnet-20241022", "batch", 24, 10_000, 2_000, lowest_use=1),
)

BUDGET, PLAYBOOK = "aws-dev", "stop-dev-ec2"
LATE_INSTANCES, LATE_COST = 3, Decimal("409.60")
"""$1,228.80 of a sudden, beside at most 31 days at $20.41 of the ordinary, against a limit of $1,000."""

CLOCK_GRAIN = 0.01
"""Seconds by which a time may lie before the one that it follows: Prometheus aligns the times of its scrapes by up to 2 ms."""


def is_close(figure: float, exact: Decimal) -> bool:
    """Equal but for the last bits of a float, which is what Prometheus keeps."""
    return abs(Decimal(figure) - exact) < Decimal("1e-6")


def await_value(what: str, probe: Callable[[], T | None]) -> T:
    """The first answer of `probe` that is something. Raises `NotInTime`."""
    answer = wait_for(what, probe, SOON)
    assert answer is not None
    return answer


def show_bills(screen: Screen, stack: Stack, totals: dict[str, Decimal]) -> None:
    screen.step(1, "Bills of three clouds become cost series")
    expression = 'sum by (provider) ({__name__=~"(aws|gcp|azure)_cost_monthly_usd", month="current"})'

    def series() -> dict[str, float] | None:
        found = {sample.labels["provider"]: sample.value for sample in stack.query(expression)}
        return found if found.keys() == totals.keys() else None

    found = await_value("series of all three clouds", series)
    files = {name: next(path.name for path in (stack.folder / "bills" / name).iterdir()) for name in totals}
    screen.rows(
        ("bill", "currency", ">its rows of this month", ">in Prometheus"),
        [
            (f"bills/{name}/{files[name]}", PROVIDERS[name].currency, dollars(total, 6), dollars(found[name], 6))
            for name, total in totals.items()
        ],
    )
    screen.claim(
        all(is_close(found[name], total) for name, total in totals.items()),
        f"Series and files agree, credits and taxes included; a euro counts {EUR_USD} dollars, as configured.",
    )
    rejected = stack.cli("rejected")["rows"]
    screen.claim(len(rejected) == 1, "One row could not be read. It is counted, kept, and shown by `costwarden rejected`:")
    screen.say(f"  {rejected[0]['source']}/{rejected[0]['part']}, line {rejected[0]['line']}: {rejected[0]['detail']}")


def show_applications(screen: Screen, stack: Stack) -> list[dict[str, Any]]:
    """Returns the refusals."""
    screen.step(2, "Applications spend AI tokens, and ask the budget service before each call")
    for tenant, limit in LIMITS.items():
        stack.call("POST", "/api/ai-budget/set", {"tenant_id": tenant, "monthly_limit_usd": limit}).raise_for_status()
    began = time.monotonic()
    outcomes = run_applications(lambda path, body: stack.call("POST", path, body, bearer="applications"), APPLICATIONS)
    took = time.monotonic() - began
    spent = {app: sum((outcome.cost for outcome in outcomes if outcome.application is app), Decimal(0)) for app in APPLICATIONS}
    made = {app: sum(outcome.application is app and outcome.refusal is None for outcome in outcomes) for app in APPLICATIONS}
    screen.rows(
        ("tenant", "model", ">calls", ">refused", ">spent"),
        [(app.tenant_id, app.model, str(made[app]), str(app.calls - made[app]), dollars(cost, 6)) for app, cost in spent.items()],
    )
    tenants = {app.tenant_id for app in APPLICATIONS}
    told = {tenant: sum(cost for app, cost in spent.items() if app.tenant_id == tenant) for tenant in tenants}
    screen.claim(
        all(tenant_status(stack, tenant)["total_usage_usd"] == cost for tenant, cost in told.items()),
        f"{len(outcomes)} calls, {CONNECTIONS} at a time, in {took:.1f} s; the service recorded to the last digit what it told them.",
    )
    return [outcome.refusal for outcome in outcomes if outcome.refusal]


def tenant_status(stack: Stack, tenant: str) -> Any:
    return exact_json(stack.call("GET", f"/api/ai-budget/tenant/{tenant}"))


def show_refusal(screen: Screen, stack: Stack, refusals: list[dict[str, Any]]) -> None:
    screen.step(3, f"Tenant {CAPPED} is refused at its cap")
    refusal = next(found for found in refusals if found["reason"] == "budget_exceeded")
    denied = refusal["denied_by"]
    screen.say(f"HTTP {refusal['status']} {refusal['title']}: {refusal['detail']}", "yellow")
    screen.say(f"  denied by   budget {denied['budget']}, {dollars(denied['limit_usd'])} a {denied['period']}")
    screen.say(f"  until       {refusal['reset_date']}, {refusal['retry_after_seconds']} s from now (Retry-After)")
    screen.say(f"  meanwhile   {', '.join(f'{key}: {value}' for key, value in refusal['fallback'].items())}")
    (budget,) = tenant_status(stack, CAPPED)["budgets"]
    screen.claim(
        (budget["current_usage_usd"], budget["reserved_usd"]) == (CAP, 0),
        f"Spent {dollars(budget['current_usage_usd'])} of {dollars(CAP)}: ten calls of $0.06 fitted, {len(refusals)} beside them did not.",
    )
    (run,) = await_value("the suspension of the tenant", lambda: stack.finished_runs("suspend-ai-tenant"))
    screen.claim(run["outcome"] == "succeeded", "The alert AIBudgetExceeded fired, and its playbook suspended the tenant.")
    wish = {"tenant_id": CAPPED, "provider": "openai", "model": "gpt-4o-mini"}
    answer = stack.call("POST", "/api/ai-budget/check", wish, bearer="applications")
    screen.claim((answer.status_code, answer.json()["reason"]) == (429, "tenant_suspended"), "Its next check: HTTP 429, tenant_suspended.")
    scraped = [sample.value for sample in stack.query(f'ai_budget_spent_usd{{tenant_id="{CAPPED}"}}[5m]')]
    screen.claim(max(scraped) == float(CAP), f"No scrape ever saw more than {dollars(CAP)} spent.")


def show_breach(screen: Screen, stack: Stack) -> tuple[str, float]:
    """Returns the file name of the bill, and when it was there."""
    screen.step(4, "A late bill crosses a spend limit")

    def figure(what: str) -> float:
        # A scrape that takes too long leaves a moment without any.
        (sample,) = await_value(what, lambda: stack.query(f'cloud_budget_{what}_usd{{budget="{BUDGET}"}}'))
        return sample.value

    spent, limit = figure("spent"), figure("limit")
    bill, added = write_breach(stack.folder / "bills", datetime.now(UTC).date(), LATE_INSTANCES, LATE_COST)
    # Not the time of now: costwarden may have read it by now.
    written_at = (stack.folder / "bills" / "aws" / bill).stat().st_mtime
    above = await_value(
        f"spend of budget {BUDGET} above its limit",
        lambda: next((found.value for found in stack.query(f'cloud_budget_spent_usd{{budget="{BUDGET}"}}') if found.value > limit), None),
    )
    screen.claim(
        spent < limit and is_close(above, Decimal(repr(spent)) + added),
        f"Budget {BUDGET} (AWS, environment dev): {dollars(spent)} + {dollars(added)} = {dollars(above)}, above {dollars(limit)}.",
    )
    return bill, written_at


def show_action(screen: Screen, stack: Stack, fleet: dict[str, list[str]]) -> tuple[dict[str, Any], float]:
    """Returns the alert as Alertmanager got it, and when the instances were seen to be stopped."""
    screen.step(5, "The alert goes its way, and the playbook acts")
    (routed,) = await_value("the alert in Alertmanager", lambda: stack.routed("BudgetExceededCritical"))
    (run,) = await_value("the end of the run", lambda: stack.finished_runs(PLAYBOOK))
    # Asked after the run: while it acts, EC2 knows of an instance before the script has told of it.
    ec2 = stack.ec2()
    wait_for("the development instances stopped", lambda: {instance_states(ec2)[name] for name in fleet["dev"]} == {"stopped"}, SOON)
    stopped_at = time.time()
    states = instance_states(ec2)
    screen.rows(
        ("instances (moto, asked by boto3)", "", "before", "now"),
        [(kind, f"{len(names)}", "running", "/".join({states[name] for name in names})) for kind, names in fleet.items()],
    )
    screen.claim(
        (run["outcome"], run["targets_count"]) == ("succeeded", len(fleet["dev"])),
        f"Run {run['run_id']} of playbook {PLAYBOOK}: {run['outcome']}, {run['targets_count']} targets.",
    )
    others = {states[name] for kind, names in fleet.items() if kind != "dev" for name in names}
    screen.claim(others == {"running"}, "What is protected, and production, runs on.")
    return routed, stopped_at


def show_timeline(screen: Screen, stack: Stack, late: tuple[str, float], routed: dict[str, Any], stopped_at: float) -> None:
    """`late` is the file name of the bill, and when it was there."""
    screen.step(6, "What happened when, by the clock of each part")
    (run,) = stack.finished_runs(PLAYBOOK)
    bill, written_at = late
    hops = [
        Hop("late bill is in its folder", written_at, "the demo"),
        *breach_hops(stack, BUDGET, bill, routed, stack.cli("remediate", "show", run["run_id"])),
        Hop("EC2 says they are stopped", stopped_at, "DescribeInstances"),
    ]
    times = [hop.at for hop in hops]
    took = [0.0, *(later - earlier for earlier, later in pairwise(times))]
    screen.rows(
        ("", "at, UTC", ">took", "told by"),
        [
            (hop.what, f"{datetime.fromtimestamp(hop.at, UTC):%H:%M:%S.%f}"[:-3], f"{max(0, seconds):.3f} s", hop.told_by)
            for hop, seconds in zip(hops, took, strict=True)
        ],
    )
    screen.claim(
        min(took) >= -CLOCK_GRAIN, f"{stopped_at - written_at:.2f} s from the bill to the stopped instances, each hop after the one before."
    )


def show_where_to_look(screen: Screen, stack: Stack, *, keeps: bool) -> None:
    screen.step(7, "Where to look further")
    if not keeps:
        # Its servers and its folder are gone in a moment: commands that name them would be of no use.
        screen.say("`make demo KEEP=1` leaves all of it running, and says here what to open and to type: Prometheus and Alertmanager,")
        screen.say("the metrics page, budgets and the breakdown of cost, the run of the playbook, its undo, and the kill switch.")
        return
    (run,) = stack.finished_runs(PLAYBOOK)
    costwarden, config = Path(sys.executable).parent / "costwarden", f"--config {stack.config_file}"
    for line in (
        f"{stack.prometheus}    # its pages; the alerts are under Alerts",
        f'curl -H "Authorization: Bearer $(cat {stack.folder}/tokens/prometheus)" {stack.costwarden}/metrics',
        f"{TOOLS}/amtool --alertmanager.url={stack.alertmanagers[0]} alert query",
        f"{costwarden} status {config}",
        f"{costwarden} breakdown --by service {config}",
        f"{costwarden} budget list {config}",
        f"{costwarden} remediate show {run['run_id']} {config}",
        f"{costwarden} remediate restore {run['run_id']} --apply {config}",
        f"touch {stack.folder}/STOP    # the kill switch: nothing acts while it is there",
    ):
        screen.say(line)


def show_all(screen: Screen, stack: Stack, totals: dict[str, Decimal], *, keeps: bool) -> None:
    """The seven steps. Raises `ClaimFailed`, `NotInTime` or `LookupError` where something is not as it says."""
    ec2 = stack.ec2()
    fleet = {
        "dev": start_instances(ec2, 3, {"environment": "dev", "team": "research"}),
        "dev, costwarden:protected=true": start_instances(ec2, 1, {"environment": "dev", "costwarden:protected": "true"}),
        "prod": start_instances(ec2, 2, {"environment": "prod", "team": "web"}),
    }
    show_bills(screen, stack, totals)
    show_refusal(screen, stack, show_applications(screen, stack))
    late = show_breach(screen, stack)
    routed, stopped_at = show_action(screen, stack, fleet)
    show_timeline(screen, stack, late, routed, stopped_at)
    show_where_to_look(screen, stack, keeps=keeps)


def run_demo(screen: Screen, folder: Path, *, keeps: bool) -> None:
    """Everything, with its data in `folder`; the parts have ended when it returns or raises."""
    began = time.monotonic()
    totals = write_bills(folder / "bills", datetime.now(UTC).date())
    with Stack(folder, (HERE / "costwarden.yaml").read_text(encoding="utf-8")) as stack:
        started = time.monotonic() - began
        screen.say(f"costwarden, {', '.join(stack.versions())} and moto run after {started:.1f} s; their files are in {folder}")
        show_all(screen, stack, totals, keeps=keeps)
        screen.console.print(f"\n[bold green]All of it held, in {time.monotonic() - began:.0f} s.[/]")
        if keeps:
            screen.console.print("Everything runs on until you press Ctrl-C.")
            with suppress(KeyboardInterrupt):
                signal.pause()


def main() -> int:
    """The program: exit code 0 when all held, 1 when not, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    keeps: bool = parser.parse_args().keep
    # A closed terminal and a polite kill end the parts as Ctrl-C does, which a shell has us ignore where it starts us in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen = Screen()
    if not os.access(TOOLS / "prometheus", os.X_OK):
        screen.say(f"there is no prometheus in {TOOLS}: `make demo` fetches it, as does `make tools`")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="costwarden-demo-"))
    try:
        run_demo(screen, folder, keeps=keeps)
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        return 130
    except (ClaimFailed, NotInTime, StartFailed, LookupError, RuntimeError) as error:
        screen.console.print("\n[bold red]The demo failed[/]")
        screen.say(str(error))
        screen.say(f"the logs are in {folder}/logs")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
