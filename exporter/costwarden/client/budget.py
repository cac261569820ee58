"""The budget as an application holds it: asked before a call, told after it."""

import asyncio
import contextlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from costwarden.client import dimensions
from costwarden.client.calls import Call, track_request
from costwarden.client.delivery import Delivery
from costwarden.client.denial import BudgetUnavailable
from costwarden.client.leases import Held, Leases, tracked_decoder
from costwarden.client.manual import BudgetedCall
from costwarden.client.service import BudgetServer, now
from costwarden.metering.consumed import Consumed
from costwarden.model import from_nanos, round_to_nanos

DEFAULT_URL = "http://127.0.0.1:3010"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a client has done since it was made."""

    checked: int
    """Calls that the service was asked about."""
    leased: int
    """Calls that were paid out of a slice, without a request."""
    unchecked: int
    """Calls that were let through while nobody could be asked (`on_unavailable="allow"`)."""
    unsettled: int
    """Calls of which nobody knows what they used; their reservations stay and are shown as unsettled."""
    pending: int
    """Requests to the service that are not delivered yet."""
    delivered: int
    refused: int
    """Settlements that the service refuses for good; the log says why."""
    dropped: int
    """Settlements that found the spool full (`on_unavailable="allow"`): usage that no budget will hear of."""


class Admission:
    """A call that may be made. Exactly one of `settle`, `settle_estimate`, `leave` and `cancel` ends it; what comes later does nothing."""

    def __init__(
        self,
        budget: "Budget",
        call: Call,
        event_id: str,
        reservation_id: str,
        estimate: Decimal | None,
        held: Held | None,
        *,
        warning: bool,
    ) -> None:
        self._budget = budget
        self.call = call
        self.event_id = event_id
        self.reservation_id = reservation_id
        """Empty where nobody could be asked."""
        self.estimated_cost_usd = estimate
        self.warning = warning
        """A budget of the call has committed its soft limit or more."""
        self._held = held
        self._at = now()
        self._ended = False
        self._pid = os.getpid()

    def settle(self, used: Consumed | None, *, success: bool = True, cost_usd: Decimal | None = None) -> None:
        """The call used this much; `cost_usd` where its cost is known better than by the price book."""
        if not self._end():
            return
        body = track_request(self.call, self.event_id, self.reservation_id, used=used, success=success, cost_usd=cost_usd, at=self._at)
        self._budget.tell(body, self._held)

    def settle_estimate(self, *, success: bool = True) -> None:
        """The call was made and does not say what it used: it costs its estimate."""
        if self.estimated_cost_usd is not None:
            self.settle(None, success=success, cost_usd=self.estimated_cost_usd)
        else:
            self.settle(self.call.assumed, success=success)

    def leave(self) -> None:
        """The call may have been made, and nobody knows what it used: its reservation stays until it is *unsettled*.

        Where it has no reservation of its own, because a slice paid or nobody could be asked, it is settled at its estimate, as a failure.
        """
        if self._ended or self._pid != os.getpid():
            return
        self._budget.count("unsettled")
        if self._held is not None or not self.reservation_id:
            self.settle_estimate(success=False)
        else:
            self._end()

    def cancel(self) -> None:
        """The call was not made: its reservation is given back."""
        if self._end():
            self._budget.give_back(self)

    @property
    def held(self) -> Held | None:
        """Its place in a slice, where one paid."""
        return self._held

    def _end(self) -> bool:
        if self._pid != os.getpid():
            return False  # a fork has copied it: the call is the other process's
        ended, self._ended = self._ended, True
        return not ended


class Budget:
    """A client of the budget service, shared by everything in a process that spends. Thread-safe, and safe to use from asyncio.

    - `url`, `token`: where the service is, and a token of the role `service`.
    - `on_unavailable`: `deny` refuses calls while the service cannot be asked; `allow` lets them pass and meters them later.
    - `timeout_seconds`: how long a check may take before the service counts as unavailable.
    - `lease_usd`: draw slices of this many dollars and check against them here; `None` asks about every call.
    - `lease_seconds`: the life of a slice; give it a few times the length of your longest calls.
    - `lease_idle_seconds`: a slice that was not used for so long is given back.
    - `spool_size`: settlements that may wait for the service; beyond it calls are refused, or with `allow` settlements dropped and counted.
    - `spool_folder`: where they are kept so that they survive the process; in memory alone without it.
    - `close_seconds`: how long `close` and the end of the process wait for what is not delivered yet.
    - `models`: which model is behind a name of your own: `{"my-azure-deployment": "gpt-4o"}`.
    - further names (`tenant_id`, `feature`, `team`, …): whom calls are for unless something nearer says otherwise.

    Raises `ValueError` and `TypeError` for options that cannot be meant, `OSError` where the spool's folder cannot be written.
    """

    def __init__(
        self,
        *,
        url: str = DEFAULT_URL,
        token: str = "",
        on_unavailable: Literal["deny", "allow"] = "deny",
        timeout_seconds: float = 2.0,
        lease_usd: Decimal | float | str | None = None,
        lease_seconds: int = 300,
        lease_idle_seconds: float = 30.0,
        spool_size: int = 10_000,
        spool_folder: str | Path | None = None,
        close_seconds: float = 5.0,
        models: Mapping[str, str] | None = None,
        **names: str,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}: it must begin with http:// or https://")
        if on_unavailable not in {"deny", "allow"}:
            raise ValueError(f"on_unavailable is {on_unavailable!r}: it must be 'deny' or 'allow'")
        for name, value in (("timeout_seconds", timeout_seconds), ("lease_seconds", lease_seconds), ("spool_size", spool_size)):
            if value <= 0:
                raise ValueError(f"{name} is {value}: it must be above 0")
        amount = None if lease_usd is None else Decimal(str(lease_usd))
        if amount is not None and not (amount.is_finite() and amount > 0):
            raise ValueError(f"lease_usd is {lease_usd}: it must be an amount above 0")
        self._names = dimensions.checked(names)
        self._url, self._token, self._timeout_seconds = url, token, timeout_seconds
        self._allow = on_unavailable == "allow"
        self._close_seconds = close_seconds
        self.models = dict(models or {})
        self._tally: Counter[str] = Counter()
        # Reentrant, as in `Delivery`: the garbage collector may settle an unread answer in the middle of it.
        self._tallying = threading.RLock()
        self._closed = False
        self._pid = os.getpid()
        self._server = BudgetServer(url, token, timeout_seconds)
        self._leases: Leases | None = None
        if amount is not None:
            self._leases = Leases(
                self._server, lease_usd=amount, seconds=lease_seconds, idle_seconds=lease_idle_seconds, release=self._release
            )
        folder = None if spool_folder is None else Path(spool_folder)
        self._delivery = Delivery(self._server, spool_size, folder, self._tick, self.close)

    # --- asking ----------------------------------------------------------------------------------------------------------------

    def attribute(self, said: Mapping[str, str], client: Mapping[str, str] | None = None) -> dict[str, str]:
        """Whom a call is for: what was `said` with it first, then what `attribution` says, then its client, then this budget.

        Raises `NoTenant`.
        """
        found = {**self._names, **(client or {}), **dimensions.current(), **said}
        if not found.get("tenant_id"):
            raise dimensions.NoTenant
        return found

    def admit(self, call: Call) -> Admission:
        """Set the money for `call` aside. Raises `BudgetExceeded` or `BudgetUnavailable`, and `ValueError` for a name that no service
        takes; then nothing is."""
        if admission := self._begin(call):
            return admission
        event_id = secrets.token_hex(16)
        try:
            granted = self._server.ask("check", call.check_request(event_id))
        except BudgetUnavailable as error:
            return self._not_asked(call, event_id, error)
        except (KeyboardInterrupt, SystemExit):
            self._release(call.tenant_id, event_id=event_id)
            raise
        return self._admitted(call, event_id, granted.reservation_id, granted.estimated_cost_usd, warning=granted.warning)

    async def admit_async(self, call: Call) -> Admission:
        """As `admit`."""
        if admission := self._begin(call):
            return admission
        event_id = secrets.token_hex(16)
        granted = None
        try:
            granted = await self._server.ask_async("check", call.check_request(event_id))
        except BudgetUnavailable as error:
            return self._not_asked(call, event_id, error)
        except Exception:
            raise
        except BaseException:  # cancelled: the service may have set money aside
            self._release(call.tenant_id, event_id=event_id)
            raise
        return self._admitted(call, event_id, granted.reservation_id, granted.estimated_cost_usd, warning=granted.warning)

    def call(
        self,
        *,
        model: str = "",
        provider: str = "",
        operation: str = "",
        service_tier: str = "",
        estimated_input_tokens: int | None = None,
        estimated_output_tokens: int | None = None,
        images: int = 0,
        audio_seconds: Decimal | float | None = None,
        **names: str,
    ) -> BudgetedCall:
        """A call that no transport sees, for `with` and `async with`; see `BudgetedCall`. Sizes that are left out take what calls like it
        have been so far; `names` (`tenant_id`, `feature`, …) come before what holds otherwise.

        Raises `NoTenant`, and `ValueError` where neither `model` nor `operation` is named.
        """
        if not model and not operation:
            raise ValueError("name the `model`, the `operation`, or both: one of them tells the price")
        call = Call(
            **self.attribute(dimensions.checked(names)),
            model=model,
            provider=provider,
            operation=operation,
            service_tier=service_tier,
            estimated_input_tokens=estimated_input_tokens,
            estimated_output_tokens=estimated_output_tokens,
            images=images,
            audio_seconds=None if audio_seconds is None else Decimal(str(audio_seconds)),
            speaks=False,
        )
        return BudgetedCall(self, call)

    def _begin(self, call: Call) -> Admission | None:
        if self._pid != os.getpid():
            self._after_fork()
        if self._closed:
            raise BudgetUnavailable("this Budget was closed: make another")
        call.check_names()
        if not self._allow and self._delivery.full:
            raise BudgetUnavailable(
                f"{self._delivery.pending} settlements wait for the budget service {self._url}, which is as many as `spool_size` holds"
            )
        if self._leases is None:
            return None
        self._delivery.start()
        held = self._leases.take(call)
        if held is None:
            return None
        self.count("leased")
        estimate = from_nanos(held.estimate)
        return Admission(self, call, secrets.token_hex(16), held.slice.lease_id, estimate, held, warning=False)

    def _admitted(self, call: Call, event_id: str, reservation_id: str, estimate: Decimal, *, warning: bool) -> Admission:
        self.count("checked")
        return Admission(self, call, event_id, reservation_id, estimate, None, warning=warning)

    def _not_asked(self, call: Call, event_id: str, error: BudgetUnavailable) -> Admission:
        if not self._allow:
            if error.asked:
                self._release(call.tenant_id, event_id=event_id)
            raise error
        self.count("unchecked")
        return Admission(self, call, event_id, "", None, None, warning=False)

    # --- telling ---------------------------------------------------------------------------------------------------------------

    def tell(self, body: dict[str, Any], held: Held | None) -> None:
        """Have the service told what a call used, soon. Returns at once."""
        if held is None:
            self._delivery.put("track", body, droppable=self._allow)
            return
        leases = self._leases
        assert leases is not None

        def answered(status: int, answer: bytes) -> None:
            if status == 200:
                with contextlib.suppress(msgspec.DecodeError):
                    leases.settled(held, round_to_nanos(tracked_decoder.decode(answer).cost_usd))
                    return
            leases.unknown(held)

        if not self._delivery.put("track", body, answered, droppable=self._allow):
            leases.unknown(held)

    def give_back(self, admission: Admission) -> None:
        """Have the reservation of a call that was not made given back."""
        if admission.held is not None:
            assert self._leases is not None
            self._leases.settled(admission.held, 0)
        elif admission.reservation_id:
            self._release(admission.call.tenant_id, reservation_id=admission.reservation_id)

    def _release(self, tenant_id: str, *, reservation_id: str = "", event_id: str = "") -> None:
        name = {"reservation_id": reservation_id} if reservation_id else {"event_id": event_id}
        self._delivery.put("release", {"tenant_id": tenant_id, **name})

    def _tick(self) -> None:
        if self._leases is not None:
            self._leases.tick()

    def _after_fork(self) -> None:
        self._pid = os.getpid()
        self._tallying = threading.RLock()
        self._server.reopen()
        if self._leases is not None:
            self._leases.forget()

    # --- the end ---------------------------------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """One more of `checked`, `leased`, `unchecked` or `unsettled`."""
        with self._tallying:
            self._tally[what] += 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called: what is under way still settles, and no call is admitted."""
        return self._closed

    @property
    def counts(self) -> Counts:
        """What this client has done since it was made."""
        return Counts(
            checked=self._tally["checked"],
            leased=self._tally["leased"],
            unchecked=self._tally["unchecked"],
            unsettled=self._tally["unsettled"],
            pending=self._delivery.pending,
            delivered=self._delivery.delivered,
            refused=self._delivery.refused,
            dropped=self._delivery.dropped,
        )

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until the service knows everything, at most `seconds` (`close_seconds`); whether it does."""
        return self._delivery.flush(self._close_seconds if seconds is None else seconds)

    async def flush_async(self) -> None:
        """As `flush`, without holding up the event loop; closes the loop's own connections to the service, too."""
        if self._delivery.pending:
            await asyncio.get_running_loop().run_in_executor(None, self.flush)
        await self._server.close_async()

    def close(self) -> None:
        """Deliver what is left, give the slices back, close the connections. It happens by itself at the end of the process, too."""
        if self._pid != os.getpid():
            return
        self._closed = True
        self.flush()
        if self._leases is not None:
            self._leases.close()
        self._delivery.close(self._close_seconds)
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
