"""A call that no transport sees: asked and told by hand, in a `with` block."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import msgspec

from costwarden.client.calls import Call
from costwarden.metering.consumed import Consumed
from costwarden.metering.responses import read_response

if TYPE_CHECKING:
    from costwarden.client.budget import Admission, Budget

_UNCERTAIN = ("Timeout", "ReadError", "RemoteProtocolError")
"""In the names of exceptions of HTTP libraries after which the call may have been made all the same."""


class BudgetedCall:
    """The block of a call: `with budget.call(model=…) as call: …`, or `async with`.

    Entering sets the estimate aside, or raises `BudgetExceeded` or `BudgetUnavailable`. In the block, say what the call used with `used` or
    `answered`; where you say nothing, it costs its estimate. An exception settles the call as a failure that used what you said, or
    nothing; one that leaves open whether the call was made (a timeout, a broken connection, a cancellation) leaves the reservation to
    become *unsettled*.
    """

    def __init__(self, budget: "Budget", call: Call) -> None:
        self._budget = budget
        self._call = call
        self._admission: Admission | None = None
        self._used: Consumed | None = None
        self._cost_usd: Decimal | None = None
        self._cancelled = False

    @property
    def warning(self) -> bool:
        """A budget of the call has committed its soft limit or more."""
        return self._admission is not None and self._admission.warning

    @property
    def estimated_cost_usd(self) -> Decimal | None:
        """What is set aside; `None` where nobody could be asked."""
        return None if self._admission is None else self._admission.estimated_cost_usd

    def used(
        self, *, cost_usd: Decimal | float | str | None = None, audio_seconds: Decimal | float | None = None, **quantities: int
    ) -> None:
        """What the call used: `input_tokens`, `output_tokens`, `images` and the other quantities of `track` in docs/budgets.md.

        Raises `TypeError` for a quantity that there is not.
        """
        unknown = quantities.keys() - _QUANTITIES
        if unknown:
            raise TypeError(f"{', '.join(sorted(unknown))}: no quantity; there are {', '.join(sorted(_QUANTITIES))}, audio_seconds")
        self._used = msgspec.convert(quantities, Consumed)
        self._used.service_tier = self._call.service_tier
        if audio_seconds is not None:
            self._used.audio_milliseconds = int(Decimal(str(audio_seconds)) * 1000)
        self._cost_usd = None if cost_usd is None else Decimal(str(cost_usd))

    def answered(self, response: bytes | str | Mapping[str, Any]) -> None:
        """The provider's raw JSON answer, out of which the quantities are read. Raises `metering.UnknownResponse`."""
        self._used = read_response(response)

    def cancel(self) -> None:
        """The call is not made: what was set aside is given back."""
        self._cancelled = True

    def __enter__(self) -> Self:
        self._admission = self._budget.admit(self._call)
        return self

    async def __aenter__(self) -> Self:
        self._admission = await self._budget.admit_async(self._call)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        admission = self._admission
        assert admission is not None
        if self._cancelled:
            admission.cancel()
        elif self._used is not None:
            admission.settle(self._used, success=error is None, cost_usd=self._cost_usd)
        elif error is None:
            admission.settle_estimate()
        elif _uncertain(error):
            admission.leave()
        else:
            admission.settle(None, success=False, cost_usd=Decimal(0))

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


_QUANTITIES = {
    name
    for name in Consumed.__struct_fields__
    if name not in {"provider", "model", "operation", "response_id", "service_tier", "audio_milliseconds"}
}


def _uncertain(error: BaseException) -> bool:
    if not isinstance(error, Exception) or isinstance(error, TimeoutError | ConnectionError):
        return True
    return any(part in kind.__name__ for kind in type(error).__mro__ for part in _UNCERTAIN)
