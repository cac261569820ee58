"""`costwarden rejected`."""

from pathlib import Path

import click

from costwarden.cli.options import config_option, format_option, load, open_ledger, print_json, print_table
from costwarden.ledger.charges import count_rejected, read_parts, read_rejected


@click.command()
@config_option
@format_option
@click.option("--source", help="Only of this source.")
@click.option("--reason", help="Only for this reason, as `bad_date`.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many rows.")
def rejected(config_path: Path, output: str, source: str | None, reason: str | None, limit: int) -> None:
    """List the rows of bills that could not be read, and the files that were not counted, each with its reason."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        counts = [count for count in count_rejected(connection) if source in (None, count[0]) and reason in (None, count[1])]
        rows = read_rejected(connection, source, reason, limit)
        known = read_parts(connection, source)
    if source is not None and source not in {settings.name for settings in config.sources}:
        raise click.UsageError(
            f"there is no source `{source}`; configured: {', '.join(settings.name for settings in config.sources) or 'none'}"
        )
    parts = [(name, part) for name, part in known if part.state != "ok"]
    notes = [(name, part.part, part.message) for name, part in known if part.state == "ok" and part.message]
    if output == "json":
        print_json(
            {
                "counts": [{"source": name, "reason": why, "rows": number} for name, why, number in counts],
                "rows": rows,
                "files": [{"source": name, "file": part.part, "state": part.state, "message": part.message} for name, part in parts],
            }
        )
        return
    if not counts and not parts:
        click.echo("nothing was rejected")
    if counts:
        print_table("rejected rows", ("source", "reason", ">rows"), [(name, why, str(number)) for name, why, number in counts])
    if rows:
        click.echo()
        print_table("", ("file", ">line", "detail", "content"), [(row.part, str(row.line or ""), row.detail, row.content) for row in rows])
    total = sum(number for _, _, number in counts)
    if len(rows) < total:
        click.echo(f"\n{len(rows)} of {total} rows are shown; --limit shows more of those that were kept")
    if parts:
        click.echo()
        print_table(
            "files that are not counted", ("source", "file", "state", "message"), [(n, p.part, p.state, p.message) for n, p in parts]
        )
    if notes:
        click.echo()
        print_table("notes on files that are counted", ("source", "file", "note"), notes)
