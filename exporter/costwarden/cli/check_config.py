"""`costwarden check-config`."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import yaml

from costwarden.cli.options import config_option, load
from costwarden.cli.sources import predictions
from costwarden.config import Config, ConfigError, check_secrets, receiver_mistakes, source_secret_mistakes
from costwarden.model import dollars

_CENT = Decimal("0.01")

_SECRET = re.compile("password|passwd|pwd|secret|token", re.IGNORECASE)
"""Keys of a URL's query whose values are not shown."""


@click.command("check-config")
@config_option
@click.option("--effective", is_flag=True, help="Print every key with the value that holds: the file's, its preset's or the default.")
def check_config(config_path: Path, effective: bool) -> None:
    """Check a configuration file: every key, value and secret. Exit code 1 and a line for each mistake where it is not usable."""
    config = load(config_path)
    mistakes = [*receiver_mistakes(config), *source_secret_mistakes(config)]
    try:
        check_secrets(config)
    except ConfigError as error:
        mistakes = [*str(error).splitlines(), *mistakes]
    if mistakes:
        raise click.ClickException("\n".join(f"{config_path}: {line}" for line in mistakes))
    acts = config.remediation.playbooks and config.remediation.mode != "off"
    if acts and not any(token.role == "alertmanager" for token in config.auth.tokens):
        click.echo(
            f"{config_path}: warning: there are playbooks, but no token of the role `alertmanager`: every alert will be refused", err=True
        )
    counts = {
        "source": len(config.sources),
        "budget": len(config.budgets.configured),
        "cloud budget": len(config.cloud_budgets),
        "guardrail": len(config.guardrails),
        "playbook": len(config.remediation.playbooks),
        "token": len(config.auth.tokens),
    }
    summary = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
    preset = f"preset `{config.preset}`; " if config.preset else ""
    message = f"{config_path}: ok ({preset}{summary}; remediation is in mode `{config.remediation.mode}`)"
    if effective:
        click.echo(f"# {message}\n{effective_text(config)}", nl=False)
    else:
        click.echo(message)
        for line in _predicted(config):
            click.echo(line)


def _predicted(config: Config) -> Iterator[str]:
    """What the sources and CloudWatch are going to be paid for requests, as far as the settings tell."""
    limits = {f"source `{source.name}`": source.daily_request_limit_usd for source in config.sources}
    found = [(f"source `{name}`", predicted) for name, predicted in predictions(config.sources)]
    if config.cloudwatch is not None:
        limits["cloudwatch"] = config.cloudwatch.daily_request_limit_usd
        found += [("cloudwatch", predicted) for predicted in config.cloudwatch.predicted_requests]
    for name, predicted in found:
        a_day = predicted.a_day * predicted.usd_each
        yield (
            f"{name}: about {predicted.a_day.quantize(Decimal('0.1')):f} {predicted.what} a day at {dollars(predicted.usd_each)}, "
            f"{dollars(a_day.quantize(_CENT))} a day, {dollars((a_day * 30).quantize(_CENT))} in 30 days; "
            f"at most {dollars(limits[name])} a day (`daily_request_limit_usd`)"
        )
        if a_day > limits[name]:
            yield f"{name}: warning: that is more than it may spend; lengthen `interval_seconds` or raise the limit"


def effective_text(config: Config) -> str:
    """The whole configuration as YAML: loaded again, it is the same. A password that stands in a URL is left out."""
    content = _plain(config.model_dump())
    content["database_url"] = without_password(config.database_url)
    cache = content["budgets"]["status_cache"]
    cache["redis_url"] = without_password(cache["redis_url"]) if cache["redis_url"] else None
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def without_password(url: str) -> str:
    """The URL with `***` where a password stands: in its address, or as a key of its query. `***` alone where that cannot be told."""
    try:
        parts = urlsplit(url)
        # Raises for what is no port: the beginning of a password that has a slash in it.
        _ = parts.port
    except ValueError:
        return "***"
    if not parts.netloc:
        # A file.
        return url
    if any("@" in rest for rest in (parts.path, parts.query, parts.fragment)):
        return "***"
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}:***{at}{host}" if colon else parts.netloc
    return parts._replace(netloc=netloc, query=re.sub(r"[^&;]+", _without_secret, parts.query)).geturl()


def _without_secret(pair: re.Match[str]) -> str:
    key, equals, _ = pair[0].partition("=")
    return f"{key}{equals}***" if equals and _SECRET.search(unquote(key)) else pair[0]


def _plain(value: Any) -> Any:
    """What YAML has of it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    return str(value) if isinstance(value, Path) else value
