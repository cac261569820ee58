"""Clients of httpx or httpx2 with a budget, ready for `http_client=` of an SDK."""

import importlib
import socket
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from urllib.request import getproxies

from costwarden.client.budget import Budget
from costwarden.client.dimensions import NAMES
from costwarden.client.transport import AsyncMeteredTransport, MeteredTransport

_OF_TRANSPORT = ("verify", "cert", "trust_env", "http1", "http2", "limits")
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
"""An answer may take minutes to begin, which a router on the way may take for the end of a connection."""

_shared: dict[tuple[tuple[str, Any], ...], Budget] = {}
_sharing = threading.Lock()


def shared_budget(options: Mapping[str, Any]) -> Budget:
    """The budget of this process with these options: clients that are made alike share one, with its spool and its slices."""
    key = tuple(sorted((name, tuple(sorted(value.items())) if isinstance(value, dict) else value) for name, value in options.items()))
    with _sharing:
        if key not in _shared or _shared[key].closed:
            _shared[key] = Budget(**options)
        return _shared[key]


def default_library() -> ModuleType:
    """httpx2 where it is installed, as current OpenAI and Anthropic SDKs want it, else httpx."""
    try:
        return importlib.import_module("httpx2")
    except ImportError:
        return importlib.import_module("httpx")


def http_client(
    *,
    budget: Budget | None = None,
    provider: str = "",
    library: ModuleType | None = None,
    transport: Any = None,
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A synchronous client for `http_client=` of `openai.OpenAI` or `anthropic.Anthropic`.

    - `budget`: the `Budget` that is asked; without it, one with the remaining `options`, which clients that are made alike share.
    - `tenant_id`, `feature`, `team`, `user_id`, `service`, `report_type`: whom the calls are for unless something nearer says otherwise.
    - `provider`: whose API it is, where the host does not tell (a gateway, a server of your own).
    - `library`: `httpx` or `httpx2`, whichever the SDK takes; httpx2 where it is installed.
    - `transport`: sends what is admitted, instead of the library's own transport.
    - `client_options`: for the library's `Client`: `{"proxy": …, "verify": …, "timeout": …}`.

    Raises what `Budget` raises.
    """
    library, budget, names = _prepare(library, budget, options)
    settings, inner, mounts = _transports(library.HTTPTransport, library, transport, client_options)
    wrap = _wrapper(MeteredTransport, budget, library, provider, names)
    return library.Client(transport=wrap(inner), mounts={pattern: _or_none(wrap, found) for pattern, found in mounts.items()}, **settings)


def async_http_client(
    *,
    budget: Budget | None = None,
    provider: str = "",
    library: ModuleType | None = None,
    transport: Any = None,
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """An asynchronous client for `http_client=` of `openai.AsyncOpenAI` or `anthropic.AsyncAnthropic`; else as `http_client`."""
    library, budget, names = _prepare(library, budget, options)
    settings, inner, mounts = _transports(library.AsyncHTTPTransport, library, transport, client_options)
    wrap = _wrapper(AsyncMeteredTransport, budget, library, provider, names)
    return library.AsyncClient(
        transport=wrap(inner), mounts={pattern: _or_none(wrap, found) for pattern, found in mounts.items()}, **settings
    )


def _prepare(library: ModuleType | None, budget: Budget | None, options: dict[str, Any]) -> tuple[Any, Budget, dict[str, str]]:
    names = {name: options.pop(name) for name in NAMES if name in options}
    if budget is not None and options:
        raise TypeError(f"{', '.join(sorted(options))}: with a `budget`, these are options of it")
    return library or default_library(), budget or shared_budget(options), names


def _wrapper(metered: Any, budget: Budget, library: Any, provider: str, names: dict[str, str]) -> Any:
    return lambda inner: metered(budget, inner, library, provider=provider, names=names)


def _or_none(wrap: Any, transport: Any) -> Any:
    return None if transport is None else wrap(transport)


def _transports(
    kind: Any, library: Any, transport: Any, client_options: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """The options that the client itself takes, the transport that sends, and those that go by proxies.

    A client that is given a transport asks nobody for proxies, so that is done here, by the rules of httpx.
    """
    settings: dict[str, Any] = {
        # As the SDKs set up a client of their own.
        "follow_redirects": True,
        "limits": library.Limits(max_connections=1000, max_keepalive_connections=100),
        **(client_options or {}),
    }
    mounts = dict(settings.pop("mounts", None) or {})
    proxy = settings.pop("proxy", None)
    for_transport = {name: settings.pop(name) for name in _OF_TRANSPORT if name in settings}
    if transport is None:
        transport = kind(socket_options=_KEEPALIVE, **for_transport)
        proxies = {"all://": proxy} if proxy else environment_proxies() if for_transport.get("trust_env", True) else {}
        mounts = {pattern: url and kind(proxy=url, **for_transport) for pattern, url in proxies.items()} | mounts
    return settings, transport, mounts


def environment_proxies() -> dict[str, Any]:
    """Pattern of httpx's `mounts` -> the proxy for it, None for none: https://www.python-httpx.org/environment_variables/."""
    found = getproxies()
    mounts: dict[str, Any] = {}
    for scheme in ("http", "https", "all"):
        if url := found.get(scheme):
            mounts[f"{scheme}://"] = url if "://" in url else f"http://{url}"
    if not mounts:
        return {}
    for host in filter(None, (host.strip() for host in found.get("no", "").split(","))):
        if host == "*":
            return {}
        if "://" in host:
            mounts[host] = None
        elif host.count(":") > 1:
            mounts[f"all://[{host}]"] = None
        elif host == "localhost" or host.replace(".", "").replace("/", "").isdigit():
            mounts[f"all://{host}"] = None
        else:
            mounts[f"all://*{host}"] = None
    return mounts
