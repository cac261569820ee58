"""The rules of the house that a reader cannot see in one file: who may import whom, who reads the environment, who speaks SQL."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE_ROOT = Path(__file__).resolve().parent.parent / "exporter"
PACKAGE = SOURCE_ROOT / "costwarden"

BASE = {"model", "settings", "strict_yaml", "__version__"}
"""What everyone may import: the records, what a section of the configuration is made of, how YAML is read, and the version."""

SERVICES = {
    "analytics",
    "artifacts",
    "budgets",
    "config",
    "ledger",
    "metering",
    "metrics",
    "notifier",
    "pricing",
    "reconciliation",
    "remediation",
    "reports",
    "sinks",
    "sources",
    "sync",
}

# Imports go one way: each part of the package -> the parts that it may import, itself and BASE apart.
MAY_IMPORT = {
    "__init__": set(),
    "settings": set(),
    "model": set(),
    "artifacts": set(),
    "config": {"*.settings", "presets"},
    "presets": set(),
    "strict_yaml": set(),
    "sources": set(),
    "pricing": set(),
    "metering": set(),
    "ledger": set(),
    "budgets": {"config", "ledger", "metering", "pricing"},
    "analytics": {"config"},
    "sync": {"config", "sources", "ledger"},
    "sinks": {"ledger", "sources"},
    "reconciliation": {"config", "ledger", "budgets"},
    "metrics": {"config", "ledger", "budgets", "analytics", "reconciliation"},
    "remediation": {"config", "ledger", "artifacts"},
    "notifier": {"config", "ledger", "remediation"},
    "reports": {"config", "ledger", "budgets", "analytics"},
    "client": {"metering"},
    "api": SERVICES,
    "cli": SERVICES | {"api", "client"},
    "__main__": {"cli"},
}

# Narrower than their part: pure arithmetic, and what config.py imports to know the keys.
NARROWER = {"budgets.rules": set(), "reconciliation.lines": set(), "remediation.settings": {"artifacts"}}

HEAVY = {"alembic", "apprise", "azure", "boto3", "botocore", "duckdb", "genai_prices", "google", "kubernetes"}
"""Half a second and more to import: where they are used, not where the module begins, so that `costwarden --help` answers at once."""


@dataclass(frozen=True)
class Module:
    path: Path
    name: str
    """Below `costwarden`: `budgets.rules`; a package's own is `budgets`, the root's `__init__`."""

    @property
    def part(self) -> str:
        return self.name.split(".")[0]

    @property
    def tree(self) -> ast.Module:
        return parse(self.path)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found.append(Module(path, ".".join(parts)))
    return found


def imported(node: ast.AST, path: Path) -> Iterator[str]:
    """Full dotted names that an import statement brings in; for `from a import b` both could be the module, so it is `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = path.relative_to(SOURCE_ROOT).parent.parts
        base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        yield from (f"{module}.{alias.name}" for alias in node.names)


def all_imports(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        for name in imported(node, module.path):
            yield node.lineno, name


def is_allowed(module: Module, target: str) -> bool:
    """`target` is below `costwarden`: `ledger.commit.driver`."""
    part, *rest = target.split(".")
    allowed = NARROWER.get(module.name, MAY_IMPORT[module.part])
    if part in BASE or part == module.part or part in allowed:
        return True
    return "*.settings" in allowed and rest[:1] == ["settings"]


def module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported: everything outside functions and `if TYPE_CHECKING:`."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def test_every_part_of_the_package_has_a_row_in_the_import_table() -> None:
    assert {module.part for module in modules()} - MAY_IMPORT.keys() == set()


def test_imports_go_one_way() -> None:
    wrong = [
        f"{module.path.relative_to(SOURCE_ROOT)}:{line} imports {name}"
        for module in modules()
        for line, name in all_imports(module)
        if name.startswith("costwarden.") and not is_allowed(module, name.removeprefix("costwarden."))
    ]
    assert wrong == []


def test_only_config_reads_the_environment() -> None:
    def reads(node: ast.AST, path: Path) -> bool:
        if isinstance(node, ast.Attribute):
            return ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
        return any(name in {"os.environ", "os.environb", "os.getenv"} for name in imported(node, path))

    wrong = [
        f"{module.path.relative_to(SOURCE_ROOT)}:{node.lineno}"
        for module in modules()
        if module.part != "config"
        for node in ast.walk(module.tree)
        if reads(node, module.path)
    ]
    assert wrong == []


def test_only_the_ledger_speaks_sql() -> None:
    wrong = [
        f"{module.path.relative_to(SOURCE_ROOT)}:{line} imports {name}"
        for module in modules()
        if module.part != "ledger"
        for line, name in all_imports(module)
        if name.split(".")[0] in {"sqlalchemy", "sqlite3", "alembic"}
    ]
    assert wrong == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    wrong = [
        f"{module.path.relative_to(SOURCE_ROOT)}:{node.lineno} imports {name}"
        for module in modules()
        if not module.name.startswith("ledger.migrations")  # run by Alembic alone
        for node in module_level(module.tree)
        for name in imported(node, module.path)
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_a_file_holds_one_noun_and_stays_below_400_lines() -> None:
    lengths = {
        str(module.path.relative_to(SOURCE_ROOT)): len(module.path.read_text(encoding="utf-8").splitlines())
        for module in modules()
        if not module.name.startswith("ledger.migrations")  # a migration is one list of statements
    }
    assert {path: length for path, length in lengths.items() if length >= 400} == {}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import costwarden.ledger", ["costwarden.ledger"]),
        ("from costwarden import ledger", ["costwarden.ledger"]),
        ("from costwarden.ledger.commit import driver", ["costwarden.ledger.commit.driver"]),
        ("from . import rules", ["costwarden.budgets.rules"]),
        ("from .rules import share", ["costwarden.budgets.rules.share"]),
        ("from .. import ledger", ["costwarden.ledger"]),
        ("from ..ledger.commit import driver", ["costwarden.ledger.commit.driver"]),
    ],
)
def test_absolute_and_relative_imports_are_both_understood(statement: str, expected: list[str]) -> None:
    assert list(imported(ast.parse(statement).body[0], PACKAGE / "budgets" / "engine.py")) == expected
