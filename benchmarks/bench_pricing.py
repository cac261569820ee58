"""What a price costs to compute: the price book against genai-prices itself, on the same events, round by round.

Aim: at least ten times the library. What limits the price book: taking the usage apart and summing, two thirds of the time for a model
with one price; for a model with dated or hourly prices the library's own comparison of dates, which it keeps, is half of the time.
"""

from datetime import datetime
from itertools import cycle, islice
from statistics import median
from time import perf_counter

import genai_prices

from costwarden.model import Usage, from_micros, round_to_nanos
from costwarden.pricing import PriceBook, PricingSettings

ROUNDS = 7
EVENTS = 5_000
MODELS = (
    ("anthropic", "claude-3-5-sonnet-20241022"),  # one price
    ("google", "gemini-2.5-pro"),  # dearer above 200,000 tokens
    ("openai", "o3"),  # cheaper from a day on
    ("deepseek", "deepseek-chat"),  # cheaper at night
    ("", "gpt-4o"),  # provider inferred
)


def make_events() -> list[Usage]:
    """A thousand different sizes of each model, a quarter of the input read from cache."""
    return [
        Usage(
            source="bench",
            event_id=str(number),
            timestamp=1_760_000_000_000_000 + number * 1_000_000,
            provider=provider,
            model=model,
            input_tokens=400 + number * 53,
            cache_read_tokens=100 + number * 13,
            output_tokens=50 + number % 997,
        )
        for number, (provider, model) in enumerate(islice(cycle(MODELS), EVENTS))
    ]


def by_library(usage: Usage, when: datetime) -> int:
    """Nano-dollars of `usage` by genai-prices."""
    reported = genai_prices.Usage(
        input_tokens=usage.input_tokens, cache_read_tokens=usage.cache_read_tokens, output_tokens=usage.output_tokens
    )
    priced = genai_prices.calc_price(reported, usage.model, provider_id=usage.provider or None, genai_request_timestamp=when)
    return round_to_nanos(priced.total_price)


def main() -> None:
    """Print prices a second of both, and their ratio."""
    events = make_events()
    times = [from_micros(event.timestamp) for event in events]
    book = PriceBook(PricingSettings())
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = perf_counter()
        prices = [book.price(event).cost for event in events]
        middle = perf_counter()
        library_prices = [by_library(event, when) for event, when in zip(events, times, strict=True)]
        end = perf_counter()
        if prices != library_prices:
            raise SystemExit("the price book and genai-prices disagree")
        ours.append(EVENTS / (middle - start))
        theirs.append(EVENTS / (end - middle))
    print(f"price book    {median(ours):>10,.0f} prices/s  ({1e6 / median(ours):.1f} us each, to the nano-dollar the same)")
    print(f"genai-prices  {median(theirs):>10,.0f} prices/s")
    print(f"ratio         {median(mine / other for mine, other in zip(ours, theirs, strict=True)):>10.1f} x  (aim: 10 x)")


if __name__ == "__main__":
    main()
