"""`costwarden emergency-stop`."""

from pathlib import Path

import click

from costwarden.cli.options import ACTOR, check_reason, config_option, load, open_engine, reason_option
from costwarden.ledger.budgets import read_suspended


@click.command("emergency-stop")
@config_option
@click.option("--lift", is_flag=True, help="End the emergency stop.")
@reason_option
def emergency_stop(config_path: Path, lift: bool, reason: str) -> None:
    """Refuse every check of everybody, until it is lifted with `--lift`. A running server does so within a second.

    Calls that were let through before go on, and what they cost is recorded. It survives a restart.
    """
    reason = check_reason(reason)
    config = load(config_path)
    with open_engine(config) as (ledger, engine):
        if lift:
            changed = ledger.write(lambda connection: engine.resume(connection, "", actor=ACTOR, reason=reason))
            click.echo("lifted: checks are decided by their budgets again" if changed else "there is no emergency stop")
            return
        changed = ledger.write(lambda connection: engine.suspend(connection, "", reason=reason, actor=ACTOR, run_id=""))
        if changed:
            click.echo("stopped: every check is refused; `costwarden emergency-stop --lift` ends it")
            return
        with ledger.read() as connection:
            held = read_suspended(connection).get("")
    because = f" by {held['actor']}: {held['reason']}" if held else ""
    click.echo(f"stopped already{because}")
