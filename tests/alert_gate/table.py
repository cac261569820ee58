"""The table of alerts that the runbook begins with: from the rules, never by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- begin: from the rules -->\n", "<!-- end -->\n"


def alert_table(alerts: Mapping[str, Any], file_of: Mapping[str, Path]) -> str:
    """A row an alert, in the order of the files: what it is called, how grave it is, when it fires, who answers, where it stands."""
    rows = ["| alert | severity | fires | who answers | file |", "|---|---|---|---|---|"]
    for name, rule in alerts.items():
        notes = rule["annotations"]
        cells = [f"[{name}](#{name.lower()})", rule["labels"]["severity"], notes.get("condition", ""), notes["escalation"]]
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} | [{file_of[name].stem}]({file_of[name].name}) |")
    return "\n".join(rows) + "\n"


def with_table(page: str, table: str) -> str:
    """The page with the table between its marks.

    Raises `ValueError` where it does not have both marks once, in their order.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest:
        raise ValueError("the page has no place for the table of alerts: the two marks, once")
    return f"{head}{begin}{table}{end}{tail}"
