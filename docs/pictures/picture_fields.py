"""What a panel makes of its frames: transformations, and for each column or series its unit, colours and name."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from picture_colours import colour, of_series
from picture_data import Cell, Document, Field, Frame
from picture_units import formatted

# --- transformations -----------------------------------------------------------------------------------------------------------


def transformed(frames: list[Frame], transformations: Iterable[Document]) -> list[Frame]:
    """The frames after each transformation in turn. Raises `ValueError` for one that is not known here."""
    for transformation in transformations:
        if transformation.get("disabled"):
            continue
        kind = transformation["id"]
        if kind not in TRANSFORMATIONS:
            raise ValueError(f"there is no picture of the transformation {kind!r}: add it to {__name__}")
        frames = TRANSFORMATIONS[kind](frames, transformation.get("options") or {})
    return frames


def merge(frames: list[Frame], _options: Document) -> list[Frame]:
    """One table: lines that agree in all the columns that their frames share become one line."""
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return []
    columns: dict[str, Field] = {}
    for frame in frames:
        for column in frame.fields:
            columns.setdefault(column.name, column)
    shared = {column.name for column in frames[0].fields}.intersection(*({column.name for column in frame.fields} for frame in frames[1:]))
    lines: list[dict[str, Cell]] = []
    by_key: dict[tuple[Cell, ...], list[dict[str, Cell]]] = {}
    for frame in frames:
        names = [column.name for column in frame.fields]
        for row in frame.rows():
            line = dict(zip(names, row, strict=True))
            alike = by_key.setdefault(tuple(line[name] for name in sorted(shared)), [])
            match = next((other for other in alike if all(other.get(name, line[name]) == line[name] for name in names)), None)
            if match is None:
                alike.append(line)
                lines.append(line)
            else:
                match.update(line)
    return [Frame([Field(name, [line.get(name) for line in lines], column.kind, column.labels) for name, column in columns.items()])]


def organize(frames: list[Frame], options: Document) -> list[Frame]:
    """Columns left out, put in order and renamed."""
    left_out, order, names = options.get("excludeByName", {}), options.get("indexByName", {}), options.get("renameByName", {})
    kept = []
    for frame in frames:
        fields = [column for column in frame.fields if not left_out.get(column.name)]
        fields.sort(key=lambda column: order.get(column.name, len(order)))
        renamed = [Field(names.get(column.name) or column.name, column.values, column.kind, column.labels) for column in fields]
        kept.append(Frame(renamed, frame.ref_id))
    return kept


def sort_by(frames: list[Frame], options: Document) -> list[Frame]:
    """Lines in the order of a column, what is missing last."""
    for wish in reversed(options.get("sort", ())):
        frames = [sorted_by(frame, wish["field"], descending=bool(wish.get("desc"))) for frame in frames]
    return frames


def sorted_by(frame: Frame, name: str, *, descending: bool) -> Frame:
    """The lines of a frame in the order of the column of that name; as they were where it has none."""
    column = next((column for column in frame.fields if column.name == name), None)
    if column is None:
        return frame
    present = [index for index, value in enumerate(column.values) if value is not None]
    present.sort(key=lambda index: _sort_key(column.values[index]), reverse=descending)
    order = present + [index for index, value in enumerate(column.values) if value is None]
    return Frame([_picked(field, order) for field in frame.fields], frame.ref_id)


def _sort_key(value: Cell) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, value or 0.0, "")


def limit(frames: list[Frame], options: Document) -> list[Frame]:
    """The first lines."""
    count = int(options.get("limitField", 10))
    return [Frame([_picked(column, range(min(count, len(frame)))) for column in frame.fields], frame.ref_id) for frame in frames]


def _picked(column: Field, indices: Iterable[int]) -> Field:
    return Field(column.name, [column.values[index] for index in indices], column.kind, column.labels, column.ref_id)


def labels_to_fields(frames: list[Frame], _options: Document) -> list[Frame]:
    """Labels of series as columns beside their value."""
    made = []
    for frame in frames:
        labels = {name: value for column in frame.fields for name, value in column.labels.items()}
        texts = [Field(name, [value] * len(frame), "string") for name, value in labels.items()]
        figures = [Field("Value" if column.labels else column.name, column.values, column.kind) for column in frame.fields]
        made.append(Frame([*figures[:1], *texts, *figures[1:]], frame.ref_id))
    return merge(made, {})


def filter_fields(frames: list[Frame], options: Document) -> list[Frame]:
    """Columns that are named, or whose name a pattern matches."""
    include = options.get("include", {})
    names, pattern = include.get("names", ()), include.get("pattern", "")

    def wanted(column: Field) -> bool:
        return column.name in names or bool(pattern and re.search(pattern.strip("/"), column.name))

    return [Frame([column for column in frame.fields if wanted(column)], frame.ref_id) for frame in frames]


TRANSFORMATIONS: dict[str, Callable[[list[Frame], Document], list[Frame]]] = {
    "merge": merge,
    "organize": organize,
    "sortBy": sort_by,
    "limit": limit,
    "labelsToFields": labels_to_fields,
    "filterFieldsByName": filter_fields,
}

# --- configuration of fields ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """How one column or series is shown: the defaults of the panel and what overrides them."""

    options: Document
    number: int
    """Of its series, for the palette."""
    now: float

    def custom(self, key: str, default: Any = None) -> Any:
        """An option of the kind of panel: `lineWidth`, `fillBelowTo`."""
        return self.options.get("custom", {}).get(key, default)

    def text(self, value: Cell) -> str:
        """The value with its unit, or what a mapping puts in its place."""
        mapped = self._mapping(value).get("text")
        if mapped is not None:
            return str(mapped)
        if not isinstance(value, float):
            return "" if value is None else value
        return formatted(value, self.options.get("unit") or "none", self.options.get("decimals"), self.now)

    def colour(self, value: Cell = None) -> str:
        """The colour of a value: by mapping, by fixed colour, by threshold or by the palette."""
        mapped = self._mapping(value).get("color")
        if mapped:
            return colour(mapped)
        chosen = self.options.get("color", {})
        mode = chosen.get("mode", "thresholds")
        if mode == "fixed":
            return colour(chosen.get("fixedColor", "green"))
        return of_series(self.number) if mode.startswith("palette") else self.threshold(value)

    def threshold(self, value: Cell) -> str:
        """The colour of the highest step that a value reaches."""
        reached = [step for step, at in zip(self.steps(), self.limits(), strict=True) if isinstance(value, float) and value >= at]
        return colour((reached or self.steps())[-1 if reached else 0]["color"])

    def steps(self) -> list[Document]:
        """The thresholds, lowest first."""
        found: list[Document] = self.options.get("thresholds", {}).get("steps") or [{"color": "green", "value": None}]
        return found

    def limits(self) -> list[float]:
        """Where each of `steps` begins; of percentages, in values of the field."""
        at = [float("-inf") if step.get("value") is None else float(step["value"]) for step in self.steps()]
        if self.options.get("thresholds", {}).get("mode") != "percentage":
            return at
        low, high = float(self.options.get("min") or 0), float(self.options.get("max") or 100)
        return [low + (high - low) * share / 100 for share in at]

    def _mapping(self, value: Cell) -> Document:
        for mapping in self.options.get("mappings") or ():
            options: Document = mapping["options"]
            result: Document | None = None
            if mapping["type"] == "value":
                written = f"{value:g}" if isinstance(value, float) else str(value)
                result = options.get(written)
            elif mapping["type"] == "range" and isinstance(value, float):
                low, high = options.get("from"), options.get("to")
                result = options["result"] if (low is None or value >= low) and (high is None or value <= high) else None
            elif mapping["type"] == "special":
                result = options["result"] if options["match"] in ("null", "null+nan") and value is None else None
            elif mapping["type"] == "regex":
                result = options["result"] if isinstance(value, str) and re.search(options["pattern"].strip("/"), value) else None
            if result is not None:
                return result
        return {}


def look(panel: Document, field: Field, number: int, now: float) -> Look:
    """How a field of a panel is shown. Raises `ValueError` for an override that matches by something not known here."""
    options = _deep_copy(panel.get("fieldConfig", {}).get("defaults", {}))
    for override in panel.get("fieldConfig", {}).get("overrides", ()):
        if _matches(override["matcher"], field):
            for setting in override["properties"]:
                _set(options, setting["id"].split("."), setting.get("value"))
    return Look(options, number, now)


def _matches(matcher: Document, field: Field) -> bool:
    kind, wanted = matcher["id"], matcher.get("options")
    if kind == "byName":
        return field.name == wanted
    if kind == "byRegexp":
        return re.search(str(wanted).strip("/"), field.name) is not None
    if kind == "byFrameRefID":
        return field.ref_id == wanted
    if kind == "byType":
        return field.kind == wanted
    raise ValueError(f"there is no picture of overrides {kind!r}: add them to {__name__}")


def _set(options: Document, path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        options = options.setdefault(part, {})
    options[last] = value


def _deep_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deep_copy(item) for key, item in value.items()}
    return [_deep_copy(item) for item in value] if isinstance(value, list) else value


def figures(frames: list[Frame]) -> list[Field]:
    """The columns of numbers of all frames."""
    return [column for frame in frames for column in frame.fields if column.kind == "number"]
