"""The page is complete, current, and never fails because of one part."""

import gzip
import subprocess
import threading
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.page import Collector, Page
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import MICROS_PER_SECOND

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def text_of(page, accept=""):
    return page.answer(accept).body.decode()


def value_of(page, name, **labels):
    found = [
        sample.value for metric in parse_text(text_of(page)) for sample in metric.samples if sample.name == name and sample.labels == labels
    ]
    assert len(found) == 1, found
    return found[0]


# What changes from one run to the next.
def steady(text):
    return "".join(line for line in text.splitlines(True) if "page_render_duration" not in line)


def test_the_whole_page_in_both_formats(page_of, collector, golden):
    page = page_of(
        collector("ai", ai_spend_monthly_usd=[((), 1.5)], ai_budget_checks_total=[(("allowed", ""), 3), (("denied", "no_budget"), 1)]),
        collector("cloud", aws_cost_daily_usd=[(("aws", "us-east-1", 'Amazon "EC2"', *[""] * 7), 12.25)]),
    )
    golden("page.txt", steady(text_of(page)))
    golden("page.openmetrics.txt", steady(text_of(page, OPENMETRICS)))


def every_family():
    """One series of every metric, every label set to something that needs care."""
    return [
        (family, [(tuple(f'{label} "\\\n€' for label in family.labels), 1.0)]) for family in FAMILIES.values() if "page" not in family.name
    ]


OWN = ("costwarden_collector_up", "costwarden_series", "costwarden_series_overflow")


def full_page():
    families = [(family, samples) for family, samples in every_family() if family.name not in OWN]
    page = Page([Collector("everything", lambda: families)], MetricsSettings(), lambda: 0)
    page.render()
    page.render()
    return page


def test_promtool_finds_nothing_to_complain_of(tools):
    result = subprocess.run([tools.promtool, "check", "metrics"], input=full_page().answer().body, capture_output=True, check=False)
    assert (result.returncode, result.stdout.decode(), result.stderr.decode()) == (0, "", "")


def test_both_formats_hold_every_metric_of_the_catalogue():
    page = full_page()
    text = {sample.name for metric in parse_text(text_of(page)) for sample in metric.samples}
    openmetrics = {sample.name for metric in parse_openmetrics(text_of(page, OPENMETRICS)) for sample in metric.samples}
    assert text == openmetrics == set(FAMILIES)


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
def test_gzip_holds_the_same_page(page_of, collector, accept):
    page = page_of(collector(costwarden_build_info=[(("1.2.3",), 1.0)]))
    assert gzip.decompress(page.answer(accept, "gzip").body) == page.answer(accept, "").body


@pytest.mark.parametrize(
    ("accept", "encoding", "headers"),
    [
        ("", "", {b"content-type": b"text/plain; version=0.0.4; charset=utf-8"}),
        (
            OPENMETRICS,
            "gzip",
            {b"content-type": b"application/openmetrics-text; version=1.0.0; charset=utf-8", b"content-encoding": b"gzip"},
        ),
    ],
)
def test_headers_say_what_the_body_is(page_of, collector, accept, encoding, headers):
    answer = page_of(collector(ai_spend_monthly_usd=[((), 1.0)])).answer(accept, encoding)
    length = str(len(answer.body)).encode()
    assert dict(answer.headers) == {**headers, b"content-length": length, b"vary": b"Accept, Accept-Encoding"}


def test_before_the_first_rendering_there_is_no_page():
    assert Page([], MetricsSettings(), lambda: 0).answer() is None


def test_the_page_tells_when_it_was_rendered_and_how_long_the_last_one_took(page_of):
    page = page_of()
    assert value_of(page, "costwarden_page_rendered_timestamp_seconds") == 1_763_208_000.0
    assert "costwarden_page_render_duration_seconds" not in text_of(page)
    page.render()
    assert 0 < value_of(page, "costwarden_page_render_duration_seconds") < 60


# --- collectors that fail ------------------------------------------------------------------------------------------------------


class Unsteady:
    """A collector that can be told to fail."""

    def __init__(self, *names):
        self.names = names
        self.value = 1.0
        self.failing = False
        self.collected = 0
        self.given_version = None

    def collect(self):
        self.collected += 1
        for name in self.names:
            yield FAMILIES[name], [((), self.value)]
        if self.failing:
            raise OSError("the disk is gone")

    def collector(self, name="unsteady"):
        return Collector(name, self.collect, None if self.given_version is None else lambda: self.given_version)


def test_a_failing_collector_keeps_its_last_figures_and_says_so(page_of):
    unsteady = Unsteady("ai_spend_monthly_usd", "ai_spend_monthly_limit_usd")
    steady_one = Unsteady("process_open_fds")
    page = page_of(unsteady.collector(), steady_one.collector("steady"))
    assert value_of(page, "costwarden_collector_up", collector="unsteady") == 1
    unsteady.failing, unsteady.value, steady_one.value = True, 2.0, 2.0
    page.render()
    # Not even the family that it gave before it failed: one collector's figures belong together.
    assert value_of(page, "ai_spend_monthly_usd") == value_of(page, "ai_spend_monthly_limit_usd") == 1.0
    assert value_of(page, "process_open_fds") == 2.0
    assert value_of(page, "costwarden_collector_up", collector="unsteady") == 0
    assert value_of(page, "costwarden_collector_up", collector="steady") == 1
    unsteady.failing = False
    page.render()
    assert value_of(page, "ai_spend_monthly_usd") == 2.0
    assert value_of(page, "costwarden_collector_up", collector="unsteady") == 1


def test_a_collector_that_never_succeeded_has_no_figures_and_the_page_is_there_all_the_same(page_of, collector):
    unsteady = Unsteady("ai_spend_monthly_usd")
    unsteady.failing = True
    page = page_of(unsteady.collector(), collector("steady", process_open_fds=[((), 7.0)]))
    assert "ai_spend_monthly_usd" not in text_of(page)
    assert value_of(page, "costwarden_collector_up", collector="unsteady") == 0
    assert value_of(page, "process_open_fds") == 7.0


def test_a_metric_that_two_collectors_give_is_the_first_ones(page_of, collector):
    page = page_of(collector("first", process_open_fds=[((), 1.0)]), collector("second", process_open_fds=[((), 2.0)]))
    assert value_of(page, "process_open_fds") == 1.0
    assert value_of(page, "costwarden_collector_up", collector="second") == 0


def test_a_collector_with_an_unchanged_version_is_not_asked_again(page_of):
    versioned = Unsteady("ai_spend_monthly_usd")
    versioned.given_version = 1
    page = page_of(versioned.collector())
    page.render()
    assert versioned.collected == 1
    versioned.given_version, versioned.value = 2, 5.0
    page.render()
    assert versioned.collected == 2
    assert value_of(page, "ai_spend_monthly_usd") == 5.0


def test_a_collector_that_failed_is_asked_again_although_its_version_is_unchanged(page_of):
    versioned = Unsteady("ai_spend_monthly_usd")
    versioned.given_version, versioned.failing = 1, True
    page = page_of(versioned.collector())
    versioned.failing = False
    page.render()
    assert value_of(page, "ai_spend_monthly_usd") == 1.0


def test_after_a_change_of_configuration_everything_is_collected_again_and_a_gone_collector_is_gone(page_of):
    versioned, gone = Unsteady("ai_spend_monthly_usd"), Unsteady("process_open_fds")
    versioned.given_version = 1
    page = page_of(versioned.collector(), gone.collector("gone"))
    versioned.value = 4.0
    page.reconfigure([versioned.collector()], MetricsSettings())
    page.render()
    assert value_of(page, "ai_spend_monthly_usd") == 4.0
    assert "process_open_fds" not in text_of(page)
    assert 'collector="gone"' not in text_of(page)


# --- limits --------------------------------------------------------------------------------------------------------------------


def tenants(count):
    return [(("success", f"tenant-{n}", *[""] * 8), 1.0) for n in range(count)]


def test_series_above_the_limit_are_summed_and_counted(page_of, collector):
    page = page_of(
        collector(ai_requests_total=tenants(10), costwarden_source_up=[((f"source-{n}",), 1.0) for n in range(5)]), series_limit=3
    )
    assert (
        value_of(page, "ai_requests_total", outcome="success", **dict.fromkeys(FAMILIES["ai_requests_total"].foldable, "other")) == 10 - 3
    )
    assert value_of(page, "costwarden_series", metric="ai_requests_total") == 3 + 1
    assert value_of(page, "costwarden_series_overflow", metric="ai_requests_total") == 10 - 3
    assert value_of(page, "costwarden_series", metric="costwarden_source_up") == 3
    assert value_of(page, "costwarden_series_overflow", metric="costwarden_source_up") == 5 - 3


def test_what_the_page_says_of_itself_is_not_limited(page_of, collector):
    page = page_of(collector(process_open_fds=[((), 1.0)], ai_spend_monthly_usd=[((), 1.0)]), collector("other"), series_limit=1)
    assert value_of(page, "costwarden_series", metric="process_open_fds") == 1
    assert value_of(page, "costwarden_series", metric="ai_spend_monthly_usd") == 1
    assert value_of(page, "costwarden_collector_up", collector="other") == 1


def test_a_metric_may_have_a_limit_of_its_own(page_of, collector):
    page = page_of(collector(ai_requests_total=tenants(10)), series_limit=3, series_limits={"ai_requests_total": 10})
    assert value_of(page, "costwarden_series", metric="ai_requests_total") == 10
    assert value_of(page, "costwarden_series_overflow", metric="ai_requests_total") == 0


# --- the thread ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def running():
    pages = []

    def start(*collectors, **settings):
        page = Page(collectors, MetricsSettings(**settings), lambda: time.time_ns() // 1000)
        page.start()
        pages.append(page)
        return page

    yield start
    for page in pages:
        page.stop()


def test_a_started_page_renders_at_once_and_then_at_every_change(running, wait_until):
    figure = Unsteady("ai_spend_monthly_usd")
    page = running(figure.collector(), min_interval_seconds=0.05, max_interval_seconds=3600)
    wait_until(page.answer)
    figure.value = 2.0
    page.changed()
    wait_until(lambda: value_of(page, "ai_spend_monthly_usd") == 2.0)


def test_many_changes_share_a_rendering(wait_until):
    figure = Unsteady("ai_spend_monthly_usd")
    go_on, looks = threading.Event(), []

    class Changed(threading.Event):
        """Notes whether there is a change whenever the page looks for one."""

        def wait(self, timeout=None):
            looks.append(self.is_set())
            return super().wait(timeout)

    def collect():
        yield from figure.collect()
        go_on.wait(60)

    page = Page([Collector("slow", collect)], MetricsSettings(min_interval_seconds=0.05, max_interval_seconds=3600), lambda: 0)
    page._changed = Changed()
    page.start()
    try:
        wait_until(lambda: figure.collected == 1)
        for _ in range(1_000):
            page.changed()
        go_on.set()
        # At the start, after the thousand, and no more.
        wait_until(lambda: looks == [True, True, False])
    finally:
        go_on.set()
        page.stop()
    assert figure.collected == 2


def test_without_a_change_the_page_is_rendered_again_after_the_longest_interval(running, wait_until):
    figure = Unsteady("ai_spend_monthly_usd")
    running(figure.collector(), min_interval_seconds=0.05, max_interval_seconds=0.05)
    wait_until(lambda: figure.collected >= 3)


def test_a_rendering_that_fails_as_a_whole_does_not_end_the_thread(wait_until):
    clock = iter([0, "no time", *range(1, 1_000)])
    figure = Unsteady("ai_spend_monthly_usd")
    page = Page([figure.collector()], MetricsSettings(min_interval_seconds=0.05, max_interval_seconds=0.05), lambda: next(clock))
    page.start()
    try:
        wait_until(lambda: page.answer() and value_of(page, "costwarden_page_rendered_timestamp_seconds") >= 1 / MICROS_PER_SECOND)
    finally:
        page.stop()


def test_a_scrape_during_a_rendering_never_sees_half_a_page(wait_until):
    figure = Unsteady("ai_spend_monthly_usd", "ai_spend_monthly_limit_usd", "process_open_fds")
    big = [((f"tenant-{n}", *[""] * 8), 1.0) for n in range(1_000)]
    page = Page(
        [figure.collector(), Collector("big", lambda: [(FAMILIES["ai_token_usage_cost_usd"], iter(big))])], MetricsSettings(), lambda: 0
    )
    page.render()
    stop = threading.Event()
    seen = []

    def scrape():
        while not stop.is_set():
            seen.append(page.answer(OPENMETRICS, "gzip"))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        for n in range(10):
            figure.value = float(n)
            page.render()
            wait_until(lambda: seen and seen[-1] is page.answer(OPENMETRICS, "gzip"))
    finally:
        stop.set()
        scraper.join()
    pages = {id(answer): answer for answer in seen}.values()
    assert len(pages) >= 10
    for answer in pages:
        metrics = {
            sample.name: sample.value for metric in parse_openmetrics(gzip.decompress(answer.body).decode()) for sample in metric.samples
        }
        assert metrics["ai_spend_monthly_usd"] == metrics["ai_spend_monthly_limit_usd"] == metrics["process_open_fds"]
        assert metrics["ai_token_usage_cost_usd"] == 1.0
