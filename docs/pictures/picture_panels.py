"""Panels of figures: stat, gauge, bar gauge, text. Each is the HTML of a body of a given size in pixels."""

import math
from typing import NamedTuple

from picture_data import LARGEST, Document, Field, Frame
from picture_fields import Look, figures, look
from picture_html import Content, Markup, element


class Body(NamedTuple):
    """What a panel is drawn from and into."""

    panel: Document
    frames: list[Frame]
    width: float
    height: float
    start: float
    """Of the dashboard's time range, seconds since 1970."""
    end: float
    step: float
    """Seconds between two points of a range query."""
    events: list["Event"]

    def look(self, field: Field, number: int) -> Look:
        """How a field is shown."""
        return look(self.panel, field, number, self.end)

    def option(self, name: str, default: object = None) -> object:
        """An option of the panel."""
        return self.panel.get("options", {}).get(name, default)


class Event(NamedTuple):
    """An annotation: from and to (seconds since 1970), and its colour in CSS."""

    start: float
    end: float
    colour: str
    text: str


def no_data(body: Body) -> Markup:
    """What stands in the place of figures where there are none: what the dashboard says of that, if anything."""
    return element("div", str(body.panel.get("fieldConfig", {}).get("defaults", {}).get("noValue") or "No data"), class_="no-data")


GLYPH = 0.6
"""Width of a figure in the font, in heights of it; figures are as wide as each other."""


class Reduced(NamedTuple):
    """The one value that is left of a column, and how it is shown."""

    name: str
    value: float
    look: Look
    field: Field

    @property
    def text(self) -> str:
        """With its unit."""
        return self.look.text(self.value)

    @property
    def colour(self) -> str:
        """In CSS."""
        return self.look.colour(self.value)


def reduced(body: Body) -> list[Reduced]:
    """The last value of each column of numbers; what has none is left out. Raises `ValueError` for another way to reduce."""
    calcs = body.panel.get("options", {}).get("reduceOptions", {}).get("calcs") or ["lastNotNull"]
    if not set(calcs) <= {"lastNotNull", "last", "sum", "max", "min", "mean"}:
        raise ValueError(f"there is no picture of calcs {calcs}")
    found = []
    for number, field in enumerate(figures(body.frames)):
        value = calculated(field, calcs[0])
        shown = body.look(field, number)
        if value is not None:
            found.append(Reduced(str(shown.options.get("displayName") or field.name), value, shown, field))
    return found


def calculated(field: Field, calc: str) -> float | None:
    """One number for a column: its last, its largest and so on; None of nothing."""
    numbers = [number for number in field.numbers() if number is not None]
    if not numbers:
        return None
    if calc == "mean":
        return sum(numbers) / len(numbers)
    by_name = {"sum": sum(numbers), "max": max(numbers), "min": min(numbers)}
    return by_name.get(calc, numbers[-1])


def stat(body: Body) -> Markup:
    """Large figures, side by side."""
    found = reduced(body)
    if not found:
        return no_data(body)
    found, left_out = _fitting(body, found)
    width = body.width / (len(found) + bool(left_out))
    mode = body.option("textMode", "auto")
    named = mode == "value_and_name" or (mode == "auto" and len(found) > 1)
    tiles = []
    for figure in found:
        written = figure.name if mode == "name" else figure.text
        size = min(body.height * (0.42 if named else 0.6), width * 0.9 / (GLYPH * max(len(written), 4)), 54)
        filled = str(body.option("colorMode", "value")).startswith("background")
        style = f"font-size:{size:.0f}px;color:{'#ffffff' if filled else figure.colour}"
        content: list[Content] = [element("div", figure.name, class_="name")] if named else []
        content.append(element("div", written, class_="figure mark", style=style))
        if body.option("graphMode") == "area":
            content.append(sparkline(figure, width, body.height * 0.35))
        tiles.append(element("div", content, class_="tile", style=f"background:{figure.colour}" if filled else None))
    return element("div", [*tiles, left_out], class_="tiles")


NARROWEST = 64.0
"""Pixels that a figure or a dial has at least."""


def _fitting(body: Body, found: list[Reduced]) -> tuple[list[Reduced], Content]:
    """Those that fit side by side, and how many do not."""
    room = max(1, int(body.width // NARROWEST))
    if len(found) <= room:
        return found, ""
    shown = found[: max(1, room - 1)]
    return shown, element("div", f"and {len(found) - len(shown)} more", class_="tile more")


def sparkline(figure: Reduced, width: float, height: float) -> Content:
    """The course of a figure beneath it, where more than a point of it is known."""
    points = [(index, value) for index, value in enumerate(figure.field.numbers()) if value is not None]
    if len(points) < 2:
        return ""
    low, high = min(value for _, value in points), max(value for _, value in points)
    right, rise = points[-1][0] or 1, (high - low) or 1
    path = " L".join(f"{x / right * width:.1f} {height - 1 - (value - low) / rise * (height - 3):.1f}" for x, value in points)
    area = element("path", d=f"M{path} L{width:.1f} {height:.1f} L0 {height:.1f} Z", fill=figure.colour, opacity=0.15)
    line = element("path", d=f"M{path}", stroke=figure.colour, fill="none", stroke_width=1.5)
    return element("svg", [area, line], class_="sparkline", width=width, height=height)


def limits(found: list[Reduced]) -> tuple[float, float]:
    """From where to where a gauge goes: as configured, else from the smallest value, or 0, to the largest."""
    options = found[0].look.options
    values = [figure.value for figure in found if abs(figure.value) < LARGEST]
    low, high = options.get("min"), options.get("max")
    low = min([0.0, *values]) if low is None else float(low)
    if high is None:
        high = {"percent": 100.0, "percentunit": 1.0}.get(options.get("unit", ""), 0.0) or max(values, default=1.0)
    return low, high if high > low else low + 1


def share(value: float, low: float, high: float) -> float:
    """Where a value lies between two, from 0 to 1."""
    return (min(max(value, low), high) - low) / (high - low)


# --- gauge ---------------------------------------------------------------------------------------------------------------------

SWEEP = 240.0
"""Degrees of the dial."""


def gauge(body: Body) -> Markup:
    """Dials, side by side."""
    found = reduced(body)
    if not found:
        return no_data(body)
    low, high = limits(found)
    found, left_out = _fitting(body, found)
    width = body.width / (len(found) + bool(left_out))
    dials = [_dial(figure, low, high, width, body.height, len(found) > 1) for figure in found]
    return element("div", [*dials, left_out], class_="tiles")


def _dial(figure: Reduced, low: float, high: float, width: float, height: float, named: bool) -> Markup:
    tall = height - (20 if named else 0)
    # The dial reaches half its radius below its centre.
    radius = min(width / 2 - 4, tall / 1.5 - 2)
    x, y = width / 2, radius + 1
    thick = radius * 0.2
    ring, inner = radius - 2, radius - 6 - thick / 2
    parts = [element("path", d=_arc(x, y, inner, 0, 1), stroke="#2c3035", fill="none", stroke_width=thick)]
    filled = share(figure.value, low, high)
    if filled > 0:
        parts.append(element("path", d=_arc(x, y, inner, 0, filled), stroke=figure.colour, fill="none", stroke_width=thick, class_="mark"))
    at = [share(limit, low, high) if math.isfinite(limit) else 0.0 for limit in figure.look.limits()]
    for step, begin, end in zip(figure.look.steps(), at, [*at[1:], 1.0], strict=True):
        if end > begin:
            middle = figure.look.threshold(low + (high - low) * (begin + end) / 2) if step else ""
            parts.append(element("path", d=_arc(x, y, ring, begin, end), stroke=middle, fill="none", stroke_width=3.0))
    size = min(inner * 0.6, inner * 1.45 / (GLYPH * len(figure.text)))
    style = f"font-size:{size:.0f}px;font-weight:500"
    parts.append(
        element(
            "text", figure.text, x=x, y=y + size * 0.35, fill=figure.colour, style=style, text_anchor="middle", class_="mark figure-text"
        )
    )
    content: list[Content] = [element("svg", parts, width=width, height=tall)]
    if named:
        content.append(element("div", figure.name, class_="name"))
    return element("div", content, class_="tile")


def _arc(x: float, y: float, radius: float, begin: float, end: float) -> str:
    """A piece of the dial, from and to shares of it."""
    first, last = (math.radians(90 + (360 - SWEEP) / 2 + SWEEP * at) for at in (begin, end))
    large = 1 if last - first > math.pi else 0
    x1, y1, x2, y2 = x + radius * math.cos(first), y + radius * math.sin(first), x + radius * math.cos(last), y + radius * math.sin(last)
    return f"M{x1:.2f} {y1:.2f} A{radius:.2f} {radius:.2f} 0 {large} 1 {x2:.2f} {y2:.2f}"


# --- bar gauge -----------------------------------------------------------------------------------------------------------------

LEAST_BAR, LARGEST_BAR = 20.0, 44.0


def bar_gauge(body: Body) -> Markup:
    """A bar for each value, its name on the left and the figure on the right; what does not fit is counted."""
    found = reduced(body)
    if not found:
        return no_data(body)
    low, high = limits(found)
    room = int((body.height + 4) // (LEAST_BAR + 4))
    shown = found if len(found) <= room else found[: room - 1]
    height = min(LARGEST_BAR, (body.height + 4) / (len(shown) + (len(shown) < len(found))) - 4)
    figure_width = max(len(figure.text) for figure in shown) * 15 * GLYPH + 10
    name_width = min(max(len(figure.name) for figure in shown) * 12 * GLYPH + 10, body.width * 0.42)
    named = any(figure.name.strip() for figure in shown)
    lines: list[Content] = []
    for figure in shown:
        filled = f"width:{share(figure.value, low, high) * 100:.2f}%;background:{figure.colour}"
        track = element("div", element("div", class_="fill mark", style=filled), class_="track")
        value = element("div", figure.text, class_="value mark", style=f"width:{figure_width:.0f}px;color:{figure.colour}")
        name = element("div", figure.name, class_="label", style=f"width:{name_width:.0f}px")
        lines.append(element("div", [name, track, value] if named else [track, value], class_="bar", style=f"height:{height:.0f}px"))
    if len(shown) < len(found):
        lines.append(element("div", f"and {len(found) - len(shown)} more", class_="more", style=f"height:{height:.0f}px"))
    return element("div", lines, class_="bars")


def text(body: Body) -> Markup:
    """Its text as it is written, a paragraph an empty line."""
    paragraphs = str(body.option("content", "")).split("\n\n")
    return element("div", [element("p", paragraph, class_="mark") for paragraph in paragraphs], class_="text")
