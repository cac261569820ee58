"""What an upgrade does to an exported and edited copy: your edits stay, the new version comes in, and where both meet nobody loses."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path, PurePath

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from costwarden import __version__
from costwarden.artifacts import ArtifactError, export_artifacts
from costwarden.artifacts.exported import RECORD, apply_changes, difference, read_record, upgrade_changes
from costwarden.artifacts.merging import edits, merge
from costwarden.cli import cli

RULES = PurePath("alerts/budget.rules.yaml")
OLD = b"one\ntwo\nthree\nfour\nfive\nsix\n"
NEW = b"one\ntwo\nthree\nfour\nfive\nSIX\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder into which a version with one rule file was exported."""
    export_artifacts(tmp_path / "copy", {RULES: OLD})
    return tmp_path / "copy"


def kinds(copy: Path, files: dict[PurePath, bytes]) -> dict[str, str]:
    return {change.path.as_posix(): change.kind for change in upgrade_changes(copy, read_record(copy), files)}


def upgraded(copy: Path, files: dict[PurePath, bytes]) -> str:
    apply_changes(copy, list(upgrade_changes(copy, read_record(copy), files)), files, "")
    return (copy / RULES).read_text()


# --- one file ------------------------------------------------------------------------------------------------------------------


def test_a_file_that_was_left_alone_takes_the_new_text(copy: Path) -> None:
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "changed"}
    assert upgraded(copy, {RULES: NEW}) == NEW.decode()
    assert kinds(copy, {RULES: NEW}) == {}


def test_edits_at_other_places_are_kept_beside_those_of_the_upgrade(copy: Path) -> None:
    (copy / RULES).write_bytes(OLD.replace(b"one", b"mine"))
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "merged"}
    assert upgraded(copy, {RULES: NEW}) == "mine\ntwo\nthree\nfour\nfive\nSIX\n"
    # From now on they are edits of the new version's text.
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "edited"}


def test_where_both_edit_the_same_lines_yours_stay_and_the_new_text_lies_beside_them(copy: Path) -> None:
    (copy / RULES).write_bytes(OLD.replace(b"six", b"mine"))
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "conflict"}
    assert upgraded(copy, {RULES: NEW}) == "one\ntwo\nthree\nfour\nfive\nmine\n"
    assert (copy / "alerts" / "budget.rules.yaml.new").read_bytes() == NEW


def test_a_file_that_the_upgrade_does_not_touch_is_left_alone(copy: Path) -> None:
    (copy / RULES).write_bytes(b"mine\n")
    assert kinds(copy, {RULES: OLD}) == {"alerts/budget.rules.yaml": "edited"}
    assert upgraded(copy, {RULES: OLD}) == "mine\n"


def test_a_file_that_you_deleted_stays_away(copy: Path) -> None:
    (copy / RULES).unlink()
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "deleted"}
    apply_changes(copy, list(upgrade_changes(copy, read_record(copy), {RULES: NEW})), {RULES: NEW}, "")
    assert not (copy / RULES).exists()


def test_a_new_file_comes_and_one_that_is_gone_goes_unless_you_edited_it(copy: Path, tmp_path: Path) -> None:
    other = PurePath("alerts/burn.rules.yaml")
    assert kinds(copy, {other: NEW}) == {"alerts/budget.rules.yaml": "removed", "alerts/burn.rules.yaml": "added"}
    apply_changes(copy, list(upgrade_changes(copy, read_record(copy), {other: NEW})), {other: NEW}, "")
    assert sorted(path.name for path in (copy / "alerts").iterdir()) == ["burn.rules.yaml"]
    export_artifacts(tmp_path / "edited", {RULES: OLD})
    (tmp_path / "edited" / RULES).write_bytes(b"mine\n")
    assert kinds(tmp_path / "edited", {}) == {"alerts/budget.rules.yaml": "edited"}


def test_a_new_file_never_takes_the_place_of_one_of_yours(copy: Path) -> None:
    other = PurePath("alerts/burn.rules.yaml")
    (copy / other).write_bytes(b"mine\n")
    assert kinds(copy, {RULES: OLD, other: NEW}) == {"alerts/burn.rules.yaml": "conflict"}


def test_an_edit_that_the_new_version_makes_too_is_no_edit(copy: Path) -> None:
    (copy / RULES).write_bytes(NEW)
    assert kinds(copy, {RULES: NEW}) == {}


def test_a_copy_that_is_no_text_any_more_is_a_conflict_and_is_kept(copy: Path) -> None:
    (copy / RULES).write_bytes(b"\xff\xfe\n")
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "conflict"}


def test_the_difference_is_what_the_upgrade_changes_not_what_you_did(copy: Path) -> None:
    (copy / RULES).write_bytes(OLD.replace(b"one", b"mine"))
    (change,) = upgrade_changes(copy, read_record(copy), {RULES: NEW})
    assert difference(change).splitlines()[-2:] == ["-six", "+SIX"]
    assert "mine" not in difference(change)


def test_a_conflict_is_open_until_the_file_beside_yours_is_removed(copy: Path) -> None:
    mine, beside = OLD.replace(b"six", b"mine"), copy / "alerts" / "budget.rules.yaml.new"
    (copy / RULES).write_bytes(mine)
    upgraded(copy, {RULES: NEW})
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "open"}
    beside.write_bytes(b"half way\n")
    assert upgraded(copy, {RULES: NEW}) == mine.decode()
    assert beside.read_bytes() == b"half way\n"
    # Nor is it forgotten when your text is this version's, or when a version after that comes in.
    (copy / RULES).write_bytes(NEW)
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "open"}
    newer = NEW.replace(b"one", b"ONE")
    assert kinds(copy, {RULES: newer}) == {"alerts/budget.rules.yaml": "conflict"}
    assert upgraded(copy, {RULES: newer}) == NEW.decode()
    assert beside.read_bytes() == newer
    beside.unlink()
    assert kinds(copy, {RULES: newer}) == {"alerts/budget.rules.yaml": "edited"}


# --- the record ----------------------------------------------------------------------------------------------------------------


def test_the_record_knows_version_values_and_every_file_and_is_the_same_for_the_same_export(copy: Path, tmp_path: Path) -> None:
    export_artifacts(tmp_path / "again", {RULES: OLD})
    assert (tmp_path / "again" / RECORD).read_bytes() == (copy / RECORD).read_bytes()
    record = read_record(copy)
    assert (record.version, record.values, record.files) == (__version__, "", {RULES: OLD})


def test_a_folder_without_a_record_and_a_broken_record_are_told(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no \.costwarden-export\.zip"):
        read_record(tmp_path)
    (copy / RECORD).write_bytes(b"PK")
    with pytest.raises(ArtifactError, match=r"^cannot read .*\.costwarden-export\.zip: "):
        read_record(copy)


def test_a_record_that_names_files_outside_of_its_folder_is_refused(copy: Path) -> None:
    with zipfile.ZipFile(copy / RECORD, "a") as record:
        record.writestr("files/../../victim", b"")
    with pytest.raises(ArtifactError, match=r"\.\./\.\./victim is outside of the export"):
        read_record(copy)


def test_no_bit_that_turns_in_the_record_gives_anything_but_a_refusal(copy: Path) -> None:
    sound = (copy / RECORD).read_bytes()
    refused = 0
    for place in range(len(sound)):
        for value in (0, 255, sound[place] ^ 1):
            (copy / RECORD).write_bytes(sound[:place] + bytes([value]) + sound[place + 1 :])
            try:
                read_record(copy)
            except ArtifactError:
                refused += 1
    assert refused > len(sound)


# --- files that are not as they should be ----------------------------------------------------------------------------------------

FILE_OF_10_BYTES_AT_MOST = """
import resource, sys
from pathlib import Path, PurePath
from costwarden.artifacts import ArtifactError
from costwarden.artifacts.exported import apply_changes, read_record, upgrade_changes
copy, files = Path(sys.argv[1]), {PurePath("alerts/budget.rules.yaml"): sys.argv[2].encode()}
changes = list(upgrade_changes(copy, read_record(copy), files))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    apply_changes(copy, changes, files, "")
except ArtifactError as error:
    print(error)
"""


def test_an_upgrade_that_cannot_write_to_the_end_leaves_the_old_file_whole_and_can_be_done_again(copy: Path) -> None:
    command = [sys.executable, "-c", FILE_OF_10_BYTES_AT_MOST, str(copy), NEW.decode()]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == f"cannot write {copy}/alerts/budget.rules.yaml: File too large\n"
    assert (copy / RULES).read_bytes() == OLD
    assert [path.name for path in (copy / "alerts").iterdir()] == ["budget.rules.yaml"]
    assert kinds(copy, {RULES: NEW}) == {"alerts/budget.rules.yaml": "changed"}


def test_the_file_behind_a_symbolic_link_is_the_one_that_is_upgraded(copy: Path, tmp_path: Path) -> None:
    (copy / RULES).rename(tmp_path / "shared.yaml")
    (copy / RULES).symlink_to(tmp_path / "shared.yaml")
    assert upgraded(copy, {RULES: NEW}) == NEW.decode()
    assert (copy / RULES).is_symlink()
    assert (tmp_path / "shared.yaml").read_bytes() == NEW


def test_links_that_go_round_and_a_folder_in_the_place_of_a_file_are_told(copy: Path) -> None:
    (copy / RULES).unlink()
    (copy / RULES).symlink_to(copy / RULES)
    with pytest.raises(ArtifactError, match=r"cannot read .*budget\.rules\.yaml"):
        kinds(copy, {RULES: NEW})
    (copy / RULES).unlink()
    (copy / RULES).mkdir()
    with pytest.raises(ArtifactError, match=r"cannot read .*budget\.rules\.yaml"):
        kinds(copy, {RULES: NEW})


def test_a_file_that_cannot_be_removed_is_told(copy: Path) -> None:
    changes = list(upgrade_changes(copy, read_record(copy), {}))
    (copy / RULES).unlink()
    (copy / RULES).mkdir()
    with pytest.raises(ArtifactError, match=r"cannot remove .*budget\.rules\.yaml"):
        apply_changes(copy, changes, {}, "")


def test_a_program_that_you_edited_is_merged_and_stays_one(tmp_path: Path) -> None:
    script = PurePath("scripts/shutdown/stop.sh")
    old = b"#!/bin/sh\na\nb\nc\nd\n"
    export_artifacts(tmp_path, {script: old})
    (tmp_path / script).write_bytes(old.replace(b"a", b"mine"))
    files = {script: old.replace(b"d", b"D")}
    apply_changes(tmp_path, list(upgrade_changes(tmp_path, read_record(tmp_path), files)), files, "")
    assert (tmp_path / script).read_bytes() == b"#!/bin/sh\nmine\nb\nc\nD\n"
    assert (tmp_path / script).stat().st_mode & 0o777 == 0o755


# --- merging -------------------------------------------------------------------------------------------------------------------

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=12)


@given(TEXTS, TEXTS)
def test_what_one_side_alone_changed_is_the_result(original: list[str], changed: list[str]) -> None:
    assert merge(original, changed, original) == merge(original, original, changed) == merge(original, changed, changed) == changed


@given(TEXTS, TEXTS, TEXTS)
def test_a_merge_has_the_edits_of_both_and_does_not_depend_on_whose_are_whose(
    original: list[str], mine: list[str], theirs: list[str]
) -> None:
    merged = merge(original, mine, theirs)
    assert merged == merge(original, theirs, mine)
    if merged is not None:
        grown = sum(len(edit.lines) - (edit.last - edit.first) for edit in {*edits(original, mine), *edits(original, theirs)})
        assert len(merged) == len(original) + grown


# --- the command ---------------------------------------------------------------------------------------------------------------


def test_an_export_of_this_version_has_nothing_to_upgrade(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(cli, ["artifacts", "export", str(tmp_path / "copy")]).exit_code == 0
    shown = runner.invoke(cli, ["artifacts", "diff", str(tmp_path / "copy")])
    assert (shown.exit_code, shown.output) == (0, f"{tmp_path}/copy: exported by costwarden {__version__}\n")


def noted_as_of(directory: Path, version: str) -> None:
    """As if that version had exported into it."""
    with zipfile.ZipFile(directory / RECORD) as record:
        contents = {name: record.read(name) for name in record.namelist()}
    (about,) = (name for name, content in contents.items() if content.startswith(b'{"version":'))
    contents[about] = contents[about].replace(f'"{__version__}"'.encode(), f'"{version}"'.encode())
    with zipfile.ZipFile(directory / RECORD, "w") as record:
        for name, content in contents.items():
            record.writestr(name, content)


def test_the_command_shows_and_makes_the_upgrade(tmp_path: Path) -> None:
    runner, copy = CliRunner(), tmp_path / "copy"
    runner.invoke(cli, ["artifacts", "export", str(copy)])
    record = read_record(copy)
    # As if an older version had shipped another heading and one file less; and you had changed the last line.
    readme = PurePath("alerts/README.md")
    old = record.files[readme].replace(b"# Runbook", b"# Alerts", 1)
    files = record.files | {readme: old}
    del files[PurePath("alertmanager/templates/costwarden.tmpl")]
    (copy / RECORD).unlink()
    export_artifacts(copy, files, force=True)
    (copy / "alertmanager/templates/costwarden.tmpl").unlink()
    (copy / readme).write_bytes(old + b"mine\n")
    noted_as_of(copy, "0.0.9")
    told = runner.invoke(cli, ["artifacts", "diff", str(copy)])
    assert told.output.startswith(f"{copy}: exported by costwarden 0.0.9, this is {__version__}\n")
    shown = runner.invoke(cli, ["artifacts", "diff", str(copy), "--format", "json"])
    assert shown.exit_code == 1
    found = {file["path"]: file for file in json.loads(shown.output)["files"]}
    assert {path: file["kind"] for path, file in found.items()} == {
        "alertmanager/templates/costwarden.tmpl": "added",
        "alerts/README.md": "merged",
    }
    assert "-# Alerts\n+# Runbook\n" in found["alerts/README.md"]["diff"]
    refused = runner.invoke(cli, ["artifacts", "export", str(copy)])
    assert refused.exit_code == 1
    assert "`costwarden artifacts upgrade` keeps your edits" in refused.output
    done = runner.invoke(cli, ["artifacts", "upgrade", str(copy)])
    assert (done.exit_code, done.output) == (0, f"{copy}: from 0.0.9 to {__version__}: 1 merged, 1 added\n")
    assert (copy / readme).read_bytes() == record.files[readme] + b"mine\n"
    again = runner.invoke(cli, ["artifacts", "diff", str(copy)])
    assert again.exit_code == 0
    assert "alerts/README.md: edited by you; the upgrade does not touch it\n" in again.output


def test_a_conflict_ends_with_exit_code_1_and_names_the_file(tmp_path: Path) -> None:
    runner, copy = CliRunner(), tmp_path / "copy"
    runner.invoke(cli, ["artifacts", "export", str(copy)])
    record = read_record(copy)
    readme = PurePath("alerts/README.md")
    export_artifacts(copy, record.files | {readme: record.files[readme].replace(b"# Runbook", b"# Alerts", 1)}, force=True)
    (copy / readme).write_bytes(record.files[readme].replace(b"# Runbook", b"# Mine", 1))
    done = runner.invoke(cli, ["artifacts", "upgrade", str(copy)])
    assert done.exit_code == 1
    assert "alerts/README.md: changed by the upgrade and by you, at the same place: see README.md.new" in done.output
    # So it says until it is settled.
    for _ in range(2):
        again = runner.invoke(cli, ["artifacts", "upgrade", str(copy)])
        assert again.exit_code == 1
        assert f"of {__version__}: 1 open\n" in again.output
        assert "alerts/README.md: the conflict of an earlier upgrade is open: settle it, then remove README.md.new\n" in again.output
        shown = runner.invoke(cli, ["artifacts", "diff", str(copy)])
        assert shown.exit_code == 1
        assert "alerts/README.md: the conflict of an earlier upgrade is open: settle it, then remove README.md.new\n" in shown.output
    (copy / "alerts/README.md.new").unlink()
    settled = runner.invoke(cli, ["artifacts", "upgrade", str(copy)])
    assert (settled.exit_code, settled.output) == (0, f"{copy}: of {__version__}: 1 edited\n")


def test_a_folder_that_was_never_exported_into_is_told(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["artifacts", "diff", str(tmp_path)])
    assert shown.exit_code == 2
    assert "has no .costwarden-export.zip" in shown.output


# --- values ----------------------------------------------------------------------------------------------------------------------

MINE = """\
receivers:
  ops: {email: [{to: [ops@acme.com]}]}
  night: {email: [{to: [night@acme.com]}]}
routes:
  severity: {critical: [ops], warning: [night], info: [night]}
  otherwise: ops
escalation: []
"""
MOVED = MINE.replace("critical: [ops]", "critical: [night]")
BROKEN = MINE.replace("critical: [ops]", "critical: [nobody]")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["artifacts", *map(str, arguments)])
    return done.exit_code, done.output


def critical(copy: Path) -> str:
    """Who hears of a critical alert by the routes in `copy`."""
    routes = yaml.safe_load((copy / "alertmanager/alertmanager.yaml").read_text())["route"]["routes"]
    (found,) = {
        route["receiver"] for route in routes if "severity = critical" in str(route.get("matchers")) and route["receiver"] != "costwarden"
    }
    return str(found)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """An export for `MINE`, and the folder's own copy of it."""
    (tmp_path / "mine.yaml").write_text(MINE)
    assert run("export", tmp_path / "ours", "--values", tmp_path / "mine.yaml")[0] == 0
    return tmp_path / "ours"


def state(copy: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_an_upgrade_takes_a_route_that_was_changed_in_the_folders_values_and_keeps_an_edit_of_the_routes(ours: Path) -> None:
    routes, values = ours / "alertmanager/alertmanager.yaml", ours / "alertmanager/values.yaml"
    assert critical(ours) == "ops"
    routes.write_text(routes.read_text() + "# mine\n")
    values.write_text(MOVED)
    code, told = run("diff", ours)
    assert code == 1
    assert "alertmanager/alertmanager.yaml: changed by the upgrade and by you, at different places\n" in told
    assert run("upgrade", ours) == (0, f"{ours}: of {__version__}: 1 merged\n")
    assert critical(ours) == "night"
    assert routes.read_text().endswith("# mine\n")
    assert values.read_text() == MOVED
    assert read_record(ours).values == MOVED
    assert run("upgrade", ours) == (0, f"{ours}: of {__version__}: 1 edited\n")


def test_the_example_that_was_edited_in_an_export_without_values_holds(tmp_path: Path) -> None:
    run("export", tmp_path / "copy")
    (tmp_path / "copy/alertmanager/values.yaml").write_text(MINE)
    code, told = run("upgrade", tmp_path / "copy")
    assert (code, told) == (
        0,
        f"{tmp_path}/copy: of {__version__}: 2 changed\n",
    )  # the routes, and the stages in the messages
    assert critical(tmp_path / "copy") == "ops"


def test_an_export_into_a_folder_with_values_of_its_own_never_resets_them(ours: Path) -> None:
    values = ours / "alertmanager/values.yaml"
    values.write_text(MOVED)
    assert run("export", ours, "--force") == (0, f"{ours}: 1 files written, for the values of {values}\n")
    assert (critical(ours), values.read_text()) == ("night", MOVED)
    assert run("export", ours, "--force") == (0, f"{ours}: 0 files written, for the values of {values}\n")
    # Those of the export take the place of a file that is gone; so does the file, of a record that is gone.
    values.unlink()
    assert run("export", ours, "--force") == (0, f"{ours}: 1 files written, for the values of the last export\n")
    assert values.read_text() == MOVED
    (ours / RECORD).unlink()
    assert run("export", ours) == (0, f"{ours}: 0 files written, for the values of {values}\n")
    assert critical(ours) == "night"


@pytest.mark.parametrize(("command", "code"), [(["diff"], 2), (["upgrade"], 2), (["export", "--force"], 1)])
def test_a_mistake_in_the_folders_values_is_told_and_nothing_is_written(ours: Path, command: list[str], code: int) -> None:
    (ours / "alertmanager/values.yaml").write_text(BROKEN)
    before = state(ours)
    ended, told = run(*command, ours)
    assert ended == code
    assert f"{ours}/alertmanager/values.yaml: " in told
    assert "`routes.severity.critical`: `nobody` is none of `receivers`" in told
    assert state(ours) == before


def test_values_with_the_line_ends_of_windows_are_not_edited_by_being_exported(ours: Path) -> None:
    (ours / "alertmanager/values.yaml").write_bytes(MOVED.replace("\n", "\r\n").encode())
    assert run("upgrade", ours) == (0, f"{ours}: of {__version__}: 1 changed\n")
    assert run("upgrade", ours) == (0, f"{ours}: of {__version__}: nothing to do\n")


def test_values_that_are_given_take_the_place_of_the_folders(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MOVED)
    assert run("upgrade", ours, "--values", tmp_path / "mine.yaml") == (0, f"{ours}: of {__version__}: 2 changed\n")
    assert critical(ours) == "night"
