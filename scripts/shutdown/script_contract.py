"""The contract of costwarden's scripts, for both who call them: a playbook and a person.

    stdin    one JSON request {"run_id", "targets", "parameters", "undo"}, every key optional; a terminal or an empty stdin is no request
    argv     plans unless --apply; --restore takes an earlier action back; flags go before the request's parameters
    stdout   one JSON line a target: target, action, result (planned | done | failed | skipped), state_before, undo, message;
             a plan may add one line {"population": N}: how many targets there are in all
    stderr   sentences for a person
    exit     0 done, 1 failed, 2 bad usage, 3 refused

Standard library only, so that a script runs wherever Python 3.11 does.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

DONE, FAILED, BAD_USAGE, REFUSED = 0, 1, 2, 3

# Ten thousand targets with their undo records; what is larger is not a request.
LARGEST_REQUEST_BYTES = 8 * 1024 * 1024


class BadUsage(Exception):
    """The request or the flags are wrong: exit 2."""


class Refused(Exception):
    """The script will not do that: exit 3."""


class Failed(Exception):
    """The script could not begin, say for want of credentials: exit 1."""


@dataclass(frozen=True)
class Request:
    """What is asked. `targets` None leaves the choice to the parameters; a list is the most that may be acted on."""

    run_id: str = ""
    targets: list[str] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    undo: list[dict[str, Any]] = field(default_factory=list)

    def text(self, name: str, flag: str | None, default: str = "") -> str:
        """A parameter that is text: the flag's value where given. Raises `BadUsage` for one that is not text."""
        value = flag if flag is not None else self.parameters.get(name, default)
        if not isinstance(value, str):
            raise BadUsage(f"parameter `{name}` is {value!r}; text is needed")
        return value

    def allow_parameters(self, *names: str) -> None:
        """Raise `BadUsage` for a parameter of any other name: a misspelt filter must not select everything."""
        if unknown := sorted(self.parameters.keys() - set(names)):
            raise BadUsage(f"unknown parameter `{unknown[0]}`; known are {', '.join(sorted(names))}")


@dataclass
class Report:
    """Writes the output lines, each at once, and remembers whether a target failed."""

    any_failed: bool = False

    def target(
        self,
        target: str,
        action: str,
        result: str,
        *,
        state_before: dict[str, Any] | None = None,
        undo: dict[str, Any] | None = None,
        message: str = "",
    ) -> None:
        """Write the line of a target."""
        line: dict[str, Any] = {"target": target, "action": action, "result": result, "state_before": state_before or {}}
        if undo is not None:
            line["undo"] = undo
        if message:
            line["message"] = message
        self.any_failed |= result == "failed"
        _write(line)

    def population(self, count: int) -> None:
        """Write how many targets there are in all."""
        _write({"population": count})


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every script has; its help opens with the script's own docstring."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False, formatter_class=raw)
    parser.add_argument("--apply", action="store_true", help="act; without it the plan is shown and nothing is changed")
    parser.add_argument("--restore", action="store_true", help="take back what an earlier run did")
    parser.add_argument("--target", action="append", metavar="ID", help="act on this target at most; may be repeated")
    parser.add_argument("--run-id", metavar="ID", help="with --restore: the run to take back; else the id to record")
    return parser


def run(parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace, Request, Report], None]) -> NoReturn:
    """Read flags and request, call `main(flags, request, report)`, and exit as the contract says."""
    flags = parser.parse_args()
    report = Report()
    try:
        request = read_request(flags)
        main(flags, request, report)
    except BadUsage as error:
        _leave(parser, BAD_USAGE, error)
    except Refused as error:
        _leave(parser, REFUSED, error)
    except Failed as error:
        _leave(parser, FAILED, error)
    sys.exit(FAILED if report.any_failed else DONE)


def read_request(flags: argparse.Namespace) -> Request:
    """The request on stdin, with `--target` and `--run-id` put over it. Raises `BadUsage`."""
    content = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read(LARGEST_REQUEST_BYTES + 1)
    if len(content) > LARGEST_REQUEST_BYTES:
        raise BadUsage(f"the request is larger than {LARGEST_REQUEST_BYTES} bytes")
    try:
        fields = json.loads(content) if content.strip() else {}
    except ValueError as error:
        raise BadUsage(f"the request on stdin is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadUsage("the request is not a JSON object")
    if unknown := sorted(fields.keys() - {"run_id", "targets", "parameters", "undo"}):
        raise BadUsage(f"unknown key `{unknown[0]}` in the request")
    run_id, targets = fields.get("run_id", ""), fields.get("targets")
    parameters, undo = fields.get("parameters", {}), fields.get("undo", [])
    if not isinstance(run_id, str):
        raise BadUsage("`run_id` is not text")
    if targets is not None and not _is_list_of(targets, str):
        raise BadUsage("`targets` is not a list of text")
    if not isinstance(parameters, dict):
        raise BadUsage("`parameters` is not an object")
    if not _is_list_of(undo, dict):
        raise BadUsage("`undo` is not a list of objects")
    return Request(flags.run_id or run_id, flags.target if flags.target is not None else targets, parameters, undo)


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(element, kind) for element in value)


def _write(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _leave(parser: argparse.ArgumentParser, status: int, error: Exception) -> NoReturn:
    print(f"{parser.prog}: {error}", file=sys.stderr)
    sys.exit(status)
