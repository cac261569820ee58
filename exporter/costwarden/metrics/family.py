"""What a metric is: its name, kind, help and labels, and the labels that families share."""

from typing import Literal

import msgspec

Kind = Literal["gauge", "counter"]

PROVIDERS = ("aws", "gcp", "azure", "kubernetes")
"""Providers with metrics of their own name; every other provider's metrics begin with `other_`."""

CLOUD_LABELS = ("region", "service", "sub_account_id", "service_category", "charge_category", "team", "feature", "tenant_id", "environment")
"""What the cost of a bill can be told apart by; `metrics.cloud_labels` chooses."""

CLOUD_SCOPE = ("provider", "sub_account_id", "service", "region", "team", "feature", "tenant_id", "environment")
"""What the scope of a cloud budget can name."""

WINDOW_LABELS = ("tenant_id", "provider", "model")

# OpenMetrics wants the unit to end the name: https://prometheus.io/docs/specs/om/open_metrics_spec/#metricfamily
_UNITS = ("usd", "seconds", "bytes", "ratio")


class Family(msgspec.Struct, frozen=True):
    """One metric: its name, kind, help and label names, in the order in which they are written.

    `foldable` are the labels that read `other` where series above the limit are summed into one. A family without any is not additive
    (flags, times, limits): there the series above the limit are left out, so a collector yields the most important first.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    foldable: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends in, before `_total`; empty where it is a plain number."""
        last = self.base_name.rpartition("_")[2]
        return last if last in _UNITS else ""

    @property
    def base_name(self) -> str:
        """The name as OpenMetrics calls the family: a counter's without `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    def narrowed(self, chosen: tuple[str, ...]) -> "Family":
        """This family with only the `chosen` ones of its foldable labels, in this family's order.

        Raises `ValueError` for one that is not foldable.
        """
        if unknown := set(chosen) - set(self.foldable):
            raise ValueError(f"{self.name} has no label {sorted(unknown)} to choose")
        labels = tuple(label for label in self.labels if label not in self.foldable or label in chosen)
        return msgspec.structs.replace(self, labels=labels, foldable=tuple(label for label in self.foldable if label in chosen))


def cloud_prefix(provider: str) -> str:
    """How the metrics of a provider begin: its own name or `other`."""
    return provider if provider in PROVIDERS else "other"
