"""costwarden tells how it does itself."""

import os
import time
from decimal import Decimal

from sqlalchemy import insert

from costwarden import __version__
from costwarden.ledger.schema import remediation_queue, remediation_runs
from costwarden.metrics.health import health_collector, remediation_collector
from costwarden.metrics.process import collect_process
from costwarden.metrics.settings import AlertLimits

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


def figures(collected):
    return {(family.name, *labels): value for family, samples in collected for labels, value in samples}


def test_health_on_the_page(ledger):
    ledger.write(lambda _: None)
    collected = health_collector(ledger, AlertLimits(ai_spend_monthly_limit_usd=Decimal("2500.5")), lambda: (False, NOON)).collect()
    assert figures(collected) == {
        ("costwarden_build_info", __version__): 1,
        ("costwarden_config_last_reload_successful",): 0,
        ("costwarden_config_last_reload_success_timestamp_seconds",): 1_763_208_000,
        ("costwarden_ledger_up",): 1,
        ("costwarden_ledger_commits_total",): 1,
        ("costwarden_ledger_write_errors_total",): 0,
        ("ai_spend_monthly_limit_usd",): 2500.5,
        ("cloud_cost_spike_limit_ratio",): 0.2,
        ("cloud_cost_spike_minimum_usd",): 1,
        ("cost_anomaly_limit_deviations",): 4,
        ("cost_anomaly_minimum_usd",): 10,
        ("ai_unsettled_limit_ratio",): 0.05,
        ("ai_capture_limit_ratio",): 0.9,
        ("cloud_cost_attributed_limit_ratio",): 0.8,
        ("cloud_cost_unattributed_minimum_usd",): 100,
        ("s3_bucket_size_limit_bytes",): 1e12,
        ("kubernetes_pod_cpu_minimum_ratio",): 0.4,
        ("costwarden_price_data_age_limit_seconds",): 60 * 86_400,
    }


def test_remediation_on_the_page(ledger, shown):
    states = ["queued", "queued", "awaiting_approval", "done", "refused"]
    items = [{"fingerprint": str(number), "state": state} for number, state in enumerate(states)]
    outcomes = [
        ("stop_ec2", "succeeded", ""),
        ("stop_ec2", "succeeded", ""),
        ("stop_ec2", "refused", "cooldown"),
        ("", "refused", "no_playbook"),
        ("stop_ec2", "", ""),
    ]
    runs = [
        {"run_id": str(number), "playbook": playbook, "outcome": outcome, "reason": reason}
        for number, (playbook, outcome, reason) in enumerate(outcomes)
    ]
    ledger.write(lambda connection: connection.execute(insert(remediation_queue), items))
    ledger.write(lambda connection: connection.execute(insert(remediation_runs), runs))
    shown(remediation_collector(ledger.read, lambda: "dry-run", lambda: False), "remediation")


def test_the_process_is_told_from_proc():
    values = figures(collect_process())
    assert values["process_start_time_seconds",] < time.time() < values["process_start_time_seconds",] + 86_400
    assert values["process_resident_memory_bytes",] > 10_000_000
    assert values["process_open_fds",] >= 3
    assert 0 < values["process_cpu_seconds_total",] < time.process_time() + 1


def test_a_program_name_with_spaces_and_parentheses_does_not_shift_the_figures(tmp_path):
    (tmp_path / "self" / "fd").mkdir(parents=True)
    for name in "012":
        (tmp_path / "self" / "fd" / name).touch()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    # proc_pid_stat(5): 14 utime, 15 stime, 22 starttime (ticks since boot), 24 rss (pages).
    fields = [str(number) for number in range(3, 53)]
    (tmp_path / "self" / "stat").write_text(f"4711 (a (b) c) {' '.join(fields)}")
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1763200000\nprocesses 5\n")
    assert figures(collect_process(tmp_path)) == {
        ("process_cpu_seconds_total",): (14 + 15) / ticks,
        ("process_open_fds",): 3,
        ("process_resident_memory_bytes",): 24 * page,
        ("process_start_time_seconds",): 1_763_200_000 + 22 / ticks,
    }


def test_without_proc_there_are_no_process_metrics(tmp_path):
    assert list(collect_process(tmp_path)) == []
