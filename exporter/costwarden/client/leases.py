"""Slices of a budget, drawn beforehand and spent here: a check without a request."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any, NamedTuple, Protocol

import msgspec

from costwarden.client.calls import Call, Granted
from costwarden.client.denial import BudgetExceeded, BudgetUnavailable
from costwarden.client.service import BudgetServer
from costwarden.model import NANOS_PER_USD, from_nanos, round_to_nanos

log = logging.getLogger("costwarden.client")

TOKENS = 1_000_000


class Release(Protocol):
    """Gives a lease back, by its id or by the event that asked for it."""

    def __call__(self, tenant_id: str, *, reservation_id: str = "", event_id: str = "") -> None: ...


MOST_PURSES = 1_000
"""Sets of dimensions with a slice of their own; a call of one more set is checked one by one."""
RENEW_SHARE = 0.8
"""Share of a slice's life after which the next is drawn, so that the calls under way can settle in the rest of it."""
DENIED_SECONDS = 1.0
"""A purse that was refused a slice asks again no sooner; meanwhile each call is checked on its own."""


class Prices(NamedTuple):
    """The most that a call costs: nano-dollars a million tokens, a call, an image; None where that has no price."""

    input: int
    output: int | None
    call: int
    image: int | None

    @classmethod
    def read(cls, granted: Granted) -> "Prices | None":
        """The prices that came with a lease; None where they do not tell what a call costs."""
        given = granted.prices
        if not given or given.get("input_usd_mtok") is None:
            return None
        try:
            output, image = given.get("output_usd_mtok"), given.get("usd_per_image")
            return cls(
                _nanos(given["input_usd_mtok"]),
                None if output is None else _nanos(output),
                _nanos(given.get("usd_per_call")),
                None if image is None else _nanos(image),
            )
        except ValueError as error:
            log.warning("the prices of a lease are not understood: %s", error)
            return None

    def estimate(self, input_tokens: int, output_tokens: int, images: int) -> int | None:
        """Nano-dollars, rounded up; None where part of it has no price."""
        if (output_tokens and self.output is None) or (images and self.image is None):
            return None
        of_tokens = input_tokens * self.input + output_tokens * (self.output or 0)
        return self.call + images * (self.image or 0) - (-of_tokens // TOKENS)


def _nanos(usd: Decimal | None) -> int:
    value = usd or Decimal(0)
    if not value.is_finite() or value < 0:
        raise ValueError(f"{usd} is no price")
    return int((value * NANOS_PER_USD).to_integral_value(ROUND_CEILING))


class Slice:
    """What one lease has left. `left` counts down by estimates and comes back up as the real costs are known."""

    def __init__(
        self, lease_id: str, granted: int, prices: Prices, drawn: float, seconds: float, assumed: tuple[int | None, int | None]
    ) -> None:
        self.lease_id = lease_id
        self.prices = prices
        self.assumed = assumed
        self.granted = granted
        self.left = granted
        self.renew_at = drawn + RENEW_SHARE * seconds
        self.used_at = drawn
        self.under_way = 0
        """Calls that are not settled."""
        self.incomplete = False
        """The service refused to hear of one of its calls, so that what is left must not be given back."""


class Held(NamedTuple):
    """A call's place in a slice: `estimate` nano-dollars."""

    slice: Slice
    estimate: int


class _Purse:
    """The slices of one set of dimensions, oldest first."""

    def __init__(self) -> None:
        self.slices: list[Slice] = []
        self.drawing = False
        self.drawer: threading.Thread | None = None
        self.not_before = 0.0


class Leases:
    """Slices of `lease_usd` for each set of dimensions that calls have. Thread-safe.

    A call takes its estimate out of a slice, or is checked one by one where none has as much. The sum of what slices give is never above
    what the service granted, unless a call costs more than its own estimate.
    """

    def __init__(
        self,
        server: BudgetServer,
        *,
        lease_usd: Decimal,
        seconds: int,
        idle_seconds: float,
        release: Release,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._amount = round_to_nanos(lease_usd)
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._release = release
        self._clock = clock
        self._lock = threading.RLock()
        self._purses: dict[tuple[str, ...], _Purse] = {}
        self._closed = False

    def take(self, call: Call) -> Held | None:
        """A place for `call`; None where it has to be checked. Draws the next slice in the background before the last is used up."""
        if call.service_tier or call.audio_seconds is not None or call.speaks:
            return None  # a lease's prices are those of tokens of text and images at the standard tier
        now = self._clock()
        with self._lock:
            if self._closed:
                return None
            purse = self._purses.get(call.dimensions)
            if purse is None:
                if len(self._purses) >= MOST_PURSES:
                    return None
                purse = self._purses[call.dimensions] = _Purse()
            held = None
            left = 0
            for piece in purse.slices:
                if now >= piece.renew_at:
                    continue
                estimate = _estimate(piece, call)
                if held is None and estimate is not None and estimate <= piece.left:
                    piece.left -= estimate
                    piece.under_way += 1
                    piece.used_at = now
                    held = Held(piece, estimate)
                left += max(piece.left, 0)
            if 2 * left < self._amount and not purse.drawing and now >= purse.not_before:
                purse.drawing = True
                purse.drawer = threading.Thread(target=self._draw, args=(call, purse), name="costwarden-lease", daemon=True)
                purse.drawer.start()
            return held

    def settled(self, held: Held, cost: int) -> None:
        """The call cost this many nano-dollars, the service says."""
        with self._lock:
            held.slice.left += held.estimate - cost
            held.slice.under_way -= 1

    def unknown(self, held: Held) -> None:
        """The service would not hear what the call cost: its estimate stays taken, and the slice is left to expire."""
        with self._lock:
            held.slice.under_way -= 1
            held.slice.incomplete = True

    def _draw(self, call: Call, purse: _Purse) -> None:
        started = self._clock()
        wait = DENIED_SECONDS
        event_id = secrets.token_hex(16)
        try:
            body: dict[str, Any] = {
                **call.named,
                "amount_usd": str(from_nanos(self._amount)),
                "seconds": self._seconds,
                "event_id": event_id,
            }
            granted = self._server.ask("lease", body)
            prices = Prices.read(granted)
            if prices is None:
                # Nothing of it can be spent here, and nothing will be able to for a while.
                wait = float(self._seconds)
                self._release(call.tenant_id, reservation_id=granted.reservation_id)
                return
            amount = round_to_nanos(granted.granted_usd)
            assumed = granted.assumed_input_tokens, granted.assumed_output_tokens
            piece = Slice(granted.reservation_id, amount, prices, started, self._seconds, assumed)
            with self._lock:
                purse.slices.append(piece)
                # A slice that is smaller than what was asked for is the rest of the budget: the next one would be none.
                wait = 0.0 if amount >= self._amount else DENIED_SECONDS
        except BudgetExceeded as error:
            log.debug("no lease: %s", error)
        except BudgetUnavailable as error:
            if error.asked:
                self._release(call.tenant_id, event_id=event_id)
            log.debug("no lease: %s", error)
        finally:
            with self._lock:
                purse.drawing = False
                purse.not_before = self._clock() + wait
                if self._closed:
                    self._give_back(call.dimensions, purse, everything=True)

    def tick(self) -> None:
        """Give back what is idle, used up or about to expire, once its calls are settled."""
        with self._lock:
            for dimensions, purse in list(self._purses.items()):
                self._give_back(dimensions, purse, everything=False)
                if not purse.slices and not purse.drawing and self._clock() >= purse.not_before + self._idle_seconds:
                    del self._purses[dimensions]

    def close(self) -> None:
        """Give back every slice, and draw no more."""
        with self._lock:
            self._closed = True
            drawers = [purse.drawer for purse in self._purses.values() if purse.drawer is not None]
        for drawer in drawers:
            drawer.join()  # it gives back what it is granted; the service answers it, or is taken for down, in time
        with self._lock:
            for dimensions, purse in self._purses.items():
                self._give_back(dimensions, purse, everything=True)

    def forget(self) -> None:
        """After a fork: the slices are the other process's."""
        self._lock = threading.RLock()
        self._purses = {}

    def _give_back(self, dimensions: tuple[str, ...], purse: _Purse, *, everything: bool) -> None:
        now = self._clock()
        kept = []
        for piece in purse.slices:
            over = everything or now >= piece.renew_at or now >= piece.used_at + self._idle_seconds or 100 * piece.left < piece.granted
            if not over or (piece.under_way and not everything):
                kept.append(piece)
            elif not piece.incomplete and not piece.under_way:
                self._release(dimensions[0], reservation_id=piece.lease_id)
            # Else calls of it are under way, or were refused: what is left of it expires and stays counted until somebody resolves it.
        purse.slices[:] = kept


def _estimate(piece: Slice, call: Call) -> int | None:
    input_tokens = piece.assumed[0] if call.estimated_input_tokens is None else call.estimated_input_tokens
    output_tokens = piece.assumed[1] if call.estimated_output_tokens is None else call.estimated_output_tokens
    if input_tokens is None or output_tokens is None:
        return None
    return piece.prices.estimate(input_tokens, output_tokens, call.images)


class Tracked(msgspec.Struct):
    """A 200 of `track`."""

    cost_usd: Decimal


tracked_decoder = msgspec.json.Decoder(Tracked)
