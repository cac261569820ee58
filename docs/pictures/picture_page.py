"""A dashboard as a page that stands alone: Grafana's grid and its dark theme, without scripts and without a network."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from picture_colours import colour
from picture_columns import bar_chart
from picture_data import Document, Frame, Prometheus, QueryFailed, least_interval, substituted, variables_of
from picture_fields import transformed
from picture_graph import time_series
from picture_html import Content, Markup, element
from picture_panels import Body, Event, bar_gauge, gauge, stat, text
from picture_table import table

STYLE = (Path(__file__).parent / "picture.css").read_text(encoding="utf-8")

WIDTH = 1_600
COLUMNS = 24
UNIT, GAP, MARGIN = 30.0, 8.0, 16.0
"""Height of a line of the grid, the space between lines and columns, and the page's edge, in pixels."""
HEADER = 60.0

TITLE, PADDING = 34.0, 10.0

PICTURES: dict[str, Callable[[Body], Markup]] = {
    "stat": stat,
    "gauge": gauge,
    "bargauge": bar_gauge,
    "timeseries": time_series,
    "barchart": bar_chart,
    "table": table,
    "text": text,
}


class Box(NamedTuple):
    """A place on the page, in pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def style(self) -> str:
        """In CSS."""
        return f"left:{self.left:.2f}px;top:{self.top:.2f}px;width:{self.width:.2f}px;height:{self.height:.2f}px"


def box(place: Document) -> Box:
    """Where a panel with this `gridPos` lies."""
    column = (WIDTH - 2 * MARGIN + GAP) / COLUMNS
    top = HEADER + place["y"] * (UNIT + GAP)
    return Box(MARGIN + place["x"] * column, top, place["w"] * column - GAP, place["h"] * (UNIT + GAP) - GAP)


def panels_of(dashboard: Document) -> list[Document]:
    """The panels, those of open rows included; a collapsed row hides its own."""
    return list(dashboard["panels"])


def height_of(dashboard: Document) -> int:
    """The height of the page."""
    return round(max(box(panel["gridPos"]).top + box(panel["gridPos"]).height for panel in panels_of(dashboard)) + MARGIN)


def page(dashboard: Document, prometheus: Prometheus) -> str:
    """The page of a dashboard with what Prometheus answers now. Raises `QueryFailed`, and `ValueError` for what cannot be drawn."""
    variables = variables_of(dashboard, prometheus)
    events = _events(dashboard, prometheus, variables)
    drawn = [_panel(panel, prometheus, variables, events) for panel in panels_of(dashboard)]
    head = [element("meta", charset="utf-8"), element("title", dashboard["title"]), element("style", Markup(STYLE))]
    size = f"width:{WIDTH}px;height:{height_of(dashboard)}px"
    body = element("body", [_header(dashboard, prometheus), *drawn], style=size)
    return f"<!doctype html>\n{element('html', [element('head', head), body], lang='en')}\n"


def _header(dashboard: Document, prometheus: Prometheus) -> Markup:
    start, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (prometheus.start, prometheus.end))
    chosen = [
        element("span", [element("b", variable.get("label") or variable["name"]), _shown(variable)], class_="variable")
        for variable in dashboard.get("templating", {}).get("list", ())
        if not variable.get("hide") and variable["type"] != "datasource"
    ]
    title = element("h1", dashboard["title"])
    return element("header", [title, *chosen, element("span", f"{start} to {end} UTC", class_="range")])


def _shown(variable: Document) -> str:
    shown = variable.get("current", {}).get("text", "")
    return ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown)


def _panel(panel: Document, prometheus: Prometheus, variables: dict[str, str], events: list[Event]) -> Markup:
    panel = panel | {"title": substituted(panel.get("title", ""), variables)}
    place = box(panel["gridPos"])
    known = {"data_panel": panel["id"], "data_type": panel["type"], "data_title": panel["title"], "style": place.style}
    if panel["type"] == "row":
        return element("section", [element("span", "⌄", class_="chevron"), panel["title"]], class_="row", **known)
    if panel["type"] not in PICTURES:
        raise ValueError(f"{panel['title']}: there is no picture of panels {panel['type']!r}: add it to {__name__}")
    titled = TITLE if panel["title"] else PADDING
    width, height = place.width - 2 * PADDING, place.height - titled - PADDING
    try:
        frames = _frames(panel, prometheus, variables, width)
        step = prometheus.step(panel.get("maxDataPoints") or round(width), least_interval(panel.get("targets", ())))
        drawing = Body(panel, frames, width, height, prometheus.start, prometheus.end, step, events)
        content: Content = PICTURES[panel["type"]](drawing)
    except (QueryFailed, ValueError) as error:
        error.add_note(f"in the panel {panel['title']!r}")
        raise
    heading = element("h2", panel["title"], title=panel.get("description")) if panel["title"] else ""
    inside = element("div", content, class_="body", style=f"width:{width:.2f}px;height:{height:.2f}px")
    return element("section", [heading, inside], class_="panel", **known)


def _frames(panel: Document, prometheus: Prometheus, variables: dict[str, str], width: float) -> list[Frame]:
    targets = [target for target in panel.get("targets", ()) if not target.get("hide")]
    found = [
        frame
        for target in targets
        for frame in prometheus.frames(target, variables, several=len(targets) > 1, points=panel.get("maxDataPoints") or round(width))
    ]
    return transformed(found, panel.get("transformations", ()))


def _events(dashboard: Document, prometheus: Prometheus, variables: dict[str, str]) -> list[Event]:
    """Where the series of an annotation are above 0, one event each time they come."""
    found: dict[tuple[float, str], Event] = {}
    step = prometheus.step(600)
    for annotation in dashboard.get("annotations", {}).get("list", ()):
        query = annotation.get("expr") or annotation.get("target", {}).get("expr")
        if not query or not annotation.get("enable", True):
            continue
        target = {"expr": query, "legendFormat": annotation.get("titleFormat", "")}
        shown = colour(annotation.get("iconColor", "red"))
        for frame in prometheus.frames(target, variables, several=False, points=600):
            for event in _spans(frame, step, shown):
                # Of several that begin together one line tells; the longest.
                key = event.start, shown
                found[key] = max(found.get(key, event), event, key=lambda known: known.end)
    return list(found.values())


def _spans(frame: Frame, step: float, shown: str) -> list[Event]:
    """The spans in which the series of a frame is above 0."""
    spans: list[Event] = []
    for at, value in zip(frame.fields[0].values, frame.fields[1].numbers(), strict=True):
        if value and isinstance(at, float):
            seconds = at / 1_000
            if not spans or seconds - spans[-1].end > step * 1.5:
                spans.append(Event(seconds, seconds, shown, frame.fields[1].name))
            spans[-1] = spans[-1]._replace(end=seconds)
    return spans
