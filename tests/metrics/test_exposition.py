"""Every sample arrives as it was put in, whatever is in its labels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.exposition import OPENMETRICS_END, openmetrics_metadata, render, series_prefix, text_metadata

CHECKS = FAMILIES["ai_budget_checks_total"]
MODE = FAMILIES["costwarden_remediation_mode"]


def no_pause() -> None:
    pass


def lines_of(family, samples, limit=1_000):
    return render(family, samples, limit, None, no_pause).lines


def parsed_text(family, samples):
    return _samples(parse_text((text_metadata(family) + lines_of(family, samples)).decode()))


def parsed_openmetrics(family, samples):
    return _samples(parse_openmetrics((openmetrics_metadata(family) + lines_of(family, samples) + OPENMETRICS_END).decode()))


def _samples(metrics):
    return [(sample.name, sample.labels, sample.value) for metric in metrics for sample in metric.samples]


def test_labels_are_in_the_order_of_the_catalogue_and_empty_ones_are_left_out():
    assert series_prefix(CHECKS, ("denied", "no_budget")) == 'ai_budget_checks_total{outcome="denied",reason="no_budget"} '
    assert series_prefix(CHECKS, ("allowed", "")) == 'ai_budget_checks_total{outcome="allowed"} '
    assert series_prefix(CHECKS, ("", "")) == "ai_budget_checks_total "


def test_backslash_quote_and_newline_are_escaped_and_nothing_else():
    assert series_prefix(MODE, ('C:\\n "x"\ny\t{},=\r€',)) == 'costwarden_remediation_mode{mode="C:\\\\n \\"x\\"\\ny\t{},=\r€"} '


def test_metadata_differ_as_the_two_formats_ask():
    family = Family("x_cost_usd_total", "counter", 'Cost, "quoted" \\ and\nbroken.')
    assert text_metadata(family).decode() == (
        '# HELP x_cost_usd_total Cost, "quoted" \\\\ and\\nbroken.\n# TYPE x_cost_usd_total counter\n'
    )
    assert openmetrics_metadata(family).decode() == (
        '# TYPE x_cost_usd counter\n# UNIT x_cost_usd usd\n# HELP x_cost_usd Cost, \\"quoted\\" \\\\ and\\nbroken.\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3.0"),
        (7, "7.0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (-1e-9, "-1e-09"),
        (1763208000.5, "1763208000.5"),
        (1e22, "1e+22"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (True, "1.0"),
    ],
)
def test_a_value_is_written_so_that_the_same_float_is_read(value, text):
    assert lines_of(FAMILIES["ai_spend_monthly_usd"], [((), value)]).decode() == f"ai_spend_monthly_usd {text}\n"
    ((_, _, read),) = parsed_text(FAMILIES["ai_spend_monthly_usd"], [((), value)])
    assert read == value or (math.isnan(read) and math.isnan(value))


label_values = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
values = st.floats(allow_nan=False, min_value=0)


@given(st.dictionaries(st.tuples(label_values, label_values), values, max_size=5))
def test_both_parsers_read_what_was_put_in(samples):
    expected = [
        (CHECKS.name, {name: value for name, value in zip(CHECKS.labels, labels, strict=True) if value}, count)
        for labels, count in samples.items()
    ]
    assert parsed_text(CHECKS, list(samples.items())) == expected
    assert parsed_openmetrics(CHECKS, list(samples.items())) == expected


@given(st.text(max_size=20))
def test_no_label_value_can_break_out_of_its_line(value):
    line = series_prefix(MODE, (value,)) + "1.0"
    assert "\n" not in line
    inner = line.removeprefix('costwarden_remediation_mode{mode="').removesuffix('"} 1.0')
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")
    assert line.encode()


def test_the_wrong_number_of_labels_is_an_error():
    with pytest.raises(ValueError, match=r"ai_budget_checks_total has the labels \('outcome', 'reason'\), not \('denied',\)"):
        lines_of(CHECKS, [(("denied",), 1.0)])


def test_two_samples_of_one_series_are_an_error():
    with pytest.raises(ValueError, match="ai_budget_checks_total: 1 series are given twice"):
        lines_of(CHECKS, [(("allowed", ""), 1.0), (("allowed", ""), 2.0)])


def test_the_next_rendering_uses_the_prefixes_of_this_one_and_forgets_series_that_are_gone():
    first = render(MODE, [(("a",), 1.0), (("b",), 1.0)], 10, None, no_pause)
    second = render(MODE, [(("b",), 2.0)], 10, first, no_pause)
    assert second.lines == b'costwarden_remediation_mode{mode="b"} 2.0\n'
    assert second.prefixes[("b",)] is first.prefixes[("b",)]
    assert set(second.prefixes) == {("b",)}


def test_a_family_with_other_labels_does_not_use_the_prefixes_of_the_last_rendering():
    family = FAMILIES["aws_cost_daily_usd"]
    first = render(family.narrowed(("region",)), [(("aws", "x"), 1.0)], 10, None, no_pause)
    second = render(family.narrowed(("service",)), [(("aws", "x"), 1.0)], 10, first, no_pause)
    assert second.lines == b'aws_cost_daily_usd{provider="aws",service="x"} 1.0\n'


def test_rendering_pauses_between_slices_so_that_requests_do_not_wait():
    pauses = []
    samples = (((f"tenant-{n}",), 1.0) for n in range(10_000))
    render(FAMILIES["ai_token_usage_cost_usd"].narrowed(("tenant_id",)), samples, 10_000, None, lambda: pauses.append(None))
    assert len(pauses) >= 2 * 10_000 / 250
