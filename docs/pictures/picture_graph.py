"""Graphs over time: lines and bars, areas between two lines, thresholds, annotations, axes, legend."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from picture_colours import colour
from picture_data import Field
from picture_fields import Look
from picture_html import Content, Markup, element
from picture_panels import GLYPH, Body, Event, calculated, no_data

GRID, AXIS_TEXT = "rgba(204,204,220,0.09)", "rgba(204,204,220,0.75)"
FONT = 11.0
LEGEND_LINE = 19.0

Point = tuple[float, float]


class Series(NamedTuple):
    """A line: its name, how it is shown, and its pieces (seconds since 1970 and value) between gaps."""

    name: str
    look: Look
    pieces: list[list[Point]]
    field: Field

    @property
    def colour(self) -> str:
        """In CSS: of the palette unless the dashboard fixes it."""
        chosen = self.look.options.get("color", {})
        return colour(chosen["fixedColor"]) if chosen.get("mode") in ("fixed", "shades") else self.look_by_palette(chosen)

    def look_by_palette(self, chosen: dict[str, str]) -> str:
        """The colour where none is fixed: of the palette, or by threshold where the dashboard wishes it."""
        if chosen.get("mode") == "thresholds":
            return self.look.threshold(self.field.last())
        return Look({"color": {"mode": "palette-classic"}}, self.look.number, 0).colour()

    def values(self) -> Iterator[float]:
        """All of them."""
        return (value for piece in self.pieces for _, value in piece)

    def hidden_from(self, what: str) -> bool:
        """Whether the dashboard leaves it out of the `viz` or the `legend`."""
        return bool((self.look.custom("hideFrom") or {}).get(what))


class Scale(NamedTuple):
    """From values to pixels, upwards."""

    low: float
    high: float
    top: float
    bottom: float
    ticks: list[float]

    def y(self, value: float) -> float:
        """Where a value lies, kept inside the plot."""
        return self.bottom - (min(max(value, self.low), self.high) - self.low) / (self.high - self.low) * (self.bottom - self.top)


class Plot(NamedTuple):
    """The area between the axes."""

    left: float
    right: float
    start: float
    end: float

    def x(self, at: float) -> float:
        """Where a moment lies."""
        return self.left + (at - self.start) / (self.end - self.start) * (self.right - self.left)


def time_series(body: Body) -> Markup:
    """The graph and its legend."""
    series = _series(body)
    if not any(line.pieces for line in series):
        return no_data(body)
    legend, legend_height = _legend(body, [line for line in series if line.pieces and not line.hidden_from("legend")])
    height = body.height - legend_height
    drawn = [line for line in series if line.pieces and not line.hidden_from("viz")]
    left = [line for line in drawn if not _is_right(line, drawn)]
    right = [line for line in drawn if _is_right(line, drawn)]
    top, bottom = 6.0, height - 22
    scales = {side: _scale(lines, top, bottom) for side, lines in (("left", left), ("right", right)) if lines}
    margins = {side: _axis_width(scales[side], lines[0].look) for side, lines in (("left", left), ("right", right)) if lines}
    plot = Plot(margins.get("left", 8.0), body.width - margins.get("right", 8.0), body.start, body.end)
    parts: list[Content] = [_time_axis(plot, top, bottom)]
    for side, lines in (("left", left), ("right", right)):
        if lines:
            parts.append(_value_axis(scales[side], plot, lines[0].look, side, grid=side == "left" or "left" not in scales))
    parts += [_event(plot, event, top, bottom) for event in body.events]
    for side, lines in (("left", left), ("right", right)):
        parts += [_drawn(line, lines, plot, scales[side], body.step) for line in lines]
    for scale, lines in ((scales.get("left"), left), (scales.get("right"), right)):
        if scale and lines:
            parts.append(_thresholds(lines[0].look, plot, scale))
    graph = element("svg", parts, width=body.width, height=height)
    return element("div", [graph, legend], class_="graph")


def _series(body: Body) -> list[Series]:
    found: list[Series] = []
    for frame in body.frames:
        times = [float(at) / 1_000 for at in frame.fields[0].values if isinstance(at, float)]
        for field in frame.fields[1:]:
            look = body.look(field, len(found))
            gap = math.inf if look.custom("spanNulls") is True else body.step * 1.5
            pieces: list[list[Point]] = []
            for at, value in zip(times, field.drawable(), strict=True):
                if value is None:
                    continue
                if not pieces or at - pieces[-1][-1][0] > gap:
                    pieces.append([])
                pieces[-1].append((at, value))
            found.append(Series(str(look.options.get("displayName") or field.name), look, pieces, field))
    return _stacked(found, body.step)


def _stacked(series: list[Series], step: float) -> list[Series]:
    """Those that the dashboard stacks, each on the ones before it."""
    if not any((line.look.custom("stacking") or {}).get("mode") == "normal" for line in series):
        return series
    below: dict[float, float] = {}
    made = []
    for line in series:
        pieces = []
        for piece in line.pieces:
            lifted = []
            for at, value in piece:
                slot = at // step
                below[slot] = below.get(slot, 0.0) + value
                lifted.append((at, below[slot]))
            pieces.append(lifted)
        made.append(line._replace(pieces=pieces))
    # The highest first, so that the area of each shows.
    return made[::-1]


def _is_right(line: Series, lines: list[Series]) -> bool:
    placement = line.look.custom("axisPlacement", "auto")
    return placement == "right" or (placement == "auto" and line.look.options.get("unit") != lines[0].look.options.get("unit"))


# --- axes ----------------------------------------------------------------------------------------------------------------------


def _scale(lines: list[Series], top: float, bottom: float) -> Scale:
    values = [value for line in lines for value in line.values()]
    low, high = min(values), max(values)
    look = lines[0].look
    soft = [float(bound) for key in ("axisSoftMin", "axisSoftMax") if (bound := look.custom(key)) is not None]
    if (look.custom("thresholdsStyle") or {}).get("mode", "off") != "off":
        soft += [bound for bound in look.limits() if math.isfinite(bound)]
    low, high = min([low, *soft]), max([high, *soft])
    # Zero belongs to it unless everything is far from it; a flat line lies in the middle of something.
    if 0 < low < 0.6 * high or low == high > 0:
        low = 0.0
    if low == high:
        high = low + 1
    high += (high - low) * 0.05
    fixed_low, fixed_high = look.options.get("min"), look.options.get("max")
    low, high = (low if fixed_low is None else float(fixed_low)), (high if fixed_high is None else float(fixed_high))
    step = round_step((high - low) / max(2, (bottom - top) / 42), 1_024 if look.options.get("unit") == "bytes" else 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    return Scale(ticks[0], ticks[-1], top, bottom, ticks)


def round_step(wanted: float, base: int = 10) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of the base."""
    power = float(base) ** math.floor(math.log(wanted, base) + 1e-9)
    steps = (1, 2, 2.5, 5, 10) if base == 10 else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
    return next((step * power for step in steps if step * power >= wanted * (1 - 1e-9)), wanted)


def tick_text(look: Look, tick: float) -> str:
    """A value on an axis: without the zeros that tell nothing there."""
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda match: match[1].rstrip("."), look.text(tick))


def _axis_width(scale: Scale, look: Look) -> float:
    return max(len(tick_text(look, tick)) for tick in scale.ticks) * FONT * GLYPH + 12


def _value_axis(scale: Scale, plot: Plot, look: Look, side: str, *, grid: bool) -> Markup:
    parts: list[Content] = []
    for tick in scale.ticks:
        y = scale.y(tick)
        if grid:
            parts.append(element("line", x1=plot.left, x2=plot.right, y1=y, y2=y, stroke=GRID))
        x, anchor = (plot.left - 7, "end") if side == "left" else (plot.right + 7, "start")
        parts.append(element("text", tick_text(look, tick), x=x, y=y + 4, text_anchor=anchor, class_="axis"))
    return element("g", parts)


TIME_STEPS = (60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800, 1_209_600, 2_592_000)


def _time_axis(plot: Plot, top: float, bottom: float) -> Markup:
    wanted = (plot.end - plot.start) / max(2, (plot.right - plot.left) / 80)
    step = next((step for step in TIME_STEPS if step >= wanted), TIME_STEPS[-1])
    pattern = "%m/%d" if step >= 86_400 else "%m/%d %H:%M" if plot.end - plot.start > 86_400 * 2 else "%H:%M"
    parts: list[Content] = []
    at = math.ceil(plot.start / step) * step
    while at <= plot.end:
        x = plot.x(at)
        text = f"{datetime.fromtimestamp(at, UTC):{pattern}}"
        half = len(text) * FONT * GLYPH / 2
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, stroke=GRID))
        if plot.left - 30 <= x - half and x + half <= plot.right + 4:
            parts.append(element("text", text, x=x, y=bottom + 16, text_anchor="middle", class_="axis"))
        at += step
    return element("g", parts)


def _event(plot: Plot, event: Event, top: float, bottom: float) -> Markup:
    start, colour = max(event.start, plot.start), event.colour
    x, width = plot.x(start), max(plot.x(min(event.end, plot.end)) - plot.x(start), 1.0)
    parts = [
        element("title", event.text),
        element("rect", x=x, y=bottom, width=width, height=2.5, fill=colour, opacity=0.5),
        element("line", x1=x, x2=x, y1=top, y2=bottom, stroke=colour, stroke_dasharray="3 4", opacity=0.45),
        element("path", d=f"M{x - 4:.1f} {bottom + 5:.1f} L{x + 4:.1f} {bottom + 5:.1f} L{x:.1f} {bottom:.1f} Z", fill=colour),
    ]
    return element("g", parts, class_="event")


def _thresholds(look: Look, plot: Plot, scale: Scale) -> Markup:
    mode = (look.custom("thresholdsStyle") or {}).get("mode", "off")
    parts: list[Content] = []
    for step, limit in zip(look.steps(), look.limits(), strict=True):
        if mode != "off" and math.isfinite(limit) and scale.low <= limit <= scale.high:
            y, chosen = scale.y(limit), colour(step["color"])
            dashes = "6 5" if "dashed" in mode else None
            if "line" in mode or "dashed" in mode:
                parts.append(element("line", x1=plot.left, x2=plot.right, y1=y, y2=y, stroke=chosen, stroke_dasharray=dashes, opacity=0.8))
            if "area" in mode:
                parts.append(
                    element("rect", x=plot.left, y=scale.top, width=plot.right - plot.left, height=y - scale.top, fill=chosen, opacity=0.07)
                )
    return element("g", parts)


# --- lines ---------------------------------------------------------------------------------------------------------------------


def _drawn(line: Series, lines: list[Series], plot: Plot, scale: Scale, step: float) -> Markup:
    custom = line.look.custom
    if custom("drawStyle", "line") == "bars":
        return element("g", [_bar(at, value, line, plot, scale, step) for piece in line.pieces for at, value in piece])
    parts: list[Content] = []
    opacity, width = float(custom("fillOpacity") or 0) / 100, float(custom("lineWidth", 1))
    lower = custom("fillBelowTo")
    partner = next((other for other in lines if other.name == lower), None) if lower else None
    style = custom("lineStyle") or {}
    dashes = {"dash": " ".join(map(str, style.get("dash") or (10, 10))), "dot": "0 5"}.get(style.get("fill", ""))
    for piece in line.pieces:
        corners = _corners(piece, str(custom("lineInterpolation", "linear")))
        points = " L".join(f"{plot.x(at):.1f} {scale.y(value):.1f}" for at, value in corners)
        if len(piece) == 1 and not partner:
            # Grafana leaves out what is alone between gaps; a picture that hid it would say that there is nothing.
            x, y = plot.x(piece[0][0]), scale.y(piece[0][1])
            parts.append(element("circle", cx=x, cy=y, r=2.5, fill=line.colour, class_="mark"))
            continue
        if partner:
            parts.append(_band(piece, partner, plot, scale, line.colour, opacity or 0.15))
        elif opacity:
            zero = scale.y(max(scale.low, min(0.0, scale.high)))
            area = f"M{points} L{plot.x(piece[-1][0]):.1f} {zero:.1f} L{plot.x(piece[0][0]):.1f} {zero:.1f} Z"
            parts.append(element("path", d=area, fill=line.colour, opacity=opacity))
        if width:
            parts.append(
                element(
                    "path",
                    d=f"M{points}",
                    stroke=line.colour,
                    fill="none",
                    stroke_width=width * 1.2,
                    stroke_dasharray=dashes,
                    stroke_linejoin="round",
                    stroke_linecap="round" if dashes == "0 5" else None,
                    class_="mark",
                )
            )
        if custom("showPoints") == "always":
            parts += [element("circle", cx=plot.x(at), cy=scale.y(value), r=2.0, fill=line.colour) for at, value in piece]
    return element("g", parts)


def _corners(piece: list[Point], interpolation: str) -> list[Point]:
    if interpolation not in ("stepAfter", "stepBefore"):
        return piece
    corners = piece[:1]
    for (before, old), (at, value) in pairwise(piece):
        corners += [(at, old) if interpolation == "stepAfter" else (before, value), (at, value)]
    return corners


def _band(piece: list[Point], partner: Series, plot: Plot, scale: Scale, colour: str, opacity: float) -> Content:
    """The area down to another line, at the moments that both have."""
    lower = {at: value for other in partner.pieces for at, value in other}
    both = [(at, value) for at, value in piece if at in lower]
    if not both:
        return ""
    up = " L".join(f"{plot.x(at):.1f} {scale.y(value):.1f}" for at, value in both)
    down = " L".join(f"{plot.x(at):.1f} {scale.y(lower[at]):.1f}" for at, _ in reversed(both))
    return element("path", d=f"M{up} L{down} Z", fill=colour, opacity=opacity, class_="mark")


def _bar(at: float, value: float, line: Series, plot: Plot, scale: Scale, step: float) -> Markup:
    width = max(1.0, (plot.x(plot.start + step) - plot.x(plot.start)) * 0.7)
    zero, y = scale.y(max(scale.low, min(0.0, scale.high))), scale.y(value)
    x = min(max(plot.left, plot.x(at) - width / 2), plot.right - width)
    return element("rect", x=x, y=min(zero, y), width=width, height=abs(zero - y), fill=line.colour, opacity=0.9, class_="mark")


# --- legend --------------------------------------------------------------------------------------------------------------------

CALCS = {"lastNotNull": "Last *", "last": "Last", "max": "Max", "min": "Min", "mean": "Mean", "sum": "Total"}


def _legend(body: Body, lines: list[Series]) -> tuple[Content, float]:
    """The legend, and how much of the panel's height it takes."""
    options = body.panel.get("options", {}).get("legend", {})
    if not options.get("showLegend", True) or not lines:
        return "", 0.0
    calcs = options.get("calcs") or []
    if options.get("displayMode") != "table":
        return element("div", [_entry(line) for line in lines], class_="legend-list"), LEGEND_LINE + 4
    room = max(1, int(body.height * 0.42 // LEGEND_LINE) - 1)
    shown = lines if len(lines) <= room else lines[: max(room - 1, 1)]
    rows: list[Content] = [element("tr", [element("th"), *(element("th", CALCS[calc], class_="number") for calc in calcs)])]
    for line in shown:
        figures = [element("td", line.look.text(calculated(line.field, calc)), class_="number") for calc in calcs]
        rows.append(element("tr", [element("td", _entry(line)), *figures]))
    if len(shown) < len(lines):
        rows.append(element("tr", element("td", f"and {len(lines) - len(shown)} more", class_="more-lines")))
    return element("table", rows, class_="legend"), LEGEND_LINE * len(rows) + 4


def _entry(line: Series) -> Markup:
    return element("span", [element("i", style=f"background:{line.colour}"), line.name], class_="entry")
