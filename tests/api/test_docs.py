"""docs/api.md says what the server does, and its examples work."""

import os

import api_page
import pytest

from costwarden.api.callers import ALLOWED
from costwarden.api.operations import OPERATIONS
from costwarden.pricing import PriceBook, PricingSettings

BEGIN, END = "<!-- begin: from the operations -->\n", "<!-- end -->\n"


@pytest.mark.usefixtures("golden")  # so that `make golden` runs it
def test_the_page_of_the_api_lists_every_operation(project, server):
    page = project / "docs" / "api.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    expected = f"{head}{BEGIN}\n{api_page.operations(server.get('/openapi.json').json())}\n{END}{tail}"
    if os.environ.get("COSTWARDEN_GOLDEN") == "write":
        page.write_text(expected, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == expected, "docs/api.md is out of date; `make golden` writes it anew"


def test_every_role_is_explained(project):
    page = (project / "docs" / "api.md").read_text(encoding="utf-8")
    assert [role for role in set().union(*ALLOWED.values()) if f"\n| `{role}` | " not in page] == []


def test_every_example_does_what_it_says(server_of, secret):
    tokens = [{"name": role, "role": role, "secret": secret(f"{role}-token")} for role in ("admin", "alertmanager")]
    server = server_of(tokens=tokens, prices=PriceBook(PricingSettings()), unbudgeted="allow")
    server.page.render()
    admin = "admin-token"
    named = {"tenant_id": "acme", "model": "gpt-4o"}
    server.put("/api/budgets/tenant_id=acme,model=gpt-4o/month", {"limit_usd": 100}, token=admin)
    server.post("/api/ai-budget/check", {**named, "event_id": "call-4712"}, token=admin)
    server.post("/api/usage", {**named, "event_id": "call-4711"}, token=admin)
    last = [("/api/budgets/{name}", "delete"), ("/api/ai-budget/emergency-stop", "post"), ("/api/ai-budget/emergency-stop", "delete")]
    for key in [*(key for key in OPERATIONS if key not in last), *last]:
        path, method = key
        token = "alertmanager-token" if OPERATIONS[key].permission == "alert" else admin
        answer = server.request(method.upper(), api_page.example_path(path, method), json=OPERATIONS[key].example, token=token)
        # No run and no notification is there, and no receiver is configured: those of the notifier are in tests/notifier/.
        nothing = "{run_id}" in path or path.startswith("/api/notifications/")
        expected = 404 if nothing else int(OPERATIONS[key].status)
        assert answer.status_code == expected, (key, answer.text)
