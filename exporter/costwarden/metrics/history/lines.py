"""Tracks to lines of OpenMetrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from costwarden.metrics.bounds import Labels
from costwarden.metrics.catalogue import Family
from costwarden.metrics.exposition import openmetrics_metadata, series_prefix
from costwarden.metrics.history.steps import Steps, Track

Series = tuple[Labels, Track]


class HistoryError(Exception):
    """A history cannot be written as asked for; the message says why and what to do."""


def family_lines(
    family: Family, series: Iterable[Series], steps: Steps, target: Mapping[str, str], limit: int, count: Callable[[int, int], None]
) -> Iterator[bytes]:
    """The lines of one family: metadata, then a piece a series. Nothing at all for a family without samples.

    `target` are the labels that a scrape adds. `count` is told (series, samples) of each piece. Raises `HistoryError` for more series than
    `limit`, and for a target label that is a label of the family's own, which a scrape would rename.
    """
    if clash := set(target) & set(family.labels):
        raise HistoryError(f"{family.name} has the label `{min(clash)}` itself: Prometheus would rename it")
    names = tuple(target)
    wide = msgspec.structs.replace(family, labels=(*names, *family.labels))
    values = tuple(target.values())
    written = 0
    for labels, track in series:
        pieces, samples = track.lines(series_prefix(wide, (*values, *labels)), steps.ends)
        if not pieces:
            continue
        if not written:
            yield openmetrics_metadata(family)
        written += 1
        if written > limit:
            raise HistoryError(
                f"{family.name} has more than {limit} series, so that the page sums some of them into `other`, each time others: tell cost "
                "apart by fewer labels (`metrics.cloud_labels`, `metrics.usage_labels`), or allow more (`metrics.series_limits`)"
            )
        yield "".join(pieces).encode()
        count(1, samples)
