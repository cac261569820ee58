"""Kubernetes: what namespaces and workloads cost, from OpenCost or Kubecost; a part is a day."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.model import ALLOCATED, EXACT, exact_sum
from costwarden.sources import Change, Failed, KnownPart, SourceError, Surroundings, Window, read_of
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import WHOLE_DIGITS, Cost, DailyCosts, KnownDay
from costwarden.sources.http_json import revealed
from costwarden.sources.kubernetes_api import AllocationApi, DayUnreadable
from costwarden.sources.settings import AttributionSettings, ExchangeRates, KubernetesSettings
from costwarden.sources.windows import ONE_DAY

SCOPE = "clusters"
"""One address is asked for as one, however many clusters it knows."""

AGGREGATE = ("cluster", "namespace", "controllerKind", "controller")

# https://docs.kubecost.com/apis/monitoring-apis/api-allocation#special-types-of-allocation
IDLE, UNALLOCATED, UNMOUNTED = "__idle__", "__unallocated__", "__unmounted__"

COMPONENTS = {
    "Compute": ("cpuCost", "cpuCostAdjustment", "gpuCost", "gpuCostAdjustment", "ramCost", "ramCostAdjustment"),
    "Storage": ("pvCost", "pvCostAdjustment"),
    "Networking": ("networkCost", "networkCostAdjustment", "loadBalancerCost", "loadBalancerCostAdjustment"),
    "Shared": ("sharedCost",),
    "Other": ("externalCost",),
}
"""FOCUS's ServiceCategory, and `Shared` -> the fields of an allocation that add up to its `totalCost`."""

ROUNDING_LIMIT = Decimal("0.0001")
"""Most by which the components may miss the total: 14 of them and the total are each rounded to 5 places, which loses 15 × 0.000005
(https://github.com/opencost/opencost/blob/develop/core/pkg/opencost/allocation_json.go). What is more is a component of its own."""

MOST_FAILURES_IN_A_ROW = 3
"""Days that cannot be read before those that are older are given up too: then it is not the day."""

FINEST_PLACE = 40
"""Decimal places of a figure. With the 12 digits before the point that a cost may have, a hundred million of them add up exactly."""


class KubernetesSource:
    """The clusters that one OpenCost or Kubecost knows."""

    def __init__(
        self, settings: KubernetesSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings
    ) -> None:
        self._settings = settings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._tag_keys = attribution.tag_keys
        self._labels = tuple(dict.fromkeys(_label_name(key) for key in self._tag_keys))
        meaning = [settings.cluster, settings.billed_by, settings.currency, attribution.model_dump_json(), rates.model_dump_json()]
        self._meaning = hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]
        token = revealed(surroundings.reveal, settings.token, "token") if settings.token is not None else ""
        self._api = AllocationApi(settings, token, surroundings.requests)

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The days of `window` that have changed, each asked for on its own, the newest first.

        A day that was read under other settings or attribution rules is asked for again. A day that had cost and now has none at all
        stays as it was: Prometheus has dropped what it was computed from. That is worth a word where it is read again every time.
        Raises `SourceError` where no day can be read; where the older ones cannot, they alone are `Failed`.
        """
        days = [window.first + ONE_DAY * number for number in range((window.last - window.first).days + 1)]
        # What Prometheus has dropped, or reckons with too long, is old: it must not keep today from being read.
        asked = [day for day in reversed(days) if day >= window.reread_from or not self._is_known(known, day)]
        failures = in_a_row = 0
        for number, day in enumerate(asked):
            if in_a_row == MOST_FAILURES_IN_A_ROW:
                yield from (_given_up(day, known) for day in asked[number:])
                return
            try:
                changes = self._read(day, known, again=day >= window.reread_from)
                in_a_row = 0
            except DayUnreadable as error:
                failures, in_a_row = failures + 1, in_a_row + 1
                if failures == min(MOST_FAILURES_IN_A_ROW, len(asked)) == number + 1:
                    raise SourceError(str(error)) from None
                changes = [Failed(part=f"{SCOPE}/{day}", message=f"{day}: {error}")]
            yield from changes

    def probe(self) -> Iterator[str]:
        """Ask for the cost of today so far."""
        sets = self._api.today()
        allocations = [allocation for found in sets for allocation in found.values()]
        yield f"{self._settings.url}: {self._settings.product} answers"
        names = sorted({str(_properties(allocation).get("cluster") or "") for allocation in allocations} - {""})
        if not allocations:
            yield "it knows of no cost today: does its Prometheus have data?"
            return
        yield f"clusters: {', '.join(names) or 'without a name'}" + (
            f", here called {self._settings.cluster}" if self._settings.cluster else ""
        )
        try:
            total = exact_sum([_amount(allocation.get("totalCost")) or Decimal(0) for allocation in allocations])
        except ValueError as error:
            raise SourceError(f"{self._settings.url}: the cost of today is none: {error}") from None
        yield f"cost of today so far: {total:f} {self._settings.currency}"
        if not any(IDLE in name for found in sets for name in found):
            yield "it tells no idle cost; OpenCost needs to know the nodes' prices for that"

    def close(self) -> None:
        """End the request that is under way."""
        self._api.close()

    def _is_known(self, known: Mapping[str, KnownPart], day: date) -> bool:
        part = known.get(f"{SCOPE}/{day}")
        return part is not None and part.state == "ok" and part.fingerprint.startswith(self._meaning)

    def _read(self, day: date, known: Mapping[str, KnownPart], *, again: bool) -> list[Change]:
        costs = DailyCosts(self._settings.name, SCOPE, self._attribution, self._rates)
        sets = self._api.day(day, [*AGGREGATE, *(f"label:{label}" for label in self._labels)])
        residuals: dict[str, list[Decimal]] = defaultdict(list)
        for found in sets:
            for name, allocation in found.items():
                self._add(costs, day, name, allocation, residuals)
        for cluster, amounts in residuals.items():
            self._put(costs, day, exact_sum(amounts), cluster, service="Rounding", category="Rounding", rows=0)
        # The fingerprint tells the settings too, which `changes` knows nothing of.
        bare = {part: KnownDay(one.state, one.fingerprint.removeprefix(self._meaning)) for part, one in known.items()}
        changes: list[Change] = []
        for changed in costs.changes(day, day, bare):
            before = known.get(changed.part)
            is_lost = before is not None and before.figures and not changed.charges and not changed.rejected
            if is_lost and not self._settings.accept_empty_answers:
                sentence = (
                    f"{day}: had cost, and now there is none at all; its figures stay. Is it older than what Prometheus keeps? "
                    "(`accept_empty_answers: true` takes it)"
                )
                return [Failed(part=changed.part, message=sentence)] if again else []
            read = read_of(changed)
            changes.append(msgspec.structs.replace(read, fingerprint=self._meaning + read.fingerprint))
        return changes

    def _add(self, costs: DailyCosts, day: date, name: str, allocation: Mapping[str, Any], residuals: dict[str, list[Decimal]]) -> None:
        content = json.dumps(allocation, default=str)
        properties = _properties(allocation)
        cluster = self._settings.cluster or str(properties.get("cluster") or "")
        try:
            total = _amount(allocation.get("totalCost"))
            amounts = {
                category: exact_sum([_amount(allocation.get(field)) or Decimal(0) for field in fields])
                for category, fields in COMPONENTS.items()
            }
        except ValueError as error:
            costs.reject(day, "bad_cost", f"{name}: {error}", content)
            return
        if total is None:
            costs.reject(day, "missing_cost", f"{name}: has no `totalCost`: it could not be computed", content)
            return
        if not total and not any(amounts.values()):
            return
        if IDLE in name:
            self._put(costs, day, total, cluster, service="Idle", category="Idle", content=content)
            return
        namespace = _given(properties.get("namespace"))
        tags = self._tags(name, properties)
        rest = EXACT.subtract(total, exact_sum(list(amounts.values())))
        if rest.copy_abs() > ROUNDING_LIMIT:
            amounts["Other"] = EXACT.add(amounts["Other"], rest)
        elif rest:
            residuals[cluster].append(rest)
        rows = 1
        for category, amount in amounts.items():
            if not amount:
                continue
            if category == "Shared":
                # What the API has spread over the workloads is put together again.
                self._put(costs, day, amount, cluster, service="Shared", category=category, rows=rows, content=content)
            else:
                service = _workload(name, properties)
                self._put(costs, day, amount, cluster, namespace, service, category, tags, rows, content)
            rows = 0

    def _put(
        self,
        costs: DailyCosts,
        day: date,
        amount: Decimal,
        cluster: str,
        namespace: str = "",
        service: str = "",
        category: str = "",
        tags: Mapping[str, str] | None = None,
        rows: int = 1,
        content: str = "",
    ) -> None:
        cost = Cost(
            day=day,
            provider_name="kubernetes",
            billing_account_id=cluster,
            sub_account_id=namespace,
            service_name=service,
            service_category=category,
            charge_category=ALLOCATED if self._settings.billed_by else "Usage",
            billing_currency=self._settings.currency,
            tags=tags or {},
            billed_cost=amount,
            rows=rows,
        )
        costs.add(cost, content)

    def _tags(self, name: str, properties: Mapping[str, Any]) -> dict[str, str]:
        """Labels before annotations, those of the pods before those of the namespace."""
        tags: dict[str, str] = {}
        for field in ("namespaceAnnotations", "namespaceLabels", "annotations", "labels"):
            found = properties.get(field)
            tags |= {key.lower(): value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
        tags |= {label.lower(): value for label, value in self._label_values(name)}
        # Prometheus knows `cost-center` as `cost_center`; a rule may write either.
        for key in self._tag_keys:
            if (value := tags.get(_label_name(key).lower())) is not None:
                tags.setdefault(key.lower(), value)
        return tags

    def _label_values(self, name: str) -> Iterator[tuple[str, str]]:
        # A cluster's name may have a slash, as an ARN has; the value of a label cannot: so from the end.
        segments = name.split("/")[-len(self._labels) :] if self._labels else []
        if len(name.split("/")) < len(AGGREGATE) + len(self._labels):
            return
        for label, segment in zip(self._labels, segments, strict=True):
            # Older versions write `team=search`; the value of a label has no equals sign.
            if (value := segment.removeprefix(f"{label}=")) and value != UNALLOCATED:
                yield label, value


def _given_up(day: date, known: Mapping[str, KnownPart]) -> Failed:
    before = known.get(f"{SCOPE}/{day}")
    stay = "; its figures stay" if before is not None and before.figures else ""
    return Failed(part=f"{SCOPE}/{day}", message=f"{day}: not asked for, as the {MOST_FAILURES_IN_A_ROW} days after it fail{stay}")


def _label_name(key: str) -> str:
    """As Prometheus, and so the API, has the key of a label."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", key)


def _properties(allocation: Mapping[str, Any]) -> Mapping[str, Any]:
    found = allocation.get("properties")
    return found if isinstance(found, dict) else {}


def _given(value: Any) -> str:
    return value if isinstance(value, str) and value not in (UNALLOCATED, UNMOUNTED) else ""


def _workload(name: str, properties: Mapping[str, Any]) -> str:
    if UNMOUNTED in name or UNMOUNTED in (properties.get("container"), properties.get("pod")):
        return "Unmounted volumes"
    controller = _given(properties.get("controller"))
    kind = _given(properties.get("controllerKind"))
    return "/".join(filter(None, (kind, controller))) or "Without a controller"


def _amount(value: Any) -> Decimal | None:
    """None for none: the API says `null` where it has divided by zero. Sums of what it gives are exact. Raises `ValueError`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"{value!r:.80} is not a number")
    amount = Decimal(value)
    if not amount:
        return Decimal(0)
    if amount.adjusted() >= WHOLE_DIGITS or -int(amount.as_tuple().exponent) > FINEST_PLACE:
        raise ValueError(f"{value!s:.80} is out of scale: more than {WHOLE_DIGITS} digits before the point or {FINEST_PLACE} after it")
    return amount
