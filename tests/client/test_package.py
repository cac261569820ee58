"""What the client needs of the rest, and that the README is true as it stands."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import http as client_http

ALLOWED = {"costwarden", "msgspec", "httpx", "httpcore", "h11", "certifi", "idna", "anyio", "sniffio", "typing_extensions"}


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_the_client_loads_no_server_and_nothing_beyond_httpx_and_msgspec() -> None:
    # `click`, `rich` and `pygments` come with httpx's command line, where they are installed.
    program = """
import sys
before = set(sys.modules)
import costwarden.client
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before if getattr(sys.modules[name], "__file__", None)}))
print(*sorted(name for name in sys.modules if name.startswith("costwarden.")))
"""
    packages, modules = (line.split() for line in run(program).splitlines())
    foreign = {name for name in packages if name not in sys.stdlib_module_names}
    assert foreign - ALLOWED - {"click", "rich", "pygments", "_multipart", "markdown_it", "mdurl"} == set()
    assert {name.split(".")[1] for name in modules} == {"client", "metering", "model"}


def test_it_works_where_only_httpx_and_msgspec_can_be_imported() -> None:
    program = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"fastapi", "starlette", "pydantic", "sqlalchemy", "alembic", "structlog", "yaml", "uvicorn", "duckdb",
                                      "genai_prices", "openai", "anthropic", "httpx2"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import costwarden.client
import httpx
client = costwarden.client.http_client(tenant_id="acme")
assert isinstance(client, httpx.Client), client
print("made")
"""
    assert run(program) == "made\n"


def test_the_two_lines_of_the_readme_are_true(
    project: Path, provider: Provider, costwarden: Costwarden, tenant: str, monkeypatch: Any
) -> None:
    section = (project / "README.md").read_text(encoding="utf-8").partition("## Cap an OpenAI or Anthropic application in two lines")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    lines = block[1].replace('"acme"', repr(tenant))
    assert len([line for line in lines.splitlines() if line]) == 2
    # All that the reader has and we have not: the service at its own port, time of its own, and OpenAI itself.
    ours = f"url={costwarden.url!r}, timeout_seconds=60, close_seconds=60, provider='openai'"
    lines = lines.replace("http_client(tenant_id", f"http_client({ours}, tenant_id")
    monkeypatch.setattr(client_http, "_shared", shared := {})
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    names: dict[str, Any] = {"openai": openai}
    exec(lines, names)
    with names["client"] as client:
        client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "one two"}], max_tokens=3)
    (budget,) = shared.values()
    budget.close()
    assert [(event["feature"], event["output_tokens"]) for event in costwarden.usage(tenant)] == [("summaries", 3)]


def test_clients_that_are_made_alike_share_a_budget(costwarden: Costwarden, monkeypatch: Any) -> None:
    monkeypatch.setattr(client_http, "_shared", {})
    options = {"url": costwarden.url, "models": {"mine": "plain"}}
    one, same, other = (client_http.shared_budget(found) for found in (options, dict(options), {**options, "timeout_seconds": 1.0}))
    assert one is same
    assert one is not other
    one.close()
    other.close()


def test_proxies_of_the_environment_are_used_as_httpx_does(monkeypatch: Any) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "localhost, 10.1.2.3, ::1, internal.example.org")
    assert client_http.environment_proxies() == {
        "https://": "http://proxy.example.org:3128",
        "all://localhost": None,
        "all://10.1.2.3": None,
        "all://[::1]": None,
        "all://*internal.example.org": None,
    }
    monkeypatch.setenv("no_proxy", "*")
    assert client_http.environment_proxies() == {}
