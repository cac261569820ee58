"""Whoever has an exported folder and nothing else, at night: each link in its documents leads to a place that is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from costwarden.cli import cli

EVERYTHING = Path(__file__).parent / "fixtures" / "values" / "everything.ok.yaml"


@pytest.fixture(scope="module", params=["as_it_ships", "with_values"])
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "ops"
    values = ["--values", str(EVERYTHING)] if request.param == "with_values" else []
    done = CliRunner().invoke(cli, ["artifacts", "export", *values, str(folder)])
    assert done.exit_code == 0, done.output
    return folder


_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Where a document leads to within the export: `PATH#ANCHOR`, either of which may be empty."""
    shown = _CODE.sub("", _FENCED.sub("", text))
    found = (inline or reference for inline, reference in _LINK.findall(shown))
    return (target for target in found if not re.match(r"[a-z]+:", target))


def anchors(text: str) -> set[str]:
    """The headings of a document as GitHub and its like make anchors of them."""
    made: list[str] = []
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
        made.append(f"{name}-{made.count(name)}" if name in made else name)
    return set(made)


def dead_links(folder: Path) -> list[str]:
    dead = []
    for page in sorted(folder.rglob("*.md")):
        for link in links(page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            is_there = target.is_relative_to(folder.resolve()) and target.is_file()
            if not is_there or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
                dead.append(f"{page.relative_to(folder)}: {link}")
    return dead


def test_every_link_leads_to_a_file_of_the_export_and_to_a_heading_of_it(export: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in export.rglob("*.md")]
    assert len(pages) > 20
    assert sum(1 for page in pages for _ in links(page)) > 100
    assert dead_links(export) == []


def test_every_alert_leads_to_its_chapter(export: Path) -> None:
    chapters = anchors((export / "alerts" / "README.md").read_text(encoding="utf-8"))
    groups = [group for path in (export / "alerts").glob("*.rules.yaml") for group in yaml.safe_load(path.read_text())["groups"]]
    books = {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert len(books) > 40
    assert {book for book in books if book.removeprefix("alerts/README.md#") not in chapters} == set()


def test_every_document_that_a_text_names_is_there(export: Path) -> None:
    texts = [path for path in export.rglob("*") if path.is_file() and path.suffix in {".md", ".yaml", ".tmpl", ".libsonnet", ".jsonnet"}]
    named = {name for path in texts for name in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text(encoding="utf-8"))}
    assert {"docs/alertmanager.md", "docs/burn_rate.md"} <= named
    assert [name for name in sorted(named) if not (export / name).is_file()] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text("# Two words\n\n## The `same`\n\n## The same\n```\n# none\n[x](y)\n```\n")
    (tmp_path.parent / "outside.md").write_text("# Outside\n")
    lines = ["docs/b.md", "docs/b.md#two-words", "docs/b.md#the-same-1", "#here", "https://example.com/c.md"]
    dead = ["docs/c.md", "docs/b.md#none", "#there", "../outside.md"]
    (tmp_path / "a.md").write_text("# Here\n" + "".join(f"[x]({target}) `[y](z)`\n" for target in lines + dead))
    assert dead_links(tmp_path) == [f"a.md: {target}" for target in dead]
