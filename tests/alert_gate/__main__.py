"""Lints rule files: `PYTHONPATH=tests .venv/bin/python -m alert_gate FILE…` names each fault, and ends with 1 where there is one."""

import sys
from pathlib import Path

import yaml
from promql import exported, read, with_recorded

from alert_gate.rules import Surroundings, expression_faults, names_twice, rules_of


def main(arguments: list[str]) -> int:
    """What is wrong with the expressions of rule files that stand beside costwarden's own: a line each, and the exit status."""
    documents = {Path(name): yaml.safe_load(Path(name).read_text()) for name in arguments}
    shipped = [yaml.safe_load(path.read_text()) for path in (Path(__file__).parents[2] / "alerts").glob("*.rules.yaml")]
    series = with_recorded([*shipped, *documents.values()], exported())
    around = Surroundings(version="", series=series, runbook={}, dashboards={})
    found = names_twice(documents)
    for path, document in documents.items():
        for rule in rules_of(document):
            reading = read(rule["expr"], series)
            faults = [*reading.faults, *(expression_faults(rule, reading, around) if "alert" in rule else ())]
            found += [f"{path}: {rule.get('alert') or rule['record']}: {fault}" for fault in dict.fromkeys(faults)]
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
