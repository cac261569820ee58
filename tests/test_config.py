"""The whole `costwarden.yaml`: each mistake has its sentence, no secret is printed, and the example in docs lacks nothing."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import config_example
import pytest
import yaml
from pydantic import BaseModel

from costwarden.artifacts import artifact_path
from costwarden.cli.check_config import without_password
from costwarden.config import Config, ConfigError, check_reload, check_secrets, load_config, reveal
from costwarden.presets import PRESETS
from costwarden.strict_yaml import models_in

FIXTURES = Path(__file__).resolve().parent / "fixtures" / "config"
BAD = sorted(path.name.removesuffix(".bad.yaml") for path in FIXTURES.glob("*.bad.yaml"))
OK = sorted(path.name.removesuffix(".ok.yaml") for path in FIXTURES.glob("*.ok.yaml"))
PACKAGE = Path(__file__).resolve().parent.parent / "exporter" / "costwarden"

SECRET = "hunter2"
"""What the fixtures write where a secret does not belong."""

PROGRAM = [sys.executable, "-m", "costwarden"]


def expected(path: Path) -> str:
    """What the first lines of a bad fixture say that its error is."""
    lines = re.findall(r"^# error: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return "\n".join(lines).replace("{path}", str(path)).replace("{scripts}", str(artifact_path("scripts").resolve()))


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """`write(text)` gives the path of a `costwarden.yaml` that says `text`."""

    def to_file(text: str) -> Path:
        path = tmp_path / "costwarden.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


# --- mistakes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_told_with_file_key_value_and_rule(name):
    path = FIXTURES / f"{name}.bad.yaml"
    assert error_of(path) == expected(path)


def rules() -> Iterator[str]:
    """The message of each `raise ValueError` in a module that a configuration is checked by, as a pattern."""
    # What a file of exchange rates may not say is in tests/sources/test_currency.py.
    of_sources = [path for path in PACKAGE.glob("*/settings/*.py") if path.name != "currency.py"]
    for path in (PACKAGE / "config.py", PACKAGE / "settings.py", *PACKAGE.glob("*/settings.py"), *of_sources):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"), args=[ast.Constant(value=str(text))])):
                    yield re.escape(text)
                case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"), args=[ast.JoinedStr(values=parts)])):
                    yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)


@pytest.mark.parametrize("rule", sorted(set(rules())))
def test_each_rule_has_a_file_that_breaks_it(rule):
    sentences = [expected(FIXTURES / f"{name}.bad.yaml") for name in BAD]
    assert [sentence for sentence in sentences if re.search(rule, sentence)] != []


@pytest.mark.parametrize("name", OK)
def test_what_is_right_loads(name):
    assert load_config(FIXTURES / f"{name}.ok.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "{}\n", "---\n", "\ufeff"])
def test_a_file_that_sets_nothing_is_the_defaults(write, text):
    path = write(text)
    assert load_config(path) == Config(database_url=f"sqlite:///{path.parent}/costwarden.db")


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert error_of(tmp_path / "costwarden.yaml") == f"{tmp_path}/costwarden.yaml: No such file or directory"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    # Also for root, who may read everything else.
    path = tmp_path / "costwarden.yaml"
    path.symlink_to(path)
    assert error_of(path) == f"{path}: Too many levels of symbolic links"


def test_a_directory_is_told(tmp_path):
    assert error_of(tmp_path) == f"{tmp_path}: Is a directory"


def test_a_file_that_is_not_utf_8_is_told(write):
    path = write("")
    path.write_bytes("time_zone: Zürich".encode("latin-1"))
    assert error_of(path) == f"{path}: is not UTF-8 text"


def test_off_without_quotes_is_the_mode_and_not_a_truth_value():
    remediation = load_config(FIXTURES / "off_is_a_word.ok.yaml").remediation
    assert (remediation.mode, remediation.playbooks[0].mode) == ("off", "off")
    assert remediation.playbooks[0].parameters["tags"] == {"spare": "no", "stop": "yes"}


def test_a_merged_mapping_gives_way_to_what_is_written_beside_it():
    scopes = [budget.scope for budget in load_config(FIXTURES / "merged_keys.ok.yaml").cloud_budgets]
    assert [scope.model_dump(exclude_defaults=True) for scope in scopes] == [
        {"provider": "aws", "environment": "dev"},
        {"provider": "aws", "environment": "dev", "region": "eu-central-1"},
        {"provider": "aws", "environment": "test", "region": "eu-central-1"},
    ]


def test_an_amount_is_what_was_typed_to_the_last_digit(write):
    config = load_config(write("budgets: {default: {monthly_limit_usd: 1234567.89}}"))
    assert config.budgets.default.monthly_limit_usd == Decimal("1234567.89")


# --- secrets -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_no_message_repeats_what_stands_where_a_secret_belongs(name):
    assert SECRET not in error_of(FIXTURES / f"{name}.bad.yaml")


@pytest.fixture
def guarded(write: Callable[[str], Path], tmp_path: Path) -> Config:
    """A configuration with a token from the file `token` and one from the variable `TOKEN`; neither is there yet."""
    tokens = "[{name: one, role: viewer, secret: {file: token}}, {name: other, role: admin, secret: {env: TOKEN}}]"
    return load_config(write(f"auth: {{tokens: {tokens}}}"))


def test_a_secret_never_prints(guarded, tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    environ = {"TOKEN": SECRET}
    check_secrets(guarded, environ)
    assert [reveal(token.secret, environ) for token in guarded.auth.tokens] == [SECRET, SECRET]
    shown = [repr(guarded), str(guarded), str(guarded.model_dump()), guarded.model_dump_json(), *map(repr, guarded.auth.tokens)]
    assert [text for text in shown if SECRET in text] == []


def test_each_secret_that_is_missing_is_told(guarded, tmp_path):
    with pytest.raises(ConfigError) as caught:
        check_secrets(guarded, {})
    assert str(caught.value) == (
        f"auth.tokens `one`: secret file {tmp_path}/token: No such file or directory\n"
        "auth.tokens `other`: environment variable TOKEN: is missing or empty"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "is missing or empty"), (b" \n\n", "is missing or empty"), (b"\xff\xfe", "is not UTF-8 text")],
)
def test_a_secret_file_without_a_secret_is_told(guarded, tmp_path, content, sentence):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        check_secrets(guarded, {"TOKEN": SECRET})
    assert str(caught.value) == f"auth.tokens `one`: secret file {tmp_path}/token: {sentence}"


def test_a_shared_key_that_could_be_guessed_is_told(write):
    config = load_config(write("auth: {jwt: {shared_key: {env: KEY}, algorithms: [HS256, HS512]}}"))
    check_secrets(config, {"KEY": "x" * 64})
    with pytest.raises(ConfigError) as caught:
        check_secrets(config, {"KEY": "x" * 63})
    assert str(caught.value) == "auth.jwt: the shared key is shorter than 64 bytes, and could be guessed (RFC 7518, 3.2)"
    with pytest.raises(ConfigError, match=r"^auth\.jwt: environment variable KEY: is missing or empty$"):
        check_secrets(config, {})


def test_tokens_without_their_library_are_told(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError, match=r"^auth\.jwt: JSON Web Tokens need a library: `pip install 'costwarden\[jwt\]'`$"):
        check_secrets(load_config(write("auth: {jwt: {jwks_file: keys.json}}")))


def test_an_empty_variable_is_a_missing_one(guarded, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    with pytest.raises(ConfigError, match=r"^auth\.tokens `other`: environment variable TOKEN: is missing or empty$"):
        check_secrets(guarded, {"TOKEN": " "})


# --- paths -------------------------------------------------------------------------------------------------------------------------


def paths_of(config: Config) -> list[str]:
    """Every path of fixtures/config/beside_the_file.ok.yaml."""
    secrets = [token.secret.file for token in config.auth.tokens]
    sources = [source.path for source in config.sources]
    return [config.database_url, *map(str, [*secrets, *sources, config.remediation.kill_switch_file])]


def paths_in(folder: Path) -> list[str]:
    inside = ("tokens/prometheus", "bills/aws")
    return [f"sqlite:///{folder}/ledger/costwarden.db", *(f"{folder}/{name}" for name in inside), "/var/lib/bills/gcp", f"{folder}/STOP"]


def test_a_relative_path_is_meant_from_the_folder_of_the_file(tmp_path, monkeypatch):
    file = FIXTURES / "beside_the_file.ok.yaml"
    monkeypatch.chdir(tmp_path)
    assert paths_of(load_config(file)) == paths_in(FIXTURES)
    assert paths_of(load_config(Path(os.path.relpath(file)))) == paths_in(tmp_path / os.path.relpath(FIXTURES))


def test_the_folder_of_a_linked_file_is_that_of_the_link(tmp_path):
    """As Kubernetes mounts it: every change of a ConfigMap comes in a folder of another name, and the ledger stays where it is."""
    seen = []
    for version in ("..2025_11_01", "..2025_11_02"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "costwarden.yaml").write_bytes((FIXTURES / "beside_the_file.ok.yaml").read_bytes())
        (tmp_path / "..data").unlink(missing_ok=True)
        (tmp_path / "..data").symlink_to(version)
        (tmp_path / "costwarden.yaml").unlink(missing_ok=True)
        (tmp_path / "costwarden.yaml").symlink_to("..data/costwarden.yaml")
        seen.append(paths_of(load_config(tmp_path / "costwarden.yaml")))
    assert seen == [paths_in(tmp_path), paths_in(tmp_path)]


def test_an_absolute_ledger_stays_where_it_is(write):
    assert load_config(write("database_url: sqlite:////var/lib/costwarden.db")).database_url == "sqlite:////var/lib/costwarden.db"


# --- PostgreSQL --------------------------------------------------------------------------------------------------------------------


def test_the_password_of_the_database_comes_from_its_secret_and_is_in_no_dump():
    config = load_config(FIXTURES / "postgresql.ok.yaml")
    url = config.ledger_url({"COSTWARDEN_DATABASE_PASSWORD": "p@ss/w:rd %"})
    assert url == "postgresql://costwarden:p%40ss%2Fw%3Ard%20%25@db.example.com:5433/costwarden?sslmode=require"
    assert config.database_url == "postgresql://costwarden@db.example.com:5433/costwarden?sslmode=require"
    with pytest.raises(ConfigError, match=r"^database_password: environment variable COSTWARDEN_DATABASE_PASSWORD: is missing or empty$"):
        config.ledger_url({})
    with pytest.raises(ConfigError, match=r"^database_password: environment variable"):
        check_secrets(config, {})


def test_a_ledger_in_a_file_has_no_password(write):
    config = load_config(write(""))
    assert config.ledger_url({}) == config.database_url


# --- reload ------------------------------------------------------------------------------------------------------------------------


def test_what_needs_a_restart_is_named():
    new = Config.model_validate({"server": {"port": 3011}, "time_zone": "Europe/Berlin", "remediation": {"concurrency": 2}})
    with pytest.raises(ConfigError, match=r"^`server`, `time_zone`, `remediation\.concurrency`: changed; this needs a restart$"):
        check_reload(Config(), new)


def test_anything_else_can_change_while_the_server_runs():
    new = Config.model_validate({"remediation": {"mode": "off"}, "budgets": {"default": None}, "metrics": {"series_limit": 5}})
    check_reload(Config(), new)


# --- costwarden check-config -------------------------------------------------------------------------------------------------------


def check(path: Path, *options: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `costwarden check-config` on `path`."""
    done = subprocess.run(
        [*PROGRAM, "check-config", "--config", path, *options], env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_check_config_says_what_a_good_file_has():
    path = FIXTURES / "off_is_a_word.ok.yaml"
    parts = "0 sources, 0 budgets, 0 cloud budgets, 0 guardrails, 1 playbook, 0 tokens; remediation is in mode `off`"
    assert check(path) == (0, f"{path}: ok ({parts})\n", "")


def test_check_config_says_every_mistake_and_fails():
    path = FIXTURES / "every_mistake_has_a_line.bad.yaml"
    assert check(path) == (1, "", f"Error: {expected(path)}\n")


def test_check_config_reads_each_secret_and_prints_none():
    path = FIXTURES / "open_with_tokens.ok.yaml"
    mistake = "auth.tokens `prometheus`: environment variable COSTWARDEN_TOKEN: is missing or empty"
    assert check(path) == (1, "", f"Error: {path}: {mistake}\n")
    code, output, errors = check(path, COSTWARDEN_TOKEN=SECRET)
    assert (code, errors) == (0, "")
    assert SECRET not in output


def test_check_config_of_a_file_that_is_not_there_fails(tmp_path):
    path = tmp_path / "costwarden.yaml"
    assert check(path) == (1, "", f"Error: {path}: No such file or directory\n")


def test_check_config_of_a_directory_is_bad_usage(tmp_path):
    code, _, errors = check(tmp_path)
    assert code == 2
    assert errors.endswith(f": File '{tmp_path}' is a directory.\n")


def test_check_config_names_the_preset_and_prints_what_holds(write, tmp_path):
    path = write("preset: cost-optimized\nbudgets: {soft_limit_ratio: 0.7}\ndatabase_url: postgresql://me:hunter2@db/ledger\n")
    code, output, errors = check(path)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{path}: ok (preset `cost-optimized`; 0 sources")
    code, output, errors = check(path, "--effective")
    assert (code, errors) == (0, "")
    assert SECRET not in output
    held = yaml.safe_load(output)
    assert held["database_url"] == "postgresql://me:***@db/ledger"
    assert (held["budgets"]["soft_limit_ratio"], held["budgets"]["default"]["monthly_limit_usd"]) == (0.7, 500)
    assert held["alert_limits"]["cloud_cost_spike_limit_ratio"] == 0.1
    again = tmp_path / "again.yaml"
    again.write_text(output.replace("***", SECRET), encoding="utf-8")
    assert load_config(again) == load_config(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@db/ledger", "postgresql://me:***@db/ledger"),
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("postgresql://me@db/ledger?sslmode=require", "postgresql://me@db/ledger?sslmode=require"),
        ("postgresql://me@db/ledger?sslmode=require&password=hunter2", "postgresql://me@db/ledger?sslmode=require&password=***"),
        ("rediss://cache/0?p%61ssword=hunter2;db=1", "rediss://cache/0?p%61ssword=***;db=1"),
        # A password may have any of these, and each parser takes another part of it for one.
        ("redis://:p@hunter2@cache/0", "redis://:***@cache/0"),
        ("redis://:hun/ter2@cache/0", "***"),
        ("redis://:22/hunter2@cache/0", "***"),
        ("redis://:22?hunter2@cache/0", "***"),
        ("redis://:22#hunter2@cache/0", "***"),
        ("redis://:hun[ter2@cache/0", "***"),
        ("sqlite:////home/me@work/costwarden.db", "sqlite:////home/me@work/costwarden.db"),
    ],
)
def test_no_password_in_a_url_is_shown(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://hunter2@proxy.example",
        "https://me:hunter2@proxy.example/v1",
        "https://me:hun/ter2@proxy.example",
        "https://proxy.example?key=hunter2",
    ],
)
def test_an_endpoint_has_no_secret(write, url):
    path = write(f"sources: [{{type: aws, access: {{endpoint_url: '{url}'}}}}]")
    assert error_of(path) == f"{path}: `sources[0].access.endpoint_url`: must be an address alone: no user, no password and no query"


@pytest.mark.parametrize("url", ["https://proxy.example", "http://127.0.0.1:4566", "http://[::1]:80/aws/v1"])
def test_an_endpoint_may_have_a_port_and_a_path(write, url):
    (source,) = load_config(write(f"sources: [{{type: aws, access: {{endpoint_url: '{url}'}}}}]")).sources
    assert source.access.endpoint_url == url


# --- presets -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_the_file_leaves_out(write, preset):
    config = load_config(write(f"preset: {preset}")).model_dump()
    for section, keys in PRESETS[preset].items():
        for key, value in keys.items():
            held = config[section][key]
            if isinstance(value, dict):
                assert held | value == held, f"{section}.{key}"
            elif isinstance(value, list):
                assert held == tuple(Decimal(str(item)) for item in value), f"{section}.{key}"
            else:
                assert held == (Decimal(str(value)) if isinstance(held, Decimal) else value), f"{section}.{key}"


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_lets_remediation_act(write, preset):
    assert load_config(write(f"preset: {preset}")).remediation.mode == "dry-run"
    assert "remediation" not in PRESETS[preset]


def test_what_the_file_says_wins_over_its_preset(write):
    config = load_config(FIXTURES / "preset_with_own_keys.ok.yaml")
    assert (config.budgets.default.tier, config.budgets.default_limit_usd) == ("enterprise", 10_000)
    assert (config.budgets.soft_limit_ratio, config.budgets.unbudgeted) == (Decimal("0.7"), "deny")
    assert load_config(write("preset: cost-optimized\nbudgets: {default: null}")).budgets.default is None


def test_without_a_preset_the_defaults_hold(write):
    assert load_config(write("preset: ''")) == load_config(write(""))


# --- docs/costwarden.example.yaml --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("golden")  # so that `make golden` runs it
def test_the_example_has_every_key_with_its_default_and_its_docstring(project):
    path = project / "docs" / "costwarden.example.yaml"
    if os.environ.get("COSTWARDEN_GOLDEN") == "write":
        path.write_text(config_example.example(), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert text == config_example.example(), "docs/costwarden.example.yaml is out of date; `make golden` writes it anew"
    assert [line for line in text.splitlines() if len(line) > 140] == []


def keys_missing(model: type[BaseModel], section: Any, where: str = "") -> Iterator[str]:
    """The keys that a section of the example lacks; of a list the first entry stands for all."""
    while not (isinstance(section, dict) and section.keys() & model.model_fields.keys()):
        section = section[0] if isinstance(section, list) else next(iter(section.values()))
    for name, field in model.model_fields.items():
        if name not in section:
            yield f"{where}{name}"
        # What `attribution.defaults` has is explained under `attribution.rules`, and what a secret has under `auth.tokens`.
        elif name != "defaults" and section[name] is not None:
            inner = models_in(field.annotation)
            for kind in inner:
                # Of what is told apart by `type`, the first entry of each type stands for all of it.
                entries = [one for one in section[name] if config_example.is_kind(kind, one)] if len(inner) > 1 else section[name]
                yield from keys_missing(kind, entries, f"{where}{name}.")


def test_the_example_lacks_no_key(project):
    text = (project / "docs" / "costwarden.example.yaml").read_text(encoding="utf-8")
    assert list(keys_missing(Config, yaml.safe_load(text))) == []


def test_the_example_loads_and_its_examples_apart_is_the_defaults(project, tmp_path):
    example, nothing = tmp_path / "example.yaml", tmp_path / "nothing.yaml"
    example.write_bytes((project / "docs" / "costwarden.example.yaml").read_bytes())
    nothing.touch()
    bare = load_config(nothing).model_dump()
    loaded, defaults = (without_examples(dump, config_example.EXAMPLES, bare) for dump in (load_config(example).model_dump(), bare))
    assert loaded == defaults


def without_examples(section: dict[str, Any], examples: dict[str, Any], bare: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in section.items() if name not in examples}
    # A section that is not there unless it is given has no defaults to be compared with.
    inner = {
        name: without_examples(section[name], value, bare[name])
        for name, value in examples.items()
        if isinstance(value, dict) and bare[name] is not None
    }
    return kept | {name: value for name, value in inner.items() if value}
