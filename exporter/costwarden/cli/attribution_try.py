"""`costwarden attribution try`: the sources read again under other rules, and nothing written."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import click
import msgspec
from pydantic import ValidationError

from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table, printable
from costwarden.config import Config, ConfigError, reveal
from costwarden.ledger import Ledger
from costwarden.ledger.attribution import TAGGABLE
from costwarden.ledger.charges import breakdown
from costwarden.ledger.figures import source_states
from costwarden.metrics.attribution import TARGETS, coverage
from costwarden.model import EXACT, Charge, dollars, exact_sum, from_micros
from costwarden.sources import Failed, Read, SourceError, Window
from costwarden.sources.attribution import value_before_and_after
from costwarden.sources.settings import AttributionSettings, DailySchedule, SourceSettings
from costwarden.sources.settings.attribution import ComparedRules
from costwarden.sources.windows import ONE_DAY
from costwarden.strict_yaml import YamlError, read_yaml, sentences
from costwarden.sync.reading import Reading, open_for_ledger, open_to_compare

Move = tuple[str, str, str, str]
"""Value before, value after, provider, service."""


class Compared(msgspec.Struct):
    """A source under two sets of rules. Costs in dollars, exact."""

    source: str
    first: date | None = None
    last: date | None = None
    total: Decimal = Decimal(0)
    in_ledger: Decimal = Decimal(0)
    """What the ledger holds of the same days."""
    problems: list[str] = []
    """Why it could not be compared, or what of it."""
    moves: dict[str, dict[Move, Decimal]] = {}
    """By target, what stays as it is included."""
    before: dict[tuple[str, ...], Decimal] = {}
    """The values of all targets -> what can be attributed, under the rules in force."""
    after: dict[tuple[str, ...], Decimal] = {}

    def add(self, charge: Charge, basis: str) -> None:
        """Add a charge whose targets were attributed by `ComparedRules`."""
        cost = EXACT.multiply(getattr(charge, basis), charge.usd_rate)
        self.total = EXACT.add(self.total, cost)
        self.first = min(self.first or charge.charge_date, charge.charge_date)
        self.last = max(self.last or charge.charge_date, charge.charge_date)
        pairs = [value_before_and_after(getattr(charge, target)) for target in TARGETS]
        for target, (old, new) in zip(TARGETS, pairs, strict=True):
            _add(self.moves.setdefault(target, {}), (old, new, charge.provider_name, charge.service_name), cost)
        if charge.charge_category in TAGGABLE:
            _add(self.before, tuple(old for old, _ in pairs), cost)
            _add(self.after, tuple(new for _, new in pairs), cost)

    def check(self) -> None:
        """Raises `click.ClickException` where money has come or gone on the way: then nothing here may be believed."""
        for target, moves in self.moves.items():
            for side, of in (("before", 0), ("after", 1)):
                if (found := exact_sum(list(_by_value(moves, of).values()))) != self.total:
                    raise click.ClickException(f"{self.source}: {target}: {found:f} dollars {side}, {self.total:f} read: this is a bug")


def _add(sums: dict[Any, Decimal], key: Any, cost: Decimal) -> None:
    sums[key] = EXACT.add(sums.get(key, Decimal(0)), cost)


def _by_value(moves: Mapping[Move, Decimal], of: int) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for move, cost in moves.items():
        _add(sums, move[of], cost)
    return sums


@click.command("try")
@config_option
@format_option
@click.argument("path", metavar="NEW.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--source", "names", multiple=True, help="Only this source; may be repeated.  [default: all]")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), help="May be repeated.  [default: all]")
@click.option("--days", type=click.IntRange(1, 400), help="Days of sources that are read by days.  [default: their `reread_days`]")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="So many of the largest moves; the rest is one row.")
@click.option("--paid", is_flag=True, help="Make requests that cost money where no answer is kept; their daily limit holds.")
def try_rules(
    config_path: Path,
    output: str,
    path: Path,
    names: tuple[str, ...],
    targets: tuple[str, ...],
    days: int | None,
    top: int,
    paid: bool,
) -> None:
    """Show what would move if the section `attribution` of NEW.yaml were in force.

    The sources are read again, once, under both sets of rules; no charge in the ledger changes. Of sources whose requests cost money the
    answers of their last refresh are read, where the new rules read no other tags.
    """
    config = load(config_path)
    if unknown := set(names) - {settings.name for settings in config.sources}:
        raise click.UsageError(f"there is no source {', '.join(sorted(f'`{name}`' for name in unknown))}")
    rules = ComparedRules.of(config.attribution, _new_rules(path))
    with open_ledger(config) as ledger:
        found = [
            _compare(ledger, config, settings, rules, days, paid) for settings in config.sources if not names or settings.name in names
        ]
    for compared in found:
        compared.check()
    if output == "json":
        print_json(_answer(config.metrics.cost_basis, found, targets or TARGETS))
    else:
        _print(config.metrics.cost_basis, found, targets or TARGETS, top)
    if all(compared.first is None and compared.problems for compared in found):
        raise click.exceptions.Exit(1)


def _new_rules(path: Path) -> AttributionSettings:
    try:
        data, _ = read_yaml(path)
    except YamlError as error:
        raise click.ClickException(str(error)) from None
    if not isinstance(data, dict) or "attribution" not in data:
        raise click.ClickException(f"{path}: has no section `attribution`")
    try:
        return AttributionSettings.model_validate(data["attribution"], context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise click.ClickException("\n".join(f"{path}: attribution.{line}" for line in sentences(error, AttributionSettings))) from None


def _compare(ledger: Ledger, config: Config, settings: SourceSettings, rules: ComparedRules, days: int | None, paid: bool) -> Compared:
    with ledger.read() as connection:
        state = next((state for state in source_states(connection) if state["source"] == settings.name), None)
    # As of the last refresh: its answers are those that are kept.
    as_of = from_micros(state["last_success_at"] if state and state["last_success_at"] else now()).date()
    opens = (open_to_compare, open_for_ledger) if paid else (open_to_compare,)
    compared = Compared(settings.name)
    for open_it, window in product(opens, _windows(settings, as_of, days)):
        compared = _read(_opening(open_it, ledger, config, settings, rules), settings.name, window, config.metrics.cost_basis)
        if compared.first is not None or not compared.problems:
            break
    if compared.first is not None and compared.last is not None:
        with ledger.read() as connection:
            held = breakdown(
                connection,
                config.metrics.cost_basis,
                [],
                first=compared.first,
                last=compared.last,
                where={"source": settings.name},
                allocated=True,
            )
        compared.in_ledger = exact_sum([row[-1] for row in held])
    return compared


def _opening(
    open_it: Callable[..., Reading], ledger: Ledger, config: Config, settings: SourceSettings, rules: AttributionSettings
) -> Callable[[], Reading]:
    return lambda: open_it(ledger, settings, rules, config.exchange_rates, reveal=reveal, now=now)


def _windows(settings: SourceSettings, as_of: date, days: int | None) -> Iterator[Window]:
    """The days to try, until one is answered for: those that every refresh asks for, then those of the first one."""
    if not isinstance(settings, DailySchedule):
        yield Window(as_of, as_of, as_of)
        return
    spans = [days - 1] if days else dict.fromkeys((settings.reread_days, max(settings.history_days, settings.reread_days)))
    for span in spans:
        first = as_of - ONE_DAY * span
        yield Window(first, first, as_of)


def _read(open_it: Callable[[], Reading], name: str, window: Window, basis: str) -> Compared:
    compared = Compared(name)
    try:
        with closing(open_it().source) as source:
            for change in source.fetch({}, window):
                if isinstance(change, Failed):
                    compared.problems.append(change.message)
                elif isinstance(change, Read):
                    for charge in change.charges:
                        compared.add(charge, basis)
    except (SourceError, ConfigError) as error:
        # Half of a source would look as if the rest had lost its owner.
        return Compared(name, problems=[str(error)])
    return compared


# --- what is shown -------------------------------------------------------------------------------------------------------------


def _moves(found: Sequence[Compared], target: str) -> list[tuple[Move, Decimal]]:
    """What changes its owner, the most first."""
    sums: dict[Move, Decimal] = defaultdict(Decimal)
    for compared in found:
        for move, cost in compared.moves.get(target, {}).items():
            if move[0] != move[1]:
                _add(sums, move, cost)
    return sorted(sums.items(), key=lambda one: (-abs(one[1]), one[0]))


def _ratio(found: Sequence[Compared], target: str, side: str) -> Decimal | None:
    rows = [(*values, cost) for compared in found for values, cost in getattr(compared, side).items()]
    ratio = coverage(rows)[target].ratio
    return None if ratio is None else round(ratio, 6)


def _answer(basis: str, found: Sequence[Compared], targets: Sequence[str]) -> dict[str, Any]:
    sources = [
        {
            "source": compared.source,
            "first_day": compared.first,
            "last_day": compared.last,
            "before_usd": compared.total,
            "after_usd": compared.total,
            "in_ledger_usd": compared.in_ledger,
            "problems": compared.problems,
        }
        for compared in found
    ]
    changes = [
        {
            "target": target,
            "attributed_ratio_before": _ratio(found, target, "before"),
            "attributed_ratio_after": _ratio(found, target, "after"),
            "moves": [
                {"before": old, "after": new, "provider": provider, "service": service, "cost_usd": cost}
                for (old, new, provider, service), cost in _moves(found, target)
            ],
        }
        for target in targets
    ]
    return {"basis": basis, "sources": sources, "targets": changes}


def _print(basis: str, found: Sequence[Compared], targets: Sequence[str], top: int) -> None:
    compared_rows = [
        (one.source, f"{one.first} to {one.last}", dollars(one.total), dollars(one.total)) for one in found if one.first is not None
    ]
    print_table(f"read again ({basis}); nothing was changed", ("source", "days", ">before", ">after"), compared_rows)
    for one in found:
        for problem in one.problems:
            click.echo(printable(f"{'not compared' if one.first is None else 'not compared in part'}: {one.source}: {problem}"))
        if one.first is None and not one.problems:
            click.echo(f"{one.source}: has no cost")
        elif not one.problems and one.in_ledger != one.total:
            click.echo(
                f"{one.source}: the ledger has {dollars(one.in_ledger)} of these days: the source has changed since its last refresh"
            )
    for target in targets:
        moves = _moves(found, target)
        click.echo()
        if not moves:
            click.echo(f"{target}: nothing would move")
            continue
        before, after = (_percent(_ratio(found, target, side)) for side in ("before", "after"))
        moved = exact_sum([cost for _, cost in moves])
        rows = [
            (old or "(none)", new or "(none)", provider, service or "(none)", dollars(cost))
            for (old, new, provider, service), cost in moves[:top]
        ]
        if len(moves) > top:
            rows.append(("other", "other", "", f"{len(moves) - top} more", dollars(exact_sum([cost for _, cost in moves[top:]]))))
        title = f"{target}: {dollars(moved)} would move; attributed {before} before, {after} after"
        print_table(title, ("before", "after", "provider", "service", ">cost"), rows)


def _percent(ratio: Decimal | None) -> str:
    return "nothing" if ratio is None else f"{ratio * 100:.1f} %"
