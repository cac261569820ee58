"""What the queries of a panel find: frames, as Grafana makes them of the answers of Prometheus's HTTP API."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

LARGEST = 1e100
"""No sum or product of what is smaller leaves the numbers of a computer."""

Document = dict[str, Any]
Cell = float | str | None


@dataclass
class Field:
    """A column: of text, of numbers, or of moments (milliseconds since 1970)."""

    name: str
    values: list[Cell]
    kind: str
    """`time`, `number` or `string`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    ref_id: str = ""

    def numbers(self) -> list[float | None]:
        """The values, what is no number as None."""
        return [value if isinstance(value, float) and not math.isnan(value) else None for value in self.values]

    def drawable(self) -> list[float | None]:
        """The values that have a place on an axis; the infinite, and what is as good as that, as None."""
        numbers = (value if value is not None and abs(value) < LARGEST else None for value in self.numbers())
        return [0.0 if value and abs(value) < 1 / LARGEST else value for value in numbers]

    def last(self) -> float | None:
        """The last value that is one: `lastNotNull`."""
        return next((value for value in reversed(self.numbers()) if value is not None), None)


@dataclass
class Frame:
    """Columns of one length: a series (time and one number), or a table."""

    fields: list[Field]
    ref_id: str = ""

    def __len__(self) -> int:
        return len(self.fields[0].values) if self.fields else 0

    def rows(self) -> list[tuple[Cell, ...]]:
        """The lines of it."""
        return list(zip(*(column.values for column in self.fields), strict=True))


class QueryFailed(Exception):
    """Prometheus did not answer a query, and why."""


class Prometheus:
    """The HTTP API of one, asked for what a dashboard shows from `start` to `end` (seconds since 1970)."""

    def __init__(self, url: str, start: float, end: float, scrape_interval: float = 15) -> None:
        self.url = url.rstrip("/")
        self.start, self.end = start, end
        self.scrape_interval = scrape_interval
        # Loopback, mostly; and no credentials of the environment go anywhere.
        self.http = httpx.Client(trust_env=False, timeout=60)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def frames(self, target: Document, variables: Mapping[str, str], *, several: bool, points: int) -> list[Frame]:
        """What a query finds; `several` where its panel has more than one, `points` is the width of the panel. Raises `QueryFailed`."""
        step = self.step(points, least_interval([target]))
        expression = substituted(target["expr"], {**variables, **self._intervals(step, least_interval([target]) or self.scrape_interval)})
        if target.get("instant"):
            series = self.ask("query", query=expression, time=self.end)
        else:
            # Grafana aligns the range to the step, so that a refresh moves no point.
            start, end = self.start // step * step, self.end // step * step
            series = self.ask("query_range", query=expression, start=start, end=end, step=step)
        ref_id = target.get("refId", "A")
        if target.get("format") == "table":
            return [_table(series, ref_id, f"Value #{ref_id}" if several else "Value")]
        return [_series(found, ref_id, _name(found["metric"], target.get("legendFormat", ""))) for found in series]

    def label_values(self, metric: str, label: str) -> list[str]:
        """What Grafana's `label_values(metric, label)` offers, in order."""
        found = self.ask(f"label/{label}/values", **{"match[]": metric}, start=self.start, end=self.end)
        return sorted(str(value) for value in found)

    def ask(self, path: str, **parameters: Any) -> list[Any]:
        """The result of an endpoint below /api/v1. Raises `QueryFailed`."""
        try:
            # Queries are longer than a URL may be.
            url = f"{self.url}/api/v1/{path}"
            answer = self.http.post(url, data=parameters) if path.startswith("query") else self.http.get(url, params=parameters)
            document: Document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise QueryFailed(f"{self.url}: {error}") from error
        if document.get("status") != "success":
            raise QueryFailed(f"{parameters.get('query', path)}: {document.get('error', f'HTTP {answer.status_code}')}")
        data = document["data"]
        if isinstance(data, list):
            return data
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        result: list[Any] = data["result"]
        return result

    def step(self, points: int, least: float = 0) -> float:
        """Seconds from a point to the next: a round number of which about `points` fill the range, as Grafana's `$__interval`.

        `least` is what the query allows, in place of the scrape interval.
        """
        wanted = max((self.end - self.start) / max(points, 1), least or self.scrape_interval)
        return next((float(step) for step in ROUND_STEPS if step >= wanted), math.ceil(wanted / 86_400) * 86_400.0)

    def _intervals(self, step: float, scrape_interval: float) -> dict[str, str]:
        seconds = math.ceil(self.end - self.start)
        return {
            "__interval": f"{step:.0f}s",
            "__interval_ms": f"{step * 1_000:.0f}",
            "__rate_interval": f"{max(step + scrape_interval, 4 * scrape_interval):.0f}s",
            "__range": f"{seconds}s",
            "__range_s": str(seconds),
            "__range_ms": str(seconds * 1_000),
        }


def least_interval(targets: Sequence[Document]) -> float:
    """Seconds that lie between two points of these queries at least; 0 where they do not say."""
    return max(
        (float(target["interval"][:-1]) * SECONDS_OF[target["interval"][-1]] for target in targets if target.get("interval")), default=0.0
    )


SECONDS_OF = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
ROUND_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """`$name`, `${name}` and `${name:format}` replaced. Raises `QueryFailed` for a variable that nobody has set."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in variables:
            raise QueryFailed(f"{text}: there is no variable ${name}")
        return variables[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})", value, text)


def variables_of(dashboard: Document, prometheus: Prometheus) -> dict[str, str]:
    """The variables of a dashboard as they are when it is opened: what is chosen, and where that is All, its `allValue` or every value."""
    found = {}
    for variable in dashboard.get("templating", {}).get("list", ()):
        current = variable.get("current", {}).get("value", variable.get("query"))
        chosen = [str(value) for value in current] if isinstance(current, list) else [str(current)]
        if variable["type"] == "datasource":
            chosen = ["prometheus"]
        elif "$__all" in chosen:
            chosen = [variable["allValue"]] if variable.get("allValue") else _offered(variable, prometheus)
        found[variable["name"]] = chosen[0] if len(chosen) == 1 else f"({'|'.join(map(re.escape, chosen))})"
    return found


def _offered(variable: Document, prometheus: Prometheus) -> list[str]:
    query = variable["query"]["query"] if isinstance(variable["query"], dict) else str(variable["query"])
    wanted = re.fullmatch(r"label_values\((.+), *(\w+)\)", query)
    return prometheus.label_values(wanted[1], wanted[2]) if wanted else query.split(",")


def _name(metric: Mapping[str, str], legend: str) -> str:
    if legend and legend != "__auto":
        return re.sub(r"{{\s*(\w+)\s*}}", lambda match: metric.get(match[1], ""), legend).strip()
    labels = ", ".join(f'{key}="{value}"' for key, value in sorted(metric.items()) if key != "__name__")
    return metric.get("__name__", "") + (f"{{{labels}}}" if labels or "__name__" not in metric else "")


def _series(found: Document, ref_id: str, name: str) -> Frame:
    samples: Sequence[tuple[float, str]] = found.get("values") or [found["value"]]
    times: list[Cell] = [float(at) * 1_000 for at, _ in samples]
    values: list[Cell] = [float(value) for _, value in samples]
    return Frame([Field("Time", times, "time"), Field(name, values, "number", found["metric"], ref_id)], ref_id)


def _table(series: Sequence[Document], ref_id: str, value_name: str) -> Frame:
    samples = [(found["metric"], sample) for found in series for sample in found.get("values") or [found["value"]]]
    labels = sorted({label for metric, _ in samples for label in metric})
    columns = [Field(label, [metric.get(label) for metric, _ in samples], "string", ref_id=ref_id) for label in labels]
    times: list[Cell] = [float(at) * 1_000 for _, (at, _value) in samples]
    values: list[Cell] = [float(value) for _, (_at, value) in samples]
    figure = Field(value_name, values, "number", ref_id=ref_id)
    return Frame([Field("Time", times, "time"), *columns, figure], ref_id)
