"""`costwarden backfill`: what it refuses, and what it leaves behind."""

from datetime import UTC, datetime, timedelta

import pytest

from costwarden.ledger import Ledger


def test_an_empty_ledger_has_no_history(past):
    result = past.run()
    assert result.exit_code == 1
    assert "the ledger has neither bills nor AI usage" in result.output
    assert [path.name for path in past.folder.iterdir() if "history" in path.name] == []


def test_a_history_that_begins_after_the_last_day_is_none(past):
    past.charge("2026-03-01", "8")
    assert "neither bills nor AI usage up to 2026-02-01" in past.run("--last", "2026-02-01").output
    result = past.run("--first", "2026-03-05", "--last", "2026-03-03")
    assert (result.exit_code, "is after the last day" in result.output) == (2, True)


def test_days_on_which_nothing_is_shown_yet_leave_no_file(past):
    past.charge("2026-03-01", "8")
    result = past.run("--last", "2026-03-01")
    assert result.exit_code == 1
    assert "nothing to show from 2026-03-01 to 2026-03-01" in result.output
    assert not past.output.exists()


def test_today_belongs_to_the_live_prometheus(past, today):
    past.charge("2026-03-01", "8")
    assert "must be before today" in past.run("--last", today.isoformat()).output


def test_the_default_ends_with_yesterday_and_never_in_the_last_three_hours(past, today):
    past.charge((today - timedelta(days=4)).isoformat(), "8", service_name="EC2")
    found = past.backfill()
    newest = max(max(samples) for samples in found.values())
    midnight = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp())
    assert midnight - 3 * 3600 - 3600 <= newest < midnight


def test_a_file_that_is_there_is_replaced_only_by_force(past):
    past.charge("2026-03-01", "8")
    past.output.write_text("mine")
    result = past.run("--last", "2026-03-03")
    assert (result.exit_code, past.output.read_text()) == (1, "mine")
    assert "--force replaces it" in result.output
    past.backfill("--last", "2026-03-03")
    assert past.output.read_text().endswith("# EOF\n")


@pytest.mark.parametrize("step", ["7m", "30s", "2d", "1w", "0h", "", "1h30m", "-1h"])
def test_a_step_that_does_not_divide_a_day_is_refused(past, step):
    past.charge("2026-03-01", "8")
    result = past.run("--step", step)
    assert result.exit_code == 2
    assert "it must divide a day" in result.output


def test_labels_are_those_that_a_scrape_adds(past, of):
    past.charge("2026-03-01", "8", service_name="EC2")
    found = past.backfill("--last", "2026-03-02", "--label", "job=finops", "--label", 'instance=a"b\\c')
    assert of(found, "aws_cost_daily_usd", provider="aws", service="EC2", job="finops", instance='a"b\\c')
    found = past.backfill("--last", "2026-03-02", "--label", "job=")
    assert {dict(labels).get("job") for _, labels in found} == {None}


@pytest.mark.parametrize("label", ["instance", "1st=x", "__name__=x", "a-b=x", "=x"])
def test_what_is_no_label_is_refused(past, label):
    past.charge("2026-03-01", "8")
    result = past.run("--label", label)
    assert (result.exit_code, "is no label" in result.output) == (2, True)


def test_a_label_that_a_metric_has_itself_is_refused_and_nothing_is_left(past):
    past.charge("2026-03-01", "8")
    result = past.run("--last", "2026-03-03", "--label", "region=eu")
    assert result.exit_code == 1
    assert "has the label `region` itself" in result.output
    assert [path.name for path in past.folder.iterdir() if "history" in path.name] == []


def test_more_series_than_the_page_has_are_refused(past):
    past.config = {"metrics": {"series_limits": {"aws_cost_daily_usd": 2}}}
    for number in range(3):
        past.charge("2026-03-01", "8", service_name=f"service-{number}")
    result = past.run("--last", "2026-03-03")
    assert result.exit_code == 1
    assert "aws_cost_daily_usd has more than 2 series" in result.output
    assert not past.output.exists()


def test_hostile_labels_come_back_as_they_were(past, of):
    hostile = 'quote " backslash \\ newline \n # EOF'
    past.charge("2026-03-01", "8", service_name=hostile)
    assert of(past.backfill("--last", "2026-03-02"), "aws_cost_daily_usd", provider="aws", service=hostile)


def test_nothing_but_what_is_written_is_said_where_nobody_looks(past):
    past.charge("2026-03-01", "8")
    result = past.run("--last", "2026-03-02")
    assert result.output.splitlines() == [
        f"{past.output}: 96 samples of 4 series, 2026-03-01 to 2026-03-02, 0.0 MB",
        f"next: promtool tsdb create-blocks-from --max-block-duration=744h openmetrics {past.output} DIR",
    ]


def test_a_ledger_on_postgresql_gives_the_same(past, tmp_path, postgresql_url):
    url = postgresql_url()
    on_file, past.ledger = past.ledger, Ledger(url)
    for ledger in (on_file, past.ledger):
        past.ledger, current = ledger, past.ledger
        past.charge("2026-03-01", "8.125", service_name="EC2")
        past.charge("2026-03-01", "1", service_name="€ Z")
        past.charge("2026-03-02", "-3", "oracle")
        past.use("2026-03-01T10:20", cost=1_500_000_000, input_tokens=5, tenant_id="a", provider="openai", model="m")
        past.use("2026-03-02T10:20", cost=1_500_000_000, input_tokens=5, tenant_id="b", provider="openai", model="m", priced_by="unpriced")
        past.ledger = current
    on_server, past.ledger = past.ledger, on_file
    expected = past.backfill("--last", "2026-03-03")
    past.config = {"database_url": url}
    assert past.backfill("--last", "2026-03-03") == expected
    assert len(expected) > 20
    on_server.close()
