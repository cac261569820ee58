"""From the bill to the stopped instance: when each hop happened, by the clock of the part that it happened in."""

from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from stack import Stack

T = TypeVar("T")


class Hop(NamedTuple):
    """Something that happened, when (seconds since 1970), and who says so."""

    what: str
    at: float
    told_by: str


def breach_hops(stack: Stack, budget: str, part: str, routed: dict[str, Any], run: dict[str, Any]) -> list[Hop]:
    """The hops of a cloud budget's breach by the bill `part`, which ended in `run` (as `costwarden remediate show` prints it).

    `routed` is the alert as Alertmanager had it when it was seen there first: Prometheus says it again every minute, and that is
    its `updatedAt` then. Raises `LookupError` where a part knows nothing of it.
    """
    read = _one(f"log entry of {part}", [line for line in stack.log_entries() if (line["event"], line.get("part")) == ("part read", part)])
    # Over all the time: of the moment there is none where a scrape has just taken too long.
    limit = _one(f"limit of {budget}", stack.query(f'max_over_time(cloud_budget_limit_usd{{budget="{budget}"}}[10m])')).value
    spent = stack.query(f'cloud_budget_spent_usd{{budget="{budget}"}}[10m]')
    above = _one(f"first sample of {budget} above its limit", [sample.at for sample in spent if sample.value > limit][:1])
    alerts = stack.firing("BudgetExceededCritical")
    firing = _one(f"alert of {budget}", [alert for alert in alerts if alert["labels"]["budget"] == budget])
    # Of `target`, which there is one of for each instance, the last counts.
    steps = {entry["step"]: _seconds(entry["at"]) for entry in run["journal"]}
    return [
        Hop("bill read", _seconds(read["read_at"]), "log, part read"),
        Hop("spend above its limit is scraped", above, "Prometheus, sample"),
        Hop("alert pending and firing at once", _seconds(firing["activeAt"]), "Prometheus, activeAt"),
        Hop("alert arrives at Alertmanager", _seconds(routed["updatedAt"]), "Alertmanager, updatedAt"),
        Hop("webhook received, durably queued", steps["received"], "journal, received"),
        Hop("guard passed", steps["guard_passed"], "journal, guard_passed"),
        Hop("plan made, nothing changed yet", steps["plan_done"], "journal, plan_done"),
        Hop("undo written, right to act taken", steps["undo_recorded"], "journal, undo_recorded"),
        Hop("script started with --apply", steps["script_started"], "journal, script_started"),
        Hop("last instance stopped", steps["target"], "journal, target"),
    ]


def _one(what: str, found: list[T]) -> T:
    if len(found) != 1:
        raise LookupError(f"{what}: there are {len(found)}, not 1")
    return found[0]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
