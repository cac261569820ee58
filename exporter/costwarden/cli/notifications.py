"""`costwarden notifications`: what receivers were told, what they are still to be told, and whether one can be told at all."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import click

from costwarden.api.notifications import attempt_answer, notification_answer
from costwarden.cli.options import ACTOR, config_option, format_option, load, now, open_ledger, print_json, print_table, printable
from costwarden.config import Config, ConfigError, reveal
from costwarden.ledger.notifications import ask_again, attempts_of, notifications_page, read_notification
from costwarden.notifier.channels import ChannelError, open_channel
from costwarden.notifier.settings import Receiver
from costwarden.notifier.text import Member, Text


@click.group()
def notifications() -> None:
    """List, show and retry notifications, and try a receiver."""


@notifications.command("list")
@config_option
@format_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@click.option("--receiver", default="", help="Only of this receiver.")
@click.option("--state", type=click.Choice(["queued", "retrying", "delivered", "failed"]), help="Only those in this state.")
def list_(config_path: Path, output: str, limit: int, receiver: str, state: str | None) -> None:
    """List the newest notifications."""
    where = {name: value for name, value in (("receiver", receiver), ("state", state or "")) if value}
    with open_ledger(load(config_path)) as ledger, ledger.read() as connection:
        found = notifications_page(connection, where, start=0, end=1 << 62, before=None, limit=limit)
    answers = [notification_answer(notification) for notification in found]
    if output == "json":
        print_json(answers)
        return
    columns = (">id", "receiver", "state", ">attempts", "received", "subject", "message")
    names = ("notification_id", "receiver", "state", "attempts", "received_at", "subject", "message")
    print_table("", columns, [tuple("" if answer[name] is None else str(answer[name]) for name in names) for answer in answers])


@notifications.command()
@config_option
@format_option
@click.argument("notification_id", type=int)
def show(config_path: Path, output: str, notification_id: int) -> None:
    """Show a notification with each attempt at it."""
    with open_ledger(load(config_path)) as ledger, ledger.read() as connection:
        try:
            answer = notification_answer(read_notification(connection, notification_id))
        except LookupError as error:
            raise click.ClickException(str(error)) from None
        journal = [attempt_answer(attempt) for attempt in attempts_of(connection, notification_id)]
    if output == "json":
        print_json({**answer, "journal": journal})
        return
    print_table("", ("", ""), [(key, str(value)) for key, value in answer.items() if value is not None])
    click.echo()
    columns = ("started_at", "finished_at", "outcome", "message")
    print_table("", (">attempt", *columns), [(str(row["attempt"]), *(str(row[name] or "") for name in columns)) for row in journal])


@notifications.command()
@config_option
@click.argument("notification_id", type=int)
def retry(config_path: Path, notification_id: int) -> None:
    """Try a notification again that was given up; the server does it within seconds."""
    with open_ledger(load(config_path)) as ledger:
        try:
            before = ledger.write(lambda connection: ask_again(connection, notification_id, actor=ACTOR, now=now()))
        except LookupError as error:
            raise click.ClickException(str(error)) from None
    if before == "delivered":
        raise click.ClickException(f"notification {notification_id} is delivered already")
    click.echo(f"{notification_id}: is tried again; it was {before}")


@notifications.command("test")
@config_option
@click.argument("receiver")
def test_(config_path: Path, receiver: str) -> None:
    """Tell a receiver now that this is a test, without the ledger, and print what became of it."""
    config = load(config_path)
    found = config.notifier.receiver(receiver)
    if found is None:
        known = ", ".join(f"`{one.name}`" for one in config.notifier.receivers) or "none"
        raise click.ClickException(f"no receiver is named `{printable(receiver)}`; configured are {known}")
    if why := _try(config, found):
        raise click.ClickException(printable(f"{receiver}: not delivered: {why}"))
    click.echo(f"{receiver}: delivered")


def _try(config: Config, receiver: Receiver) -> str:
    """Send one message: empty where it was taken, else why not."""
    seconds = config.notifier.retry.timeout_seconds
    try:
        channel = open_channel(reveal(receiver.url))
    except (ConfigError, ChannelError) as error:
        return str(error)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(channel.send(_text(), seconds=seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no end within {seconds:g} s"


def _text() -> Text:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    notes = {"summary": "costwarden can tell you of alerts", "description": "This is a test; there is nothing to do."}
    member = Member("firing", {"alertname": "Test", "severity": "info"}, notes, at, "")
    return Text(firing=1, resolved=0, members=(member,))
