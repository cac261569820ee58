"""Deliveries: which of the files that lie there count, where the provider writes a manifest beside them.

AWS and Azure write a billing period again and again, over the same names or under new ones, and then a manifest that names the files of the
delivery. Only those of the newest complete delivery of a period count; a file that no manifest speaks for counts as it is.

- AWS Data Exports: `EXPORT/data/BILLING_PERIOD=2026-11/…` and `EXPORT/metadata/BILLING_PERIOD=2026-11/…/EXPORT-Manifest.json`
  (https://docs.aws.amazon.com/cur/latest/userguide/dataexports-export-delivery.html).
- AWS Cost and Usage Reports: `REPORT/20261101-20261201/ASSEMBLY/REPORT-00001.csv.gz` and `REPORT/20261101-20261201/REPORT-Manifest.json`
  with `reportKeys` (https://docs.aws.amazon.com/cur/latest/userguide/understanding-report-versions.html).
- Azure exports: `EXPORT/20261101-20261130/RUN/manifest.json` with `blobs`
  (https://learn.microsoft.com/en-us/azure/cost-management-billing/costs/tutorial-improved-exports).
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from costwarden.sources.stores import Item, UnreadableItem

BILL_SUFFIXES = (".csv", ".csv.gz", ".parquet")

# `REPORT-RedshiftManifest.json` is none: it tells Redshift where to read.
_MANIFEST = re.compile(r"(^|.*[/-])manifest\.json$", re.IGNORECASE)
_PERIOD = re.compile(r"\d{8}-\d{8}")
_PARTITION = re.compile(r"[A-Za-z_]+=.+")
# What a manifest names its files in. AWS does not publish the field of Data Exports: names are found wherever they stand.
_LISTS = {"reportKeys", "blobs", "dataFiles"}
_NAMED = (*BILL_SUFFIXES, ".zip")

MOST_NAMED = 3


class Deliveries(msgspec.Struct):
    """What counts."""

    bills: dict[str, str]
    """Path -> the mark of the manifest that names it; empty where none does."""
    held: set[str]
    """Paths of a period whose delivery is not complete: what they held stays."""
    failed: dict[str, str]
    """Path of a manifest -> what is wrong with it."""


class _Delivery(msgspec.Struct, frozen=True):
    manifest: Item
    at: datetime
    names: tuple[str, ...]


def is_manifest(path: str) -> bool:
    """Whether a file may be a manifest, by its name."""
    return _MANIFEST.match(path) is not None


def choose(items: Mapping[str, Item], marks: Mapping[str, str], failed: Collection[str], read: Callable[[Item], bytes]) -> Deliveries:
    """Which bills count. `marks` are those of the bills that were read before, and `failed` the ones that could not be.

    Manifests are read only where a period is not as it was. Raises what `read` raises, `UnreadableItem` apart.
    """
    bills = {path for path in items if path.lower().endswith(BILL_SUFFIXES)}
    chosen = Deliveries({}, set(), {})
    spoken_for: set[str] = set()
    for root, manifests in _by_period(items).items():
        known = {path: mark for path, mark in marks.items() if mark.startswith(f"{_digest(root)}.")}
        folders = {root, *(path.rpartition("/")[0] for path in known)}
        newest = max(manifests, key=lambda item: (item.modified, -len(item.path)))
        as_before = known and set(known.values()) == {_mark(root, newest)} and known.keys() <= bills
        if as_before and not any(_is_in(path, folders) for path in failed):
            chosen.bills |= known
            spoken_for |= {path for path in bills if _is_in(path, folders)}
            continue
        deliveries = list(_read_all(manifests, read, chosen.failed))
        if not deliveries and not any(item.path in chosen.failed for item in manifests):
            # A manifest of something else.
            continue
        counts = _newest_complete(root, deliveries, bills, chosen)
        folders |= {path.rpartition("/")[0] for path in counts}
        chosen.bills |= counts
        inside = {path for path in {*bills, *known, *failed} if _is_in(path, folders) and not is_manifest(path)} | known.keys()
        if not counts and not (deliveries and not deliveries[0].names):
            chosen.held |= inside
        spoken_for |= inside
    chosen.bills |= dict.fromkeys(bills - spoken_for - chosen.bills.keys(), "")
    return chosen


def _by_period(items: Mapping[str, Item]) -> dict[str, list[Item]]:
    """Folder that the manifests speak for -> manifests."""
    periods: dict[str, list[Item]] = {}
    for path, item in items.items():
        if is_manifest(path):
            periods.setdefault(_root(path), []).append(item)
    return periods


def _root(path: str) -> str:
    folders = path.split("/")[:-1]
    for position, name in enumerate(folders):
        if _PERIOD.fullmatch(name):
            return "/".join(folders[: position + 1])
        if name == "metadata" and position + 1 < len(folders) and _PARTITION.fullmatch(folders[position + 1]):
            return "/".join([*folders[:position], "data", folders[position + 1]])
    return "/".join(folders)


def _read_all(manifests: list[Item], read: Callable[[Item], bytes], failed: dict[str, str]) -> Iterator[_Delivery]:
    """The deliveries, the newest first."""
    found: list[_Delivery] = []
    for item in manifests:
        try:
            stated = json.loads(read(item))
        except UnreadableItem as error:
            failed[item.path] = f"{item.path}: {error}"
            continue
        except (ValueError, RecursionError) as error:
            failed[item.path] = f"{item.path}: is not JSON: {error}"
            continue
        names = tuple(dict.fromkeys(_names(stated)))
        if names or (isinstance(stated, dict) and stated.keys() & _LISTS):
            found.append(_Delivery(item, _submitted(stated) or item.modified, names))
    # Of two that say the same, the one beside the delivery and the one of the period, that of the period.
    yield from sorted(found, key=lambda one: (one.at, -len(one.manifest.path)), reverse=True)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.lower().endswith(_NAMED):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names(inner)


def _submitted(stated: Any) -> datetime | None:
    """When Azure began the run: a folder that was copied has lost the times of its files."""
    try:
        at = datetime.fromisoformat(stated["runInfo"]["submittedTime"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _newest_complete(root: str, deliveries: list[_Delivery], bills: set[str], chosen: Deliveries) -> dict[str, str]:
    """Path -> mark, of the newest delivery all of whose files are there; what is wrong with the newer ones is noted."""
    by_name: dict[str, list[str]] = {}
    for path in bills:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    for delivery in deliveries:
        found = {name: _find(name, by_name) for name in delivery.names}
        missing = [name for name, path in found.items() if path is None]
        if not missing:
            return {path: _mark(root, delivery.manifest) for path in found.values() if path}
        path = delivery.manifest.path
        if zipped := [name for name in missing if name.lower().endswith(".zip")]:
            chosen.failed[path] = f"{path}: names {zipped[0]}: ZIP is not read; let the report be compressed as GZIP or Parquet"
        else:
            more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
            chosen.failed[path] = f"{path}: names {', '.join(missing[:MOST_NAMED])}{more}, not there (yet): the delivery before counts"
    return {}


def _find(name: str, by_name: Mapping[str, list[str]]) -> str | None:
    """The bill that a manifest names: by a URL, a key of the bucket, or a path; each may begin above or below what is listed."""
    full = name.split("://", 1)[-1].lstrip("/")
    for path in by_name.get(full.rpartition("/")[2], ()):
        if f"/{full}".endswith(f"/{path}") or f"/{path}".endswith(f"/{full}"):
            return path
    return None


def _is_in(path: str, folders: Collection[str]) -> bool:
    return any(not folder or path.startswith(f"{folder}/") for folder in folders)


def _mark(root: str, manifest: Item) -> str:
    return f"{_digest(root)}.{_digest(f'{manifest.path}:{manifest.version}')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
