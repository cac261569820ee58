"""What the export holds instead of what ships, where `values.yaml` says so: a pure function from values to texts."""

import re
from pathlib import Path, PurePath

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.files import VALUES
from costwarden.artifacts.timing import SEVERITIES
from costwarden.artifacts.values import Values, ValuesError, load_values

ROUTES = PurePath("alertmanager/alertmanager.yaml")
TEXTS = PurePath("alertmanager/templates/values.tmpl")

JOB = "costwarden"
"""The `job` that what ships names."""

NAMES_JOB = ("alerts/*.rules.yaml", "alerts/*.md", "dashboards/*.jsonnet", "dashboards/json/*.json")
"""What ships and names it."""


def rendered(values: Values, root: Path) -> dict[PurePath, str]:
    """The files that differ from the ones that ship under `root`: path within the export to text.

    The default values give an empty dict, because the shipped files are rendered from them.
    """
    texts = {ROUTES: alertmanager_yaml(values), TEXTS: values_tmpl(values)}
    for path in sorted(path for pattern in NAMES_JOB for path in root.glob(pattern)):
        texts[PurePath(path.relative_to(root))] = with_job(path.read_text(encoding="utf-8"), values.prometheus.job)
    return {path: text for path, text in texts.items() if text != (root / path).read_text(encoding="utf-8")}


def rendered_from(path: Path, root: Path) -> dict[PurePath, str]:
    """As `rendered`, from the file `path`, which itself takes the place of the example. Raises `ValuesError`.

    So an export says what it was rendered from, and its own copy is the one to edit and to render again.
    """
    values = load_values(path)
    _check_alerts(values, path, root)
    # As it stands, line ends and all: otherwise it would look edited.
    return rendered(values, root) | {VALUES: path.read_bytes().decode()}


def _check_alerts(values: Values, path: Path, root: Path) -> None:
    """Raises `ValuesError` where a stage or a route names an alert that does not ship, or a route a severity that the alert never has: it
    would never be told, and nobody would notice. Or where the heartbeat names one that ships: it would go there, and to nobody else."""
    shipped = dict(found for rules in root.glob("alerts/*.rules.yaml") for found in _ALERT.findall(rules.read_text(encoding="utf-8")))
    if values.heartbeat and values.heartbeat.alert in shipped:
        raise ValuesError(f"{path}: `heartbeat.alert`: `{values.heartbeat.alert}` is an alert of costwarden that people must hear of")
    for position, stage in enumerate(values.escalation):
        for name in (*stage.alerts, *stage.not_alerts):
            if stage.category == "finops" and name not in shipped:
                raise ValuesError(f"{path}: `escalation[{position}]`: `{name}` is no alert of costwarden; alerts/README.md has their table")
    for name, people in values.routes.alert.items():
        if name not in shipped:
            raise ValuesError(f"{path}: `routes.alert`: `{name}` is no alert of costwarden; alerts/README.md has their table")
        for severity in SEVERITIES:
            if people.of(severity) and severity != shipped[name]:
                raise ValuesError(f"{path}: `routes.alert.{name}.{severity}`: nobody would be told: the alert is `{shipped[name]}`")


_ALERT = re.compile(r"^ *- alert: (\w+)$.*?^ *severity: (\w+)$", re.MULTILINE | re.DOTALL)
"""The name and the severity of each alert in a file of rules."""


def values_tmpl(values: Values) -> str:
    """The text of `templates/values.tmpl`: addresses and stages for the messages.

    A template is code, so everything that is put in has been checked for its characters by `Values`: none of them is special in a
    template or in its quotes.
    """
    stages = [(receiver, stage) for stage in values.escalation for receiver in stage.receivers]
    short = [(receiver, f", {stage.stage} after {stage.after}") for receiver, stage in stages]
    sentences = [(receiver, f"Escalated to {stage.stage}: not over and not silenced after {stage.after}.\n") for receiver, stage in stages]
    return f"""\
{{{{- /* Rendered from values.yaml: edit that. Where your Grafana is, where your people read the runbook, and which receiver is a stage of
   the escalation. */ -}}}}
{{{{ define "costwarden.grafana" }}}}{values.grafana_url}{{{{ end }}}}
{{{{ define "costwarden.runbook" }}}}{values.runbook_url}{{{{ end }}}}
{{{{ define "costwarden.stage" }}}}{_by_receiver(short)}{{{{ end }}}}
{{{{ define "costwarden.stage.sentence" }}}}{_by_receiver(sentences)}{{{{ end }}}}
"""


def _by_receiver(texts: list[tuple[str, str]]) -> str:
    cases = [f"if eq .Receiver {_alternatives(receiver)} }}}}{text}" for receiver, text in texts]
    return "{{ " + "{{ else ".join(cases) + "{{ end }}" if cases else ""


def _alternatives(receiver: str) -> str:
    # Alertmanager hands over the name as a regular expression, in which a dot has a backslash before it.
    escaped = receiver.replace(".", "\\\\.")
    return " ".join(f'"{name}"' for name in dict.fromkeys((receiver, escaped)))


def with_job(text: str, job: str) -> str:
    """The text of a file of rules, a dashboard or the runbook in which `job` stands for the one that ships.

    Its characters are none that PromQL, YAML, JSON or Jsonnet would escape, which `Values` sees to.
    """
    return _JOB_NAMED.sub(lambda _: job, text)


# In a query, whose quotes JSON escapes; in the words of rules and runbook; and where the runbook sets up the scrape.
_JOB_NAMED = re.compile(
    rf"""(?:(?<=\bjob=["'])|(?<=\bjob=\\")){JOB}(?=\\?["'])"""
    rf"|(?:(?<=\bof job )|(?<=\bjob_name: )){JOB}\b|(?:(?<=\bthe job `)|(?<=\bjob must be named `)){JOB}(?=`)"
)
