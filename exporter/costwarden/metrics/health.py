"""How costwarden itself does: version, configuration, ledger, remediation; and the limits that rules compare with."""

from collections.abc import Callable, Iterator

from costwarden import __version__
from costwarden.ledger import Ledger
from costwarden.ledger.remediation import queue_lengths, refusal_counts, run_counts
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.metrics.settings import AlertLimits
from costwarden.model import MICROS_PER_SECOND

LoadState = Callable[[], tuple[bool, int]]
"""(whether the last load of the configuration succeeded, when the one in force was loaded in microseconds)."""

_OPEN_STATES = ("queued", "running", "awaiting_approval", "interrupted")


def health_collector(ledger: Ledger, limits: AlertLimits, load_state: LoadState) -> Collector:
    """The collector of version, configuration, ledger and alert limits. It reads no table, so that it works when the ledger does not."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        loaded, loaded_at = load_state()
        figures = {
            "costwarden_config_last_reload_successful": float(loaded),
            "costwarden_config_last_reload_success_timestamp_seconds": loaded_at / MICROS_PER_SECOND,
            "costwarden_ledger_up": float(ledger.writer.healthy),
            "costwarden_ledger_commits_total": float(ledger.writer.commits),
            "costwarden_ledger_write_errors_total": float(ledger.writer.write_errors),
            # Each is named as its metric is.
            **{name: float(getattr(limits, name)) for name in AlertLimits.model_fields},
        }
        yield FAMILIES["costwarden_build_info"], [((__version__,), 1.0)]
        for name, value in figures.items():
            yield FAMILIES[name], [((), value)]

    return Collector("health", collect)


def remediation_collector(read: Read, mode: Callable[[], str], kill_switch: Callable[[], bool]) -> Collector:
    """The collector of the remediation queue and its runs; `mode` gives the mode in force, `kill_switch` whether it is on."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        with read() as connection:
            lengths = queue_lengths(connection)
            runs = run_counts(connection)
            refused = refusal_counts(connection)
        yield FAMILIES["costwarden_remediation_queue_length"], [((state,), float(lengths[state])) for state in _OPEN_STATES]
        yield FAMILIES["costwarden_remediation_runs_total"], _by_playbook(runs)
        yield FAMILIES["costwarden_remediation_refused_total"], _by_playbook(refused)
        yield FAMILIES["costwarden_remediation_mode"], [((mode(),), 1.0)]
        yield FAMILIES["costwarden_remediation_kill_switch"], [((), float(kill_switch()))]

    return Collector("remediation", collect)


def _by_playbook(counts: list[tuple[str, str, int]]) -> list[Sample]:
    return [((playbook, label), float(count)) for playbook, label, count in counts]
