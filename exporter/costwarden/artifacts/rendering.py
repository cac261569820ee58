"""What the export holds instead of what ships, where `values.yaml` says so: a pure function from values to texts."""

import re
from pathlib import Path, PurePath

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.values import Values, load_values

ROUTES = PurePath("alertmanager/alertmanager.yaml")
TEXTS = PurePath("alertmanager/templates/values.tmpl")
VALUES = PurePath("alertmanager/values.yaml")

JOB = "costwarden"
"""The `job` that the shipped rules name."""


def rendered(values: Values, root: Path) -> dict[PurePath, str]:
    """The files that differ from the ones that ship under `root`: path within the export to text.

    The default values give an empty dict, because the shipped files are rendered from them.
    """
    texts = {ROUTES: alertmanager_yaml(values), TEXTS: values_tmpl(values)}
    for path in sorted((root / "alerts").glob("*.rules.yaml")):
        texts[PurePath("alerts", path.name)] = with_job(path.read_text(encoding="utf-8"), values.prometheus.job)
    return {path: text for path, text in texts.items() if text != (root / path).read_text(encoding="utf-8")}


def rendered_from(path: Path, root: Path) -> dict[PurePath, str]:
    """As `rendered`, from the file `path`, which itself takes the place of the example. Raises `ValuesError`.

    So an export says what it was rendered from, and its own copy is the one to edit and to render again.
    """
    values = load_values(path)
    return rendered(values, root) | {VALUES: path.read_text(encoding="utf-8")}


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


def with_job(rules: str, job: str) -> str:
    """The text of a file of rules in which `job` stands for the one that ships.

    Its characters are neither PromQL's nor YAML's, which `Values` sees to.
    """
    # In an expression, in a query of an annotation, and in its words.
    return re.sub(rf"(?<=\bjob=[\"']){JOB}(?=[\"'])|(?<=\bof job ){JOB}\b", lambda _: job, rules)
