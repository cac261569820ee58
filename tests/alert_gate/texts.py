"""The templates in labels and annotations: which labels they write, what they ask Prometheus, what they must not hold."""

import json
import re
from collections.abc import Iterator, Mapping

import promql_parser
from promql import Labels, Series, read

# A label is part of an alert's identity: with a value in it, every evaluation would end one alert and begin another.
_VALUE = re.compile(r"\$value|\.Value|\bquery\b|humanize|printf")

_STRING = r'("(?:[^"\\]|\\.)*"|`[^`]*`)'
_QUERIES = re.compile(rf"printf\s+{_STRING}[^|]*\|\s*query\b|\bquery\s+{_STRING}|\bquery\s*\(\s*printf\s+{_STRING}")


def faults(labels: Mapping[str, str], annotations: Mapping[str, str], known: Labels | None, series: Series) -> Iterator[str]:
    """What is wrong with the templates of an alert whose result has the labels `known`, or nobody knows which."""
    yield from (f"has a value in the label {label}" for label, text in labels.items() if _VALUE.search(text))
    named = {label for text in (*labels.values(), *annotations.values()) for label in re.findall(r"\$labels\.(\w+)", text)}
    if known is not None:
        yield from (f"writes the label {label}, which it never has" for label in sorted(named - known))
    if "{{" in annotations.get("condition", ""):
        yield "has a template in the annotation condition, which a table shows as it is"
    for annotation, text in annotations.items():
        for action in re.findall(r"{{-?(.*?)-?}}", text, re.DOTALL):
            of_a_job = known is not None and "job" in known
            yield from (f"{fault} in the annotation {annotation}" for fault in _action_faults(action, series, of_a_job))


def _action_faults(action: str, series: Series, of_a_job: bool) -> Iterator[str]:
    found = list(_QUERIES.finditer(action))
    if len(found) != len(re.findall(r"\bquery\b", action)):
        yield "asks a query that nobody can read before it runs"
    if found and re.search(r"\bfirst\b", action):
        yield "takes the first of what may be nothing"
    for match in found:
        literal = next(group for group in match.groups() if group)
        expression = literal[1:-1] if literal.startswith("`") else json.loads(literal)
        if re.search(r"%[^q%]", expression):
            yield "writes a label into a query without %q, which quotes it"
            continue
        # No letters: what stands there in the end may be any value.
        expression = expression.replace("%q", '"…"').replace("%%", "%")
        reading = read(expression, series)
        yield from (f"asks what {fault}" for fault in reading.faults)
        if of_a_job and not reading.faults:
            yield from (
                f"asks for {name} of any job, and may tell the figure of another costwarden" for name in _of_any_job(expression, series)
            )


def _of_any_job(expression: str, series: Series) -> list[str]:
    """The series that a query asks for whichever job has them."""
    found: list[str] = []

    def visit(node: object) -> bool:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector) and "job" in series[selector.name]:
            found.extend([selector.name] if all(matcher.name != "job" for matcher in selector.matchers.matchers) else [])
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return list(dict.fromkeys(found))
