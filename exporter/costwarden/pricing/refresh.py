"""Newer published prices while the server runs: fetched, checked, kept on disk, and put in force at once."""

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, final
from urllib.error import URLError
from urllib.request import Request, urlopen

import msgspec
import structlog

from costwarden.pricing.price_book import PriceBook
from costwarden.pricing.published import PublishedPrices
from costwarden.pricing.settings import RefreshSettings

log = structlog.get_logger(__name__)

MOST_BYTES = 64 * 1024 * 1024
"""Longest list that is read; that of 2026 has 4 MB."""

# A list with less than this share of the models in force is taken for cut short.
_LEAST_SHARE = 0.5


class RefreshError(Exception):
    """Prices that could not be fetched, read or kept; the ones in force stay in force."""


class _Cached(msgspec.Struct):
    """The file of the fetched list: the provider data as they came, and when that was."""

    fetched_at: int
    """Microseconds since 1970 UTC."""
    url: str
    providers: msgspec.Raw


@final
class PriceRefresh:
    """Keeps the published prices of `book` new. `now` gives microseconds since 1970 UTC."""

    def __init__(self, settings: RefreshSettings, book: PriceBook, now: Callable[[], int]) -> None:
        self._settings = settings
        self._book = book
        self._now = now
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Put the list on disk in force where it is newer than the installed one, then fetch in the background. Nothing if not enabled."""
        if not self._settings.enabled or self._thread is not None:
            return
        try:
            self.load()
        except RefreshError as error:
            log.warning("the prices fetched by an earlier run are not used", error=str(error))
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="price-refresh", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the fetching; a fetch under way is waited for, at most the configured timeout."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._settings.timeout_seconds + 1)
            self._thread = None

    def configure(self, settings: RefreshSettings, book: PriceBook) -> None:
        """Keep `book` new from now on; a book that is new itself gets what was fetched before. Nothing where neither has changed."""
        if settings == self._settings and book is self._book:
            return
        running = self._thread is not None
        self.stop()
        self._settings, self._book = settings, book
        if running or settings.enabled:
            self.start()

    def load(self) -> bool:
        """Put the list on disk in force, if there is one and it is newer; whether that was done.

        Raises `RefreshError` for a file that is no such list.
        """
        path = self._settings.cache_file
        if path is None:
            return False
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RefreshError(f"{path}: {error.strerror or error}") from error
        try:
            cached = msgspec.json.decode(raw, type=_Cached)
        except msgspec.MsgspecError as error:
            raise RefreshError(f"{path} is no kept price list: {error}") from error
        if cached.fetched_at <= self._book.published_at:
            return False
        self._book.replace_published(self._checked(bytes(cached.providers), cached.fetched_at, str(path)))
        return True

    def fetch(self) -> None:
        """Fetch the list, put it in force and keep it on disk.

        Raises `RefreshError` where that fails: the prices in force stay, and a list that cannot be kept is in force all the same.
        """
        raw = self._download()
        at = self._now()
        self._book.replace_published(self._checked(raw, at, self._settings.url))
        self._keep(msgspec.json.encode(_Cached(fetched_at=at, url=self._settings.url, providers=msgspec.Raw(raw))))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.fetch()
                log.info("prices fetched", models=self._book.model_count)
            except RefreshError as error:
                log.warning("prices not fetched; those in force stay", error=str(error))
            self._stop.wait(self._settings.interval_hours * 3600)

    def _download(self) -> bytes:
        url = self._settings.url
        try:
            request = Request(url, headers={"User-Agent": "costwarden", "Accept": "application/json"})  # noqa: S310 - http(s) by its setting
            with urlopen(request, timeout=self._settings.timeout_seconds) as answer:  # noqa: S310
                raw: bytes = answer.read(MOST_BYTES + 1)
        except (URLError, OSError, ValueError) as error:
            raise RefreshError(f"{url}: {getattr(error, 'reason', error)}") from error
        if len(raw) > MOST_BYTES:
            raise RefreshError(f"{url}: the list is longer than {MOST_BYTES} bytes")
        return raw

    def _checked(self, raw: bytes, at: int, origin: str) -> PublishedPrices:
        published = PublishedPrices(_providers(raw, origin), at)
        try:
            published.compile_all()
        except Exception as error:
            # Whatever it is that this version cannot compute, it must come to light here and not in the middle of a check.
            raise RefreshError(f"{origin}: a price that this version does not understand: {error}") from error
        if published.model_count < _LEAST_SHARE * self._book.model_count:
            raise RefreshError(f"{origin}: {published.model_count} models where {self._book.model_count} are in force: taken for cut short")
        return published

    def _keep(self, content: bytes) -> None:
        path = self._settings.cache_file
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError as error:
            raise RefreshError(f"{path}: the fetched prices are in force but not kept: {error.strerror or error}") from error


def _providers(raw: bytes, origin: str) -> Any:
    # The library's own reader of this format; its public `UpdatePrices.fetch` keeps the text to itself, and that is what a restart needs.
    from genai_prices.types import _providers_from_raw

    try:
        decoded = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefreshError(f"{origin}: not JSON: {error}") from error
    if not isinstance(decoded, list) or not decoded:
        raise RefreshError(f"{origin}: not a list of providers")
    try:
        return _providers_from_raw(decoded)
    except Exception as error:
        raise RefreshError(f"{origin}: not the format of genai-prices: {str(error).splitlines()[0]}") from error
