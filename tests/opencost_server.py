"""OpenCost and Kubecost on loopback: the allocation API, which adds up, names and rounds what runs in its clusters by what it is asked for.

Shapes: https://opencost.io/docs/integrations/api (`/allocation`) and https://docs.kubecost.com/apis/monitoring-apis/api-allocation
(`/model/allocation`); names of aggregates and rounding as in https://github.com/opencost/opencost/blob/develop/core/pkg/opencost/
(allocationprops.go, allocation_json.go).
"""

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from stand_in import Answer, Request, StandIn

COSTS = (
    "cpuCost",
    "cpuCostAdjustment",
    "gpuCost",
    "gpuCostAdjustment",
    "networkCost",
    "networkCostAdjustment",
    "loadBalancerCost",
    "loadBalancerCostAdjustment",
    "pvCost",
    "pvCostAdjustment",
    "ramCost",
    "ramCostAdjustment",
    "sharedCost",
    "externalCost",
)

PATHS = {"opencost": "/allocation", "kubecost": "/model/allocation"}


@dataclass
class Container:
    """What runs on a day; costs by the name of their field."""

    day: date
    cluster: str = "cluster-one"
    namespace: str = "shop"
    controller: str = ""
    kind: str = "deployment"
    container: str = "main"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Decimal | None] = field(default_factory=dict)


class OpenCost:
    """`with OpenCost() as opencost: opencost.run("2026-11-19", controller="web", cpuCost="1.5")`; `opencost.url` is its address."""

    def __init__(
        self, product: str = "opencost", *, token: str = "", today: date = date(2026, 11, 20), tls: ssl.SSLContext | None = None
    ) -> None:
        self.product, self.token, self.today = product, token, today
        self.containers: list[Container] = []
        self.idle: dict[tuple[date, str], Decimal] = {}
        self.utc_offset_hours = 0
        """Kubecost's own days begin so much earlier than those of UTC."""
        self.names_labels = False
        """Whether an aggregate by label is named `team=search`, as older versions do, and not `search`."""
        self.server = StandIn(self.answer)
        self.url = self.server.url
        if tls is not None:
            listener = self.server._server
            listener.socket = tls.wrap_socket(listener.socket, server_side=True)
            self.url = self.url.replace("http://", "https://")

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(*error)

    def run(self, day: str, **fields: Any) -> None:
        """Have a container run on `day`; costs are texts, None for what could not be computed."""
        costs = {name: None if (text := fields.pop(name)) is None else Decimal(text) for name in COSTS if name in fields}
        self.containers.append(Container(date.fromisoformat(day), costs=costs, **fields))

    def leave_idle(self, day: str, cost: str, cluster: str = "cluster-one") -> None:
        """Have so much of a cluster's machines be nobody's on `day`."""
        self.idle[date.fromisoformat(day), cluster] = Decimal(cost)

    def forget(self, day: str) -> None:
        """Drop a day, as Prometheus does."""
        gone = date.fromisoformat(day)
        self.containers = [found for found in self.containers if found.day != gone]
        self.idle = {key: cost for key, cost in self.idle.items() if key[0] != gone}

    def served(self) -> Decimal:
        """The sum of all `totalCost` in the newest answer to every window that was asked for."""
        newest = {request.first("window"): request for request in self.server.requests if request.first("window") != "today"}
        answers = [json.loads(self.answer(request).content, parse_float=Decimal) for request in newest.values()]
        totals = [allocation["totalCost"] for answer in answers for found in answer["data"] for allocation in found.values()]
        return sum((Decimal(total) for total in totals if total is not None), Decimal(0))

    def asked_days(self) -> list[str]:
        """The days of the requests so far, in their order."""
        return [request.first("window")[:10] for request in self.server.requests]

    def answer(self, request: Request) -> Answer:
        """What the product answers."""
        if request.path != PATHS[self.product]:
            return Answer(b"404 page not found\n", 404, {"Content-Type": "text/plain; charset=utf-8"})
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(b"<html><title>401 Authorization Required</title></html>", 401, {"Content-Type": "text/html"})
        first, last = self._days(request.first("window"))
        if first is None:
            return Answer({"code": 400, "message": f"Invalid 'window' parameter: {request.first('window')}"}, 400)
        aggregate = [name for name in request.first("aggregate").split(",") if name]
        metadata = request.first("includeAggregatedMetadata") == "true"
        running = [found for found in self.containers if first <= found.day < last]
        groups: dict[str, list[Container]] = {}
        for found in running:
            groups.setdefault(self._key(found, aggregate), []).append(found)
        allocations = {name: self._allocation(name, group, metadata, first, last) for name, group in groups.items()}
        idle_is_wanted = request.first("includeIdle", "false") if self.product == "opencost" else request.first("idle", "true")
        idle = {key: cost for key, cost in self.idle.items() if first <= key[0] < last}
        if idle_is_wanted == "true" and idle:
            clusters = {cluster for _, cluster in idle}
            unused = [Container(first, clusters.pop() if len(clusters) == 1 else "", "", costs={"cpuCost": sum(idle.values(), Decimal(0))})]
            allocations["__idle__"] = self._allocation("__idle__", unused, metadata, first, last)
        return Answer({"code": 200, "status": "success", "data": [allocations]})

    def _days(self, window: str) -> tuple[Any, Any]:
        if window == "today":
            return self.today, self.today + timedelta(days=1)
        match = re.fullmatch(r"(\S{10})T00:00:00Z,(\S{10})T00:00:00Z", window)
        return (date.fromisoformat(match[1]), date.fromisoformat(match[2])) if match else (None, None)

    def _key(self, found: Container, aggregate: Sequence[str]) -> str:
        names = []
        for name in aggregate:
            if name.startswith("label:"):
                label = name.removeprefix("label:")
                value = _prometheus(found.labels).get(label)
                names.append("__unallocated__" if value is None else f"{label}={value}" if self.names_labels else value)
            elif name == "controllerKind":
                names.append(found.kind if found.controller else "__unallocated__")
            elif name == "controller":
                names.append(f"{found.kind}:{found.controller}" if found.controller else "__unallocated__")
            else:
                names.append(getattr(found, name))
        return "/".join(names)

    def _allocation(self, name: str, group: Sequence[Container], metadata: bool, first: date, last: date) -> dict[str, Any]:
        one = group[0]
        properties: dict[str, Any] = {}
        for key in ("cluster", "namespace", "container"):
            if len({getattr(found, key) for found in group}) == 1:
                properties[key] = getattr(one, key)
        if one.controller and len({(found.kind, found.controller) for found in group}) == 1:
            properties |= {"controller": one.controller, "controllerKind": one.kind}
        if len({found.namespace for found in group}) == 1:
            properties["namespaceLabels"] = _prometheus(one.namespace_labels)
        if metadata:
            properties["labels"] = _common([_prometheus(found.labels) for found in group])
            properties["annotations"] = _common([_prometheus(found.annotations) for found in group])
        sums = {key: _sum([found.costs.get(key, Decimal(0)) for found in group]) for key in COSTS}
        total = _sum(list(sums.values()))
        offset = timedelta(hours=self.utc_offset_hours)
        start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) - offset for day in (first, last))
        window = {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
        costs = {key: _rounded(amount) for key, amount in {**sums, "totalCost": total}.items()}
        return {"name": name, "properties": properties, "window": window, **window, "minutes": 1440, "pvs": None, **costs}


def _prometheus(labels: Mapping[str, str]) -> dict[str, str]:
    return {re.sub(r"[^a-zA-Z0-9_]", "_", key): value for key, value in labels.items()}


def _common(many: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for key, value in many[0].items() if all(one.get(key) == value for one in many)}


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    return None if None in amounts else sum((amount for amount in amounts if amount is not None), Decimal(0))


def _rounded(amount: Decimal | None) -> float | None:
    # To 5 places, as Go's math.Round does it with a float.
    return None if amount is None else float(round(amount, 5))
