"""What applications import: a budget in front of their calls, in process, without a proxy.

It needs httpx and msgspec of all that costwarden installs; the server and its libraries are not imported.
"""

from costwarden.client.budget import Budget, Counts
from costwarden.client.denial import BudgetExceeded, BudgetUnavailable
from costwarden.client.dimensions import NoTenant, attribution
from costwarden.client.http import async_http_client, http_client
from costwarden.client.manual import BudgetedCall
from costwarden.client.middleware import BudgetMiddleware
from costwarden.client.transport import AsyncMeteredTransport, MeteredTransport

__all__ = [
    "AsyncMeteredTransport",
    "Budget",
    "BudgetExceeded",
    "BudgetMiddleware",
    "BudgetUnavailable",
    "BudgetedCall",
    "Counts",
    "MeteredTransport",
    "NoTenant",
    "async_http_client",
    "attribution",
    "http_client",
]
