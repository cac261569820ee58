"""What stands beside what: which charges, which usage, and which days are compared, and which are left out and why."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from costwarden.reconciliation.lines import finding
from costwarden.reconciliation.settings import ReconciliationSettings

DAY = date(2026, 11, 10)
TODAY = date(2026, 11, 20)


def only(found):
    assert found.left_out == []
    (day,) = found.days
    return day


def reasons(found):
    assert found.days == []
    return {left.reason for left in found.left_out}


def test_billed_metered_residual_and_ratio_of_a_day(books):
    books.bill(("gpt-4o-2024-08-06, input", "7.25"), ("gpt-4o-2024-08-06, output", "2.7500000001"))
    books.meter("6", hour=0)
    books.meter("1.5", hour=23)
    books.meter("100", day=DAY + timedelta(days=1), hour=0)
    day = only(books.read(DAY, DAY, "openai"))
    assert (day.billed, day.metered) == (Decimal("10.0000000001"), 7_500_000_000)
    # 10.0000000001 - 7.5, and 7.5 / 10.0000000001.
    assert (day.residual, day.capture_ratio) == (Decimal("2.5000000001"), Decimal("0.75"))
    assert day.to_record == 2_500_000_000


def test_a_day_without_a_bill_is_not_a_bill_of_nothing(books):
    books.meter("6")
    assert reasons(books.read(DAY, DAY, "openai")) == {"no bill"}
    books.bill(day=DAY)
    # No charge of openai was ever read, so that nobody knows whose part this is.
    assert reasons(books.read(DAY, DAY, "openai")) == {"no bill"}
    books.bill(("gpt-4o, input", "1"), day=DAY + timedelta(days=1))
    day = only(books.read(DAY, DAY, "openai"))
    assert (day.billed, day.metered, day.capture_ratio) == (0, 6_000_000_000, None)
    assert reasons(books.read(DAY - timedelta(days=1), DAY - timedelta(days=1), "openai")) == {"no bill"}


def test_a_day_that_is_not_old_enough_is_left_out(books_of):
    books = books_of(lag_days=3)
    for age in (4, 3, 2, 1, 0):
        books.bill(("gpt-4o, input", "1"), day=TODAY - timedelta(days=age))
    found = books.read(TODAY - timedelta(days=4), TODAY, "openai")
    assert [(TODAY - day.day).days for day in found.days] == [4, 3]
    assert [((TODAY - left.day).days, left.reason) for left in found.left_out] == [
        (2, "is not 3 days old yet"),
        (1, "is not 3 days old yet"),
        (0, "is not 3 days old yet"),
    ]


def test_a_bill_that_was_read_too_early_is_left_out_until_it_is_read_again(books):
    books.bill(("gpt-4o, input", "1"), read_on=DAY + timedelta(days=1))
    assert reasons(books.read(DAY, DAY, "openai")) == {"the source `openai` was not read since it was 2 days old"}
    books.bill(("gpt-4o, input", "1"), read_on=DAY + timedelta(days=2))
    assert only(books.read(DAY, DAY, "openai")).billed == 1


def test_the_newest_day_in_a_file_may_go_on_and_one_of_an_api_does_not(books):
    books.bill(("gpt-4o, input", "1"), part="bill.csv", source="folder")
    assert reasons(books.read(DAY, DAY, "openai")) == {"is the newest day in the bills of the source `folder`, which may go on"}
    books.bill(("gpt-4o, input", "2"), part="next.csv", source="folder", day=DAY + timedelta(days=1))
    assert only(books.read(DAY, DAY, "openai")).billed == 1
    # A day between two days of files that has no row.
    books.bill(("gpt-4o, input", "2"), part="later.csv", source="folder", day=DAY + timedelta(days=3))
    assert reasons(books.read(DAY + timedelta(days=2), DAY + timedelta(days=2), "openai")) == {"no bill"}


def test_an_account_that_fails_is_not_taken_for_one_that_spent_nothing(books):
    books.bill(("gpt-4o, input", "1"))
    books.fail("other")
    assert reasons(books.read(DAY, DAY, "openai")) == {"`other` could not be read (source `openai`)"}
    # It works again for that day; what else of it fails is no matter here.
    books.bill(("gpt-4o, input", "4"), part=f"other/{DAY}")
    assert only(books.read(DAY, DAY, "openai")).billed == 5


def test_what_a_failing_account_had_of_a_day_is_whole_if_it_came_in_late_enough(books):
    early, late = DAY, DAY + timedelta(days=1)
    books.bill(("gpt-4o, input", "1"), day=early, read_on=early + timedelta(days=1))
    books.bill(("gpt-4o, input", "1"), day=late, read_on=late + timedelta(days=2))
    # The source as a whole is fresh, by its other account.
    books.bill(("gpt-4o, input", "1"), day=early, part=f"other/{early}")
    books.bill(("gpt-4o, input", "1"), day=late, part=f"other/{late}")
    books.fail("org")
    found = books.read(early, late, "openai")
    assert [day.day for day in found.days] == [late]
    assert [left.reason for left in found.left_out] == ["`org` could not be read (source `openai`)"]


@pytest.mark.parametrize("name", ["usage", "org/forecast", "org/budgets", "org/buckets", "budgets"])
def test_what_is_read_beside_costs_says_nothing_of_the_bill(books, name):
    books.bill(("gpt-4o, input", "1"))
    books.fail(name)
    books.fail(f"{name}/{DAY}")
    assert only(books.read(DAY, DAY, "openai")).billed == 1
    # Of this day the source has no costs: that is not a bill of nothing.
    books.bill(part=f"{name}/{DAY + timedelta(days=1)}", rejected=1)
    assert reasons(books.read(DAY + timedelta(days=1), DAY + timedelta(days=1), "openai")) == {"no bill"}


def test_a_part_of_one_day_that_fails_leaves_out_that_day(books):
    books.bill(("gpt-4o, input", "1"))
    books.bill(("gpt-4o, input", "1"), day=DAY + timedelta(days=1))
    books.fail(f"other/{DAY}")
    found = books.read(DAY, DAY + timedelta(days=1), "openai")
    assert [day.day for day in found.days] == [DAY + timedelta(days=1)]
    assert [left.reason for left in found.left_out] == [f"`other/{DAY}` could not be read (source `openai`)"]


def test_a_file_that_fails_leaves_out_the_days_that_it_had_and_a_new_one_all(books):
    for later in range(3):
        books.bill(("gpt-4o, input", "1"), part=f"{later}.csv", source="folder", day=DAY + timedelta(days=later))
    books.fail("1.csv", source="folder")
    found = books.read(DAY, DAY + timedelta(days=1), "openai")
    assert [day.day for day in found.days] == [DAY]
    assert [left.reason for left in found.left_out] == ["`1.csv` could not be read (source `folder`)"]
    books.fail("new.csv", source="folder")
    assert len(books.read(DAY, DAY + timedelta(days=1), "openai").left_out) == 2


def test_rows_that_could_not_be_read_may_be_rows_of_ai(books_of):
    books = books_of()
    books.bill(("gpt-4o, input", "1"), rejected=3)
    books.bill(("gpt-4o, input", "1"), day=DAY + timedelta(days=1))
    found = books.read(DAY, DAY + timedelta(days=1), "openai")
    assert [day.day for day in found.days] == [DAY + timedelta(days=1)]
    assert [left.reason for left in found.left_out] == [
        f"3 rows of `org/{DAY}` could not be read: `costwarden rejected` shows them (source `openai`)"
    ]
    lenient = books_of(url=books.url, owner=False, allow_rejected_rows=True)
    assert len(lenient.read(DAY, DAY + timedelta(days=1), "openai").days) == 2


def test_a_bill_in_another_currency_is_compared_in_dollars_to_the_last_digit(books):
    books.bill(("gpt-4o, input", "3.333333333333"), rate="1.0871")
    # 3.333333333333 EUR at $1.0871.
    assert only(books.read(DAY, DAY, "openai")).billed == Decimal("3.6236666666663043")


def test_credits_and_taxes_are_shown_and_not_compared_unless_told(books_of):
    books = books_of()
    books.bill(("gpt-4o, input", "5"))
    books.bill(("Free credits", "-20"), part=f"credits/{DAY}", category="Credit")
    books.bill(("VAT", "0.95"), part=f"tax/{DAY}", category="Tax")
    day = only(books.read(DAY, DAY, "openai"))
    assert (day.billed, day.not_compared) == (5, Decimal("-19.05"))
    all_of_it = books_of(url=books.url, owner=False, not_compared=())
    day = only(all_of_it.read(DAY, DAY, "openai"))
    # A credit above the day's bill: 5 - 20 + 0.95.
    assert (day.billed, day.capture_ratio) == (Decimal("-14.05"), None)


@pytest.mark.parametrize(
    ("provider", "bill", "services", "others"),
    [
        ("aws-bedrock", "aws", ["Amazon Bedrock", "Amazon Bedrock Service", "Claude Haiku 4.5 (Amazon Bedrock Edition)"], ["Amazon EC2"]),
        ("google", "gcp", ["Vertex AI", "Gemini API", "Generative Language API", "Claude Opus 4"], ["Compute Engine"]),
    ],
)
def test_of_a_clouds_bill_only_the_services_of_ai_count_and_a_day_of_others_is_a_bill_of_nothing(books, provider, bill, services, others):
    books.bill(*((service, "2") for service in (*services, *others)), provider=bill)
    books.bill(("Cloud Storage", "9"), provider=bill, part="11.csv", day=DAY + timedelta(days=1))
    found = books.read(DAY, DAY + timedelta(days=1), provider)
    assert [day.billed for day in found.days] == [2 * len(services)]
    # In a file this is its newest day.
    assert len(found.left_out) == 1
    books.bill(("Cloud Storage", "9"), provider=bill, part="11.csv", day=DAY + timedelta(days=2))
    books.bill(("Cloud Storage", "9"), provider=bill, day=DAY + timedelta(days=1))
    assert [day.billed for day in books.read(DAY, DAY + timedelta(days=1), provider).days] == [2 * len(services), 0]


@pytest.mark.parametrize("name", ["aws.bedrock", "aws-bedrock", "aws", "AWS.Bedrock"])
def test_usage_is_found_under_all_names_of_its_provider(books, name):
    books.bill(("Amazon Bedrock", "2"), provider="aws")
    books.meter("1", provider=name, model="anthropic.claude-3-haiku-20240307-v1:0")
    assert only(books.read(DAY, DAY, "aws-bedrock")).metered == 1_000_000_000


def test_usage_without_a_provider_counts_by_its_model_and_what_nobody_has_is_named(books):
    books.bill(("gpt-4o, input", "2"))
    books.meter("1", provider="", model="gpt-4o-mini")
    books.meter("3", provider="", model="gpt-oss-120b")
    books.meter("4", provider="mistral_ai", model="mistral-large")
    found = books.read(DAY, DAY, "openai")
    assert only(found).metered == 1_000_000_000
    assert [(stray.model, stray.nanos) for stray in found.unassigned] == [("gpt-oss-120b", 3_000_000_000)]


def test_unsettled_reservations_are_those_of_the_provider_and_the_day(books):
    books.bill(("gpt-4o, input", "2"))
    mine = [books.reserve("1", event_id="a"), books.reserve("0.5", provider="", event_id="b")]
    books.reserve("2", day=DAY + timedelta(days=1), event_id="c")
    books.reserve("4", provider="anthropic", event_id="d")
    stray = books.reserve("8", provider="", model="house-model", event_id="e")
    books.reserve("8", provider="", model="house-model", event_id="g", day=DAY + timedelta(days=1))
    books.reserve("8", provider="", model="house-model", event_id="h", day=DAY - timedelta(days=1))
    books.reserve("16", event_id="f", open_=True)
    found = books.read(DAY, DAY, "openai")
    assert sorted(only(found).unsettled) == sorted(zip(mine, (1_000_000_000, 500_000_000), strict=True))
    assert [(one.model, one.reservations) for one in found.unassigned] == [("house-model", (stray,))]


def by_name(found):
    return {
        line.name: (
            line.billed,
            line.metered,
            line.reported_tokens,
            finding(line, bill_tells_models=line.provider in found.billed_by_model),
        )
        for line in found.lines
    }


def test_which_model_was_never_metered_and_which_has_another_price(books):
    """Reported tokens against metered ones: shadow use is told from a wrong price."""
    books.bill(
        ("gpt-4o-2024-08-06, input", "2.5"),
        ("gpt-4o-2024-08-06, output", "1"),
        ("o3-2025-04-16, output", "8"),
        ("gpt-4o-mini-2024-07-18, input", "0.3"),
        reported=(
            books.reported("gpt-4o-2024-08-06", input_tokens=1_000_000, output_tokens=100_000, requests=9),
            books.reported("o3-2025-04-16", output_tokens=1_000_000, requests=3),
            books.reported("gpt-4o-mini-2024-07-18", input_tokens=1_000_000, requests=1),
        ),
    )
    # The right price, in two calls; and the price of a year ago.
    books.meter("3", input_tokens=900_000, output_tokens=75_000)
    books.meter("0.5", input_tokens=100_000, output_tokens=25_000, model="gpt-4o-2024-08-06")
    books.meter("0.15", input_tokens=1_000_000, model="gpt-4o-mini")
    books.meter("0.02", model="whisper-1")
    assert by_name(books.read(DAY, DAY, "openai")) == {
        "o3-2025-04-16": (Decimal(8), 0, {"output_tokens": 1_000_000}, "never metered"),
        "gpt-4o": (Decimal("3.5"), 3_500_000_000, {"input_tokens": 1_000_000, "output_tokens": 100_000}, "agrees"),
        "gpt-4o-mini": (Decimal("0.3"), 150_000_000, {"input_tokens": 1_000_000}, "another price"),
        "whisper-1": (None, 20_000_000, None, "not billed"),
    }


def test_a_bill_that_names_no_model_is_one_line_and_says_nothing_of_models(books):
    books.bill(("Amazon Bedrock", "2"), provider="aws")
    books.meter("1", provider="aws.bedrock", model="amazon.nova-pro-v1:0")
    assert by_name(books.read(DAY, DAY, "aws-bedrock")) == {
        "Amazon Bedrock": (Decimal(2), 0, None, "no model"),
        "amazon.nova-pro-v1:0": (None, 1_000_000_000, None, ""),
    }


def test_lines_are_of_the_days_that_are_compared_alone(books):
    books.bill(("o3, output", "8"), reported=(books.reported("o3", output_tokens=5),))
    later = DAY + timedelta(days=1)
    books.bill(("o1, output", "8"), day=later, reported=(books.reported("o1", later, output_tokens=5),), rejected=1)
    books.meter("1", day=later, model="o1")
    assert by_name(books.read(DAY, later, "openai")) == {"o3": (Decimal(8), 0, {"output_tokens": 5}, "never metered")}


def test_the_basis_of_cost_can_be_chosen(books_of):
    with pytest.raises(ValidationError):
        ReconciliationSettings(cost_basis="unblended")
    assert only_billed(books_of(cost_basis="effective_cost")) == 1


def only_billed(books):
    books.bill(("gpt-4o, input", "1"))
    return only(books.read(DAY, DAY, "openai")).billed


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ([{"provider": "a", "usage_providers": ["x"], "bills": [{"provider": "b"}]}] * 2, "the provider `a` is given twice"),
        (
            [{"provider": name, "usage_providers": ["x"], "bills": [{"provider": "b"}]} for name in ("a", "c")],
            "the usage provider `x` is given twice",
        ),
        (
            # Usage finds its provider in any case.
            [{"provider": name, "usage_providers": [name], "bills": [{"provider": name}]} for name in ("OpenAI", "openai")],
            "the usage provider `OpenAI` is given twice",
        ),
        (
            [{"provider": name, "usage_providers": [name], "bills": [{"provider": "aws", "services": ["*Bedrock*"]}]} for name in "ab"],
            "`a` and `b` take the same services of the bill of `aws`",
        ),
        (
            [
                {"provider": "a", "usage_providers": ["a"], "bills": [{"provider": "aws"}]},
                {"provider": "b", "usage_providers": ["b"], "bills": [{"provider": "gcp"}, {"provider": "aws", "services": ["Claude *"]}]},
            ],
            "`a` and `b` take the same services of the bill of `aws`",
        ),
    ],
)
def test_what_would_count_twice_is_refused(providers, message):
    with pytest.raises(ValidationError, match=message):
        ReconciliationSettings(providers=providers)


@pytest.mark.parametrize(
    "others",
    [{"provider": "gcp"}, {"provider": "aws", "services": ["EC2"]}, {"provider": "aws", "services": ["*Bedrock*"], "source": "cur"}],
)
def test_bills_of_which_no_charge_is_in_both_go_together(others):
    bills = {"a": {"provider": "aws", "services": ["*bedrock*"], "source": "api"}, "b": others}
    given = [{"provider": name, "usage_providers": [name], "bills": [bill]} for name, bill in bills.items()]
    assert [entry.provider for entry in ReconciliationSettings(providers=given).providers] == ["a", "b"]


def test_a_provider_of_ones_own_is_mapped(books_of):
    bills = [{"provider": "mistral ai"}, {"provider": "aws", "services": ["Mistral*"]}]
    mistral = {"provider": "mistral", "usage_providers": ["mistral_ai"], "bills": bills}
    books = books_of(providers=[mistral])
    books.bill(("Large", "2"), provider="mistral ai")
    books.bill(("Mistral AI", "1"), ("EC2", "5"), provider="aws")
    books.meter("3", provider="mistral_ai", model="mistral-large")
    day = only(books.read())
    assert (day.billed, day.to_record) == (3, 0)


# --- one bill from two sources -------------------------------------------------------------------------------------------------


NEXT_DAY = DAY + timedelta(days=1)


def openai_bills(*bills):
    return [{"provider": "openai", "usage_providers": ["openai"], "bills": [{"provider": "openai", **bill} for bill in bills]}]


def bill_twice(books, accounts=("1", "1")):
    """What OpenAI's API and a file say of a day; the file goes on for another day."""
    books.bill(("gpt-4o, input", "10"), account=accounts[0])
    books.bill(("gpt-4o, input", "10"), source="file", part="openai.csv", account=accounts[1])
    books.bill(("gpt-4o, input", "1"), source="file", part="later.csv", day=NEXT_DAY, account=accounts[1])


@pytest.mark.parametrize(("accounts", "which"), [(("1", "1"), "the account `1`"), (("", "1"), "what may be one account")])
def test_a_bill_that_two_sources_have_is_not_added_up(books, accounts, which):
    bill_twice(books, accounts)
    sentence = f"the sources `file` and `openai` both have a bill of {which}: choose with `source` in `bills`"
    assert reasons(books.read(DAY, DAY, "openai")) == {sentence}


def test_bills_of_two_accounts_from_two_sources_are_added_up(books):
    bill_twice(books, ("1", "2"))
    assert only(books.read(DAY, DAY, "openai")).billed == 10 + 10


def test_other_services_of_one_account_may_come_from_two_sources(books):
    books.bill(("Amazon Bedrock", "10"), provider="aws")
    books.bill(("EC2", "7"), provider="aws", source="file", part="aws.csv")
    books.bill(("EC2", "7"), provider="aws", source="file", part="later.csv", day=NEXT_DAY)
    assert only(books.read(DAY, DAY, "aws-bedrock")).billed == 10


@pytest.mark.parametrize(("bills", "billed"), [([{"source": "file"}], 10), ([{"source": "file"}, {"source": "openai"}], 10 + 10)])
def test_of_several_sources_those_that_are_named_count(books_of, bills, billed):
    books = books_of(providers=openai_bills(*bills))
    bill_twice(books)
    assert only(books.read(DAY, DAY)).billed == billed


def test_a_source_that_is_not_chosen_leaves_out_no_day(books_of):
    books = books_of(providers=openai_bills({"source": "openai"}))
    bill_twice(books)
    books.fail("openai.csv", source="file")
    books.bill(("gpt-4o, input", "4"), day=NEXT_DAY + timedelta(days=1))
    found = books.read(DAY, NEXT_DAY + timedelta(days=1))
    assert [(day.day, day.billed) for day in found.days] == [(DAY, 10), (NEXT_DAY + timedelta(days=1), 4)]
    # The file alone has a bill of that day.
    assert [left.day for left in found.left_out] == [NEXT_DAY]
