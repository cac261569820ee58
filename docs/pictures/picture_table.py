"""The table panel: lines in the order of a column, cells with units, coloured where the dashboard says so."""

from picture_data import Cell, Field
from picture_fields import Look, sorted_by
from picture_html import Content, Markup, element
from picture_panels import Body, no_data, share

LINE, HEAD = 30.0, 32.0
"""Heights in pixels."""


def table(body: Body) -> Markup:
    """The first frame that has lines; those that do not fit are counted, where Grafana would scroll."""
    frame = next((frame for frame in body.frames if len(frame)), None)
    if frame is None:
        return no_data(body)
    for wish in _wishes(body):
        frame = sorted_by(frame, str(wish["displayName"]), descending=bool(wish.get("desc")))
    columns = [(field, body.look(field, number)) for number, field in enumerate(frame.fields)]
    columns = [(field, look) for field, look in columns if not look.custom("hidden") and not look.custom("hideFrom", {}).get("viz")]
    room = int((body.height - HEAD) // LINE)
    count = len(frame) if len(frame) <= room else max(room - 1, 1)
    heads = [element("th", str(look.options.get("displayName") or field.name), class_=field.kind) for field, look in columns]
    lines: list[Content] = [
        element("tr", [_cell(field, look, field.values[index]) for field, look in columns], class_="line") for index in range(count)
    ]
    widths = [element("col", style=f"width:{width:.2f}%") for width in _widths(columns, count)]
    content = [element("colgroup", widths), element("thead", element("tr", heads)), element("tbody", lines)]
    found: list[Content] = [element("table", content)]
    if count < len(frame):
        found.append(element("div", f"and {len(frame) - count} more", class_="more"))
    return element("div", found, class_="table")


def _widths(columns: list[tuple[Field, Look]], count: int) -> list[float]:
    """Percentages by what the cells hold, neither the narrowest nor the widest by all of it. Grafana gives each the same."""
    longest = [max([len(field.name), *(len(look.text(value)) for value in field.values[:count])]) for field, look in columns]
    weights = [min(max(length, 7), 34) + 2 for length in longest]
    return [100 * weight / sum(weights) for weight in weights]


def _wishes(body: Body) -> list[dict[str, object]]:
    wishes = body.option("sortBy", [])
    return list(reversed(wishes)) if isinstance(wishes, list) else []


def _cell(field: Field, look: Look, value: Cell) -> Markup:
    text = look.text(value)
    options = look.custom("cellOptions", {})
    kind, colour = options.get("type", "auto"), look.colour(value)
    if value is None:
        kind = "auto"
    style = None
    content: Content = text
    if kind == "color-background":
        style = f"background:{colour};color:#ffffff"
    elif kind == "color-text":
        style = f"color:{colour}"
    elif kind == "gauge" and isinstance(value, float):
        high = float(look.options.get("max") or max((number for number in field.numbers() if number is not None), default=1) or 1)
        filled = f"width:{share(value, float(look.options.get('min') or 0), high) * 100:.1f}%;background:{colour}"
        bar = element("div", element("div", class_="fill", style=filled), class_="track")
        content = element("div", [bar, element("span", text, style=f"color:{colour}")], class_="cell-gauge")
    return element("td", content, class_=f"{field.kind} mark" if text else field.kind, style=style)
