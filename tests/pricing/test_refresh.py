"""Newer prices while the server runs: fetched from a server that serves the real format, checked, kept, and put in force at once."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from price_server import PriceServer, provider
from structlog.testing import capture_logs

from costwarden.pricing import PriceBook, PriceRefresh, PricingSettings, RefreshError, RefreshSettings
from costwarden.pricing.published import PublishedPrices

NOW = 1_800_000_000_000_000
LATER = NOW + 3_600_000_000


@pytest.fixture
def server() -> Iterator[PriceServer]:
    made = PriceServer()
    yield made
    made.close()


@pytest.fixture
def settings(server: PriceServer, tmp_path: Path) -> RefreshSettings:
    return RefreshSettings(enabled=True, url=server.url, cache_file=tmp_path / "kept" / "prices.json")


def small_book() -> PriceBook:
    """A book with two models of its own, so that a list of two is none that was cut short."""
    from genai_prices.types import _providers_from_raw

    return PriceBook(PricingSettings(), PublishedPrices(_providers_from_raw([provider(2, 3)]), 1))


@pytest.fixture
def price_of(usage: Callable[..., Any]) -> Callable[[PriceBook], int]:
    """Nano-dollars of a thousand tokens in 2026."""
    return lambda book: book.price(usage("2026-02-01T00:00:00+00:00", model="acme-1", input_tokens=1_000)).cost


def test_a_fetched_list_is_in_force_at_once_and_again_after_a_restart_without_a_network(server, settings, price_of, usage):
    server.serve(provider(2, 5))
    book = small_book()
    assert (price_of(book), book.published_at) == (1_000 * 3_000, 1)
    PriceRefresh(settings, book, lambda: NOW).fetch()
    assert (price_of(book), book.published_at) == (1_000 * 5_000, NOW)
    batch = usage("2026-02-01T00:00:00+00:00", model="acme-1", input_tokens=1_000, service_tier="batch")
    assert book.price(batch).cost == 1_000 * 500
    assert book.price(usage("2025-12-31T00:00:00+00:00", model="acme-1", input_tokens=1_000)).cost == 1_000 * 1_000

    server.status = 503
    restarted = small_book()
    assert PriceRefresh(settings, restarted, lambda: LATER).load()
    assert (price_of(restarted), restarted.published_at) == (1_000 * 5_000, NOW)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "not JSON"),
        (b"", "not JSON"),
        (b"\x1f\x8b\x08\x00compressed", "not JSON"),
        (b"{}", "not a list of providers"),
        (b"[]", "not a list of providers"),
        (b'[{"id": "x"}]', "not the format of genai-prices"),
        (json.dumps([provider(1, 5) | {"models": []}]).encode(), "0 models where 2 are in force: taken for cut short"),
    ],
)
def test_a_list_that_is_none_changes_nothing(server, settings, price_of, body, reason):
    server.body = body
    book = small_book()
    with pytest.raises(RefreshError, match=f"{server.url}: {reason}"):
        PriceRefresh(settings, book, lambda: NOW).fetch()
    assert (price_of(book), book.published_at) == (1_000 * 3_000, 1)
    assert not settings.cache_file.exists()


def test_a_price_of_a_kind_that_this_version_does_not_know_is_refused_before_it_is_in_force(server, settings, price_of):
    listed = provider(2, 5)
    listed["models"][0]["price_variants"][0]["prices"]["input_mtok"] = {"by": "the moon"}
    server.serve(listed)
    book = small_book()
    with pytest.raises(RefreshError):
        PriceRefresh(settings, book, lambda: NOW).fetch()
    assert price_of(book) == 1_000 * 3_000


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_error_of_the_server_changes_nothing(server, settings, price_of, status):
    server.status = status
    book = small_book()
    with pytest.raises(RefreshError, match=server.url):
        PriceRefresh(settings, book, lambda: NOW).fetch()
    assert price_of(book) == 1_000 * 3_000


def test_no_server_changes_nothing(server, settings, price_of):
    server.close()
    book = small_book()
    with pytest.raises(RefreshError, match=settings.url):
        PriceRefresh(settings, book, lambda: NOW).fetch()
    assert price_of(book) == 1_000 * 3_000


def test_a_list_that_cannot_be_kept_is_in_force_all_the_same(server, settings, price_of, tmp_path):
    (tmp_path / "kept").write_text("a file where the directory should be")
    server.serve(provider(2, 5))
    book = small_book()
    with pytest.raises(RefreshError, match="in force but not kept"):
        PriceRefresh(settings, book, lambda: NOW).fetch()
    assert price_of(book) == 1_000 * 5_000


def test_a_kept_list_that_is_older_than_the_installed_one_is_left_aside(server, settings, price_of):
    server.serve(provider(2, 5))
    PriceRefresh(settings, small_book(), lambda: 1).fetch()
    book = small_book()
    assert not PriceRefresh(settings, book, lambda: NOW).load()
    assert price_of(book) == 1_000 * 3_000


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"fetched_at": 9e99, "url": "", "providers": []}'])
def test_a_damaged_file_is_an_error_that_names_it(settings, content):
    settings.cache_file.parent.mkdir()
    settings.cache_file.write_bytes(content)
    with pytest.raises(RefreshError, match=str(settings.cache_file)):
        PriceRefresh(settings, small_book(), lambda: NOW).load()


def test_the_server_fetches_at_its_start_and_stays_with_what_it_has_when_that_fails(server, settings, price_of, wait_until):
    server.serve(provider(2, 5))
    book = small_book()
    refresh = PriceRefresh(settings, book, lambda: NOW)
    refresh.start()
    try:
        wait_until(lambda: price_of(book) == 1_000 * 5_000)
    finally:
        refresh.stop()

    server.status = 500
    settings.cache_file.write_text("damaged")
    book = small_book()
    refresh = PriceRefresh(settings, book, lambda: NOW)
    with capture_logs() as logs:
        refresh.start()
        try:
            wait_until(lambda: [entry for entry in logs if entry["event"] == "prices not fetched; those in force stay"])
        finally:
            refresh.stop()
    (unused,) = (entry for entry in logs if entry["event"] == "the prices fetched by an earlier run are not used")
    assert str(settings.cache_file) in unused["error"]
    assert price_of(book) == 1_000 * 3_000


def test_a_reload_hands_what_was_fetched_to_the_new_book(server, settings, price_of):
    server.serve(provider(2, 5))
    before = small_book()
    PriceRefresh(settings, before, lambda: NOW).fetch()
    asked = server.requests
    refresh = PriceRefresh(settings, before, lambda: LATER)
    refresh.configure(settings, before)
    assert server.requests == asked

    server.status = 500
    after = small_book()
    refresh.configure(settings, after)
    try:
        assert price_of(after) == 1_000 * 5_000
    finally:
        refresh.stop()


def test_nothing_is_fetched_unless_it_is_asked_for(server, tmp_path):
    settings = RefreshSettings(url=server.url, cache_file=tmp_path / "prices.json")
    refresh = PriceRefresh(settings, small_book(), lambda: NOW)
    refresh.start()
    refresh.stop()
    assert server.requests == 0


def test_prices_that_are_being_computed_while_the_list_changes_are_those_of_one_list_or_the_other(server, settings, price_of, wait_until):
    server.serve(provider(2, 5))
    book = small_book()
    seen: set[int] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.add(price_of(book))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: seen)
        for number in range(5):
            PriceRefresh(settings, book, lambda at=number: NOW + at).fetch()
        wait_until(lambda: len(seen) > 1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert seen == {1_000 * 3_000, 1_000 * 5_000}
    assert price_of(book) == 1_000 * 5_000


def test_the_installed_list_says_how_old_it_is(book, at):
    assert at("2026-10-01T00:00:00+00:00") <= book.published_at
    assert book.model_count > 1_000
