"""What a person would see to be wrong in the picture of a dashboard: measured in a browser."""

import sys
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
sys.path.insert(0, str(PICTURES))

from picture import dashboards, write_page  # noqa: E402 (the path comes first)
from picture_browser import layout  # noqa: E402
from picture_colours import NAMED  # noqa: E402
from picture_data import Prometheus  # noqa: E402
from picture_page import WIDTH, height_of, page  # noqa: E402

__all__ = ["NAMED", "PICTURES", "dashboards", "faults", "no_data", "write_page"]


def faults(path: Path, shown: dict[str, Any], may_be_empty: AbstractSet[str] = frozenset()) -> list[str]:
    """What a person would see to be wrong: a panel that is blank, that lies on another or outside the page, or that holds too much."""
    seen = layout(path, WIDTH, height_of(shown))
    found = []
    for number, one in enumerate(seen.panels):
        title = one["title"]
        if one["type"] != "row" and not one["marks"] and title not in may_be_empty:
            found.append(f"{title} is blank")
        if one["right"] - one["left"] < 20 or one["bottom"] - one["top"] < 20:
            found.append(f"{title} has no size")
        if one["left"] < 0 or one["top"] < 0 or one["right"] > seen.width or one["bottom"] > seen.height:
            found.append(f"{title} is not on the page")
        found += [f"{title} is too small for {what}" for what in one["outlying"]]
        found += [
            f"{title} overlaps {other['title']}"
            for other in seen.panels[:number]
            if min(one["right"], other["right"]) - max(one["left"], other["left"]) > 0.5
            and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 0.5
        ]
    assert len(seen.panels) == len(shown["panels"])
    return found


def no_data(url: str, shown: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The panels, with the dashboard of each, that say so on a page of the last five minutes."""
    found = set()
    for uid, dashboard in shown.items():
        now = time.time()
        client = Prometheus(url, now - 300, now, scrape_interval=1)
        try:
            text = page(dashboard, client)
        finally:
            client.close()
        sections = text.split('data-title="')[1:]
        found |= {(uid, section.partition('"')[0]) for section in sections if 'class="no-data"' in section}
    return found
