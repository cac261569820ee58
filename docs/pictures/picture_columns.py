"""The bar chart: a group of columns for each value of a column of text."""

from picture_colours import of_series
from picture_fields import Look
from picture_graph import GRID, LEGEND_LINE, Plot, Scale, round_step, tick_text
from picture_html import Content, Markup, element
from picture_panels import GLYPH, Body, no_data

NARROWEST = 16.0
"""Pixels that a group of columns has at least; those that do not fit are counted."""


def bar_chart(body: Body) -> Markup:
    """The first frame that has lines: a group a line, a column in it for each column of numbers."""
    frame = next((frame for frame in body.frames if len(frame)), None)
    if frame is None:
        return no_data(body)
    name = body.option("xField")
    across = next((field for field in frame.fields if field.name == name), None) or next(f for f in frame.fields if f.kind != "number")
    figures = [field for field in frame.fields if field.kind == "number"]
    looks = [body.look(field, number) for number, field in enumerate(figures)]
    count = min(len(frame), max(1, int(body.width // NARROWEST)))
    heights = [field.drawable()[:count] for field in figures]
    values = [value for found in heights for value in found if value is not None]
    if not values:
        return no_data(body)
    named = len(figures) > 1
    top, bottom = 18.0, body.height - 22 - (LEGEND_LINE if named else 0)
    low, high = min(0.0, *values), max(0.0, *values) or 1.0
    step = round_step((high - low) * 1.02 / max(2, (bottom - top) / 42))
    ticks = [number * step for number in range(int(low // step), int(-(-high * 1.02 // step)) + 1)]
    scale = Scale(ticks[0], ticks[-1], top, bottom, ticks)
    left = max(len(tick_text(looks[0], tick)) for tick in ticks) * 11 * GLYPH + 12
    plot = Plot(left, body.width - 8, 0, count)
    parts: list[Content] = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(element("line", x1=left, x2=plot.right, y1=y, y2=y, stroke=GRID))
        parts.append(element("text", tick_text(looks[0], tick), x=left - 7, y=y + 4, text_anchor="end", class_="axis"))
    group = plot.x(1) - plot.x(0)
    width = group * 0.76 / len(figures)
    fits = max(3, int(group / (11 * GLYPH)))
    for index in range(count):
        for number, (found, look) in enumerate(zip(heights, looks, strict=True)):
            value = found[index]
            if value is not None:
                x = plot.x(index) + group * 0.12 + number * width
                parts += _column(value, x, width, scale, look, number, labelled=width > len(look.text(value)) * 11 * GLYPH)
        label = str(across.values[index] or "")
        label = label if len(label) <= fits else f"{label[: fits - 1]}…"
        parts.append(element("text", label, x=plot.x(index) + group / 2, y=bottom + 16, text_anchor="middle", class_="axis"))
    if count < len(frame):
        parts.append(element("text", f"and {len(frame) - count} more", x=plot.right, y=12.0, text_anchor="end", class_="axis"))
    graph = element("svg", parts, width=body.width, height=bottom + 22)
    entries = [
        element("span", [element("i", style=f"background:{of_series(number)}"), field.name], class_="entry")
        for number, field in enumerate(figures)
    ]
    return element("div", [graph, element("div", entries, class_="legend-list")] if named else graph, class_="graph")


def _column(value: float, x: float, width: float, scale: Scale, look: Look, number: int, *, labelled: bool) -> list[Markup]:
    zero, y = scale.y(0.0), scale.y(value)
    by_palette = look.options.get("color", {}).get("mode", "palette").startswith("palette")
    colour = of_series(number) if by_palette else look.colour(value)
    parts = [element("rect", x=x, y=min(zero, y), width=width, height=max(abs(zero - y), 1.0), fill=colour, rx=2.0, class_="mark")]
    if labelled:
        parts.append(element("text", look.text(value), x=x + width / 2, y=min(zero, y) - 5, text_anchor="middle", class_="axis value-text"))
    return parts
