"""Lists that stand in the code and in the docs are one list: these tests compare them, or write them (`make golden`)."""

import os
import re
from pathlib import Path

import pytest

from costwarden.metrics.catalogue import FAMILIES

BEGIN, END = "<!-- begin: from the catalogue -->\n", "<!-- end -->\n"


def metrics_table() -> str:
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows) + "\n"


@pytest.mark.usefixtures("golden")  # so that `make golden` runs it
def test_the_metrics_page_of_the_docs_lists_the_whole_catalogue(project: Path) -> None:
    page = project / "docs" / "metrics.md"
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    expected = f"{head}{BEGIN}{metrics_table()}{END}{tail}"
    if os.environ.get("COSTWARDEN_GOLDEN") == "write":
        page.write_text(expected)
    assert page.read_text() == expected, "docs/metrics.md is out of date; `make golden` writes it anew"


PAGES = (
    "README.md",
    "benchmarks/README.md",
    "docs/api.md",
    "docs/architecture.md",
    "docs/attribution.md",
    "docs/backfill.md",
    "docs/budgets.md",
    "docs/burn_rate.md",
    "docs/client.md",
    "docs/cloudwatch.md",
    "docs/currencies.md",
    "docs/expectations.md",
    "docs/focus.md",
    "docs/metrics.md",
    "docs/notifier.md",
    "docs/otlp.md",
    "docs/postgresql.md",
    "docs/pricing.md",
    "docs/reconciliation.md",
    "docs/remediation.md",
    "docs/sources.md",
    "docs/sources/anthropic.md",
    "docs/sources/aws.md",
    "docs/sources/azure.md",
    "docs/sources/bedrock.md",
    "docs/sources/gcp.md",
    "docs/sources/kubernetes.md",
    "docs/sources/openai.md",
    "docs/sources/vertex.md",
    "alerts/README.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_docs_leads_to_a_file(project: Path, page: str) -> None:
    text = (project / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]
    missing = [link for link in links if not ((project / page).parent / link).exists()]
    assert missing == []
