"""`costwarden check-config`."""

from pathlib import Path

import click

from costwarden.cli.options import config_option, load
from costwarden.config import ConfigError, check_secrets


@click.command("check-config")
@config_option
def check_config(config_path: Path) -> None:
    """Check a configuration file: every key, value and secret. Exit code 1 and a line for each mistake where it is not usable."""
    config = load(config_path)
    try:
        check_secrets(config)
    except ConfigError as error:
        raise click.ClickException("\n".join(f"{config_path}: {line}" for line in str(error).splitlines())) from None
    acts = config.remediation.playbooks and config.remediation.mode != "off"
    if acts and not any(token.role == "alertmanager" for token in config.auth.tokens):
        click.echo(
            f"{config_path}: warning: there are playbooks, but no token of the role `alertmanager`: every alert will be refused", err=True
        )
    counts = {
        "source": len(config.sources),
        "budget": len(config.budgets.configured),
        "cloud budget": len(config.cloud_budgets),
        "playbook": len(config.remediation.playbooks),
        "token": len(config.auth.tokens),
    }
    summary = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
    click.echo(f"{config_path}: ok ({summary}; remediation is in mode `{config.remediation.mode}`)")
