"""What the budget service refuses to read, and the sentence that it says."""

import msgspec
import pytest

from costwarden.budgets.requests import CheckRequest, SetRequest, SuspendRequest, TrackRequest

CHECK = {"tenant_id": "acme", "model": "m"}
SET = {"tenant_id": "acme", "monthly_limit_usd": 1}


def refusal(request, body):
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(msgspec.json.encode(body), type=request)
    return str(refused.value)


@pytest.mark.parametrize(
    ("request_type", "body", "sentence"),
    [
        (CheckRequest, {"model": "m"}, "Object missing required field `tenant_id`"),
        (CheckRequest, {**CHECK, "tenant_id": ""}, "Expected `str` of length >= 1 - at `$.tenant_id`"),
        (CheckRequest, {**CHECK, "tenant_id": 7}, "Expected `str`, got `int` - at `$.tenant_id`"),
        (CheckRequest, {**CHECK, "model": "m" * 257}, "Expected `str` of length <= 256 - at `$.model`"),
        (CheckRequest, {**CHECK, "estimated_input_tokens": -1}, "Expected `int` >= 0 - at `$.estimated_input_tokens`"),
        (CheckRequest, {**CHECK, "estimated_output_tokens": 10**10 + 1}, "Expected `int` <= 10000000000 - at `$.estimated_output_tokens`"),
        (CheckRequest, {**CHECK, "estimated_input_tokens": 1.5}, "Expected `int | null`, got `float` - at `$.estimated_input_tokens`"),
        (CheckRequest, {**CHECK, "images": -1}, "Expected `int` >= 0 - at `$.images`"),
        (CheckRequest, {**CHECK, "modell": "m"}, "Object contains unknown field `modell`"),
        (CheckRequest, {"tenant_id": "acme"}, "name the `model`, the `operation`, or both: one of them tells the price"),
        (CheckRequest, {**CHECK, "tenant_id": "a\0b"}, "a name cannot hold the character U+0000"),
        (CheckRequest, {**CHECK, "event_id": "a\0b"}, "a name cannot hold the character U+0000"),
        (TrackRequest, {"tenant_id": "acme"}, "name the `model`, the `operation`, or both: one of them tells the price"),
        (TrackRequest, {**CHECK, "output_tokens": -1}, "Expected `int` >= 0 - at `$.output_tokens`"),
        (
            TrackRequest,
            {**CHECK, "input_tokens": 1, "prompt_tokens": 1},
            "give `input_tokens` or `prompt_tokens`, `output_tokens` or `completion_tokens`, not both",
        ),
        (TrackRequest, {**CHECK, "cost_usd": "-0.01"}, "`cost_usd` must be from 0 to 1000000"),
        (TrackRequest, {**CHECK, "cost_usd": "NaN"}, "`cost_usd` must be from 0 to 1000000"),
        (TrackRequest, {**CHECK, "cost_usd": "Infinity"}, "`cost_usd` must be from 0 to 1000000"),
        (TrackRequest, {**CHECK, "cost_usd": "1e999999"}, "`cost_usd` must be from 0 to 1000000"),
        (TrackRequest, {**CHECK, "cost_usd": 1000000.01}, "`cost_usd` must be from 0 to 1000000"),
        (TrackRequest, {**CHECK, "success": "yes"}, "Expected `bool`, got `str` - at `$.success`"),
        *(
            (TrackRequest, {**CHECK, "reservation_id": text}, f"`reservation_id` {text!r} is not one that a check has given")
            for text in ("event:4:acme:", "event:4:acme:x\0y", "event:9:acme:x", "event:4:acmex", "0660c945a349a3")
        ),
        (SetRequest, {"tenant_id": "acme"}, "give either `monthly_limit_usd` or a `tier`"),
        (SetRequest, {**SET, "tier": "starter"}, "give either `monthly_limit_usd` or a `tier`"),
        (SetRequest, {"tenant_id": "acme", "tier": "custom"}, "give either `monthly_limit_usd` or a `tier`"),
        (SetRequest, {**SET, "monthly_limit_usd": -1}, "`monthly_limit_usd` must be from 0 to 1000000000"),
        (SetRequest, {**SET, "monthly_limit_usd": "sNaN"}, "`monthly_limit_usd` must be from 0 to 1000000000"),
        (SetRequest, {**SET, "monthly_limit_usd": 1000000001}, "`monthly_limit_usd` must be from 0 to 1000000000"),
        (SetRequest, {**SET, "monthly_limit_usd": "0.0000000001"}, "`monthly_limit_usd` is finer than a nano-dollar (9 decimal places)"),
        (SetRequest, {**SET, "model": "a\0b"}, "a name cannot hold the character U+0000"),
        (SetRequest, {**SET, "montly_limit_usd": 1}, "Object contains unknown field `montly_limit_usd`"),
        (SuspendRequest, {"reason": ""}, "Expected `str` of length >= 1 - at `$.reason`"),
    ],
    ids=lambda value: None if isinstance(value, type) else str(value)[:40],
)
def test_a_request_that_breaks_a_rule_is_told_which(request_type, body, sentence):
    assert refusal(request_type, body) == sentence


def test_the_dimensions_are_in_the_order_of_the_ledger():
    request = CheckRequest(
        tenant_id="1", provider="2", model="3", operation="4", report_type="5", feature="6", team="7", user_id="8", service="9"
    )
    assert request.dimensions == ("1", "2", "3", "4", "5", "6", "7", "8", "9")
