"""What stands in bills, in names of files and in answers of providers is shown in a terminal, and never obeyed by it."""

import re
import unicodedata
from datetime import date
from pathlib import Path

import pytest
import yaml
from openai_admin import KEY
from stand_in import StandIn

from costwarden.cli.options import print_table, printable
from costwarden.sources.settings import FocusSettings
from costwarden.sources.windows import Window

pytestmark = pytest.mark.usefixtures("spending")

ANY = Window(date(2026, 11, 20), date(2026, 11, 20), date(2026, 11, 20))

HEADER = "ProviderName,BillingAccountId,ServiceName,ChargeCategory,ChargePeriodStart,BillingCurrency,BilledCost"

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202e"
"""A title for the window, an empty screen (CSI as one C1 character), and letters that run backwards."""


def is_harmless(text: str) -> bool:
    """Whether a terminal shows `text` as it is: no control but line ends, nothing that turns the direction."""
    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return all(
        letter == "\n" or (unicodedata.category(letter) != "Cc" and unicodedata.bidirectional(letter) not in directions) for letter in text
    )


@pytest.fixture
def bills(tmp_path: Path) -> Path:
    """A bill with a service and a cost that are hostile, and a file that cannot be read and has a hostile name."""
    folder = tmp_path / "bills"
    folder.mkdir()
    rows = (f"AWS,1,EC2{HOSTILE},Usage,2026-11-19T00:00:00Z,USD,{cost}" for cost in ("1", f"2{HOSTILE}"))
    (folder / "bill.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    (folder / f"x{HOSTILE}.csv").write_text("no,bill\n1,2\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_what_a_terminal_obeys_is_replaced(code):
    assert printable(f"a{chr(code)}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["EC2 – Größe", "計算", "مرحبا", "\u00a0\u2028\u200b"])
def test_letters_of_all_languages_are_left_alone(text):
    assert printable(text) == text


def test_title_and_cells_of_a_table_are_of_one_line_each(capsys):
    print_table(f"title{HOSTILE}\nmore", ("name",), [(f"cell{HOSTILE}\nmore",)])
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert [re.sub("\ufffd+", "|", line).strip() for line in shown.splitlines()] == [
        "title|]0;owned|2J|more",
        "name",
        "cell|]0;owned|2J|more",
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("rejected",), "x\ufffd]0;owned"),
        (("breakdown", "--month", "2026-11", "--by", "service", "--by", "file"), "EC2\ufffd]0;owned"),
        (("attribution", "coverage", "--month", "2026-11"), "EC2\ufffd]0;owned"),
    ],
)
def test_commands_show_hostile_bills(arguments, shown, costwarden, spending, bills):
    spending.refresh(FocusSettings(path=bills), window=ANY)
    assert any(HOSTILE in part for part in spending.parts())
    result = costwarden(*arguments, sources=[{"type": "focus", "path": str(bills)}])
    assert shown in result.output
    assert is_harmless(result.output), ascii(result.output)


def test_a_file_that_cannot_be_compared_is_named_without_harm(costwarden, spending, bills, tmp_path):
    spending.refresh(FocusSettings(path=bills), window=ANY)
    rules = tmp_path / "new.yaml"
    rules.write_text(yaml.safe_dump({"attribution": {"rules": [{"target": "team", "origins": ["service_name"]}]}}), encoding="utf-8")
    result = costwarden("attribution", "try", rules, sources=[{"type": "focus", "path": str(bills)}])
    assert "not compared in part: focus: x\ufffd]0;owned" in result.output
    assert is_harmless(result.output), ascii(result.output)


def test_what_a_provider_answers_to_a_test_is_shown_without_harm(costwarden, tmp_path):
    (tmp_path / "key").write_text(KEY, encoding="utf-8")
    with StandIn(lambda request: pytest.fail("not reached")) as server:
        server.fail(401, {"error": {"message": f"no such key{HOSTILE}"}})
        openai = {"type": "openai", "admin_key": {"file": str(tmp_path / "key")}, "endpoint_url": server.url}
        result = costwarden("source", "test", "openai", sources=[openai])
    assert result.exit_code == 1
    assert "no such key\ufffd]0;owned" in result.output
    assert is_harmless(result.output), ascii(result.output)


def test_why_everything_is_stopped_is_shown_without_harm(costwarden):
    costwarden("emergency-stop", "--reason", f"because{HOSTILE}")
    result = costwarden("status")
    assert "EMERGENCY STOP by command line since " in result.output
    assert "because\ufffd]0;owned" in result.output
    assert is_harmless(result.output), ascii(result.output)
