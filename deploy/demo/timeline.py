"""From the bill to the stopped instance: when each hop happened, by the clock of the part that it happened in."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from stack import Stack

T = TypeVar("T")


class Hop(NamedTuple):
    """Something that happened, when (seconds since 1970), and who says so."""

    what: str
    at: float
    told_by: str


def breach_hops(stack: Stack, budget: str, part: str, run: dict[str, Any]) -> list[Hop]:
    """The hops of a cloud budget's breach by the bill `part`, which ended in `run` (as `costwarden remediate show` prints it).

    Raises `LookupError` where a part knows nothing of it.
    """
    read = _one(f"log entry of {part}", [line for line in stack.log_entries() if (line["event"], line.get("part")) == ("part read", part)])
    limit = _one(f"limit of {budget}", stack.query(f'cloud_budget_limit_usd{{budget="{budget}"}}')).value
    spent = stack.query(f'cloud_budget_spent_usd{{budget="{budget}"}}[10m]')
    above = _one(f"sample of {budget} above its limit", [min(sample.at for sample in spent if sample.value > limit)])
    firing = _of_budget(budget, stack.firing("BudgetExceededCritical"))
    routed = _of_budget(budget, stack.routed("BudgetExceededCritical"))
    # Of `target`, which there is one of for each instance, the last counts.
    steps = {entry["step"]: _seconds(entry["at"]) for entry in run["journal"]}
    return [
        Hop("bill read, its figures in force", _seconds(read["timestamp"]), "log, part read"),
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


def _of_budget(budget: str, alerts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return _one(f"alert of {budget}", [alert for alert in alerts if alert["labels"]["budget"] == budget])


def _one(what: str, found: list[T]) -> T:
    if len(found) != 1:
        raise LookupError(f"{what}: there are {len(found)}, not 1")
    return found[0]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
