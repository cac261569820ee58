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
from itertools import pairwise, takewhile
from typing import Any

import msgspec

from costwarden.sources.attribution import clean
from costwarden.sources.stores import Item, UnreadableItem

BILL_SUFFIXES = (".csv", ".csv.gz", ".parquet")

# `REPORT-RedshiftManifest.json` is none: it tells Redshift where to read.
_MANIFEST = re.compile(r"(^|.*[/-])manifest\.json$", re.IGNORECASE)
_PERIOD = re.compile(r"\d{8}-\d{8}")
_PARTITION = re.compile(r"[A-Za-z_]+=.+")
# What a manifest names its files in. AWS does not publish the field of Data Exports: where none of these is there, names are found
# wherever they stand.
_LISTS = {"reportKeys", "blobs", "dataFiles"}
_BLOB_NAME = "blobName"
_NAMED = (*BILL_SUFFIXES, ".zip")

# Digests, and the seconds of the delivery: so each can be told again.
_MARK = "ROOT.MANIFEST.VERSION.SECONDS"

MOST_NAMED = 3
LONGEST_NAME = 200
"""Characters of a name in a sentence."""

NO_MANIFEST = "*-Manifest.json"
"""A part with this name in a folder stands for the manifest that is not there any more."""


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


class _Period(msgspec.Struct, frozen=True):
    """What is delivered into one folder."""

    root: str
    deliveries: list[_Delivery]
    """None that is older than what was read."""
    known: dict[str, str]
    """Path -> mark, as it was read before."""
    lost: int
    """Seconds of what was read, where its manifest is not there any more; else 0."""


def is_manifest(path: str) -> bool:
    """Whether a file may be a manifest, by its name."""
    return _MANIFEST.match(path) is not None


def cut(text: str, longest: int = LONGEST_NAME) -> str:
    """A text of others for a sentence: encodable, and not longer than that."""
    shown = clean(text[: longest + 1])
    return shown if len(shown) <= longest else shown[:longest] + "…"


def choose(items: Mapping[str, Item], marks: Mapping[str, str], failed: Collection[str], read: Callable[[Item], bytes]) -> Deliveries:
    """Which bills count. `marks` are those of the bills that were read before, and `failed` the ones that could not be.

    Manifests are read only where a period is not as it was. Raises what `read` raises, `UnreadableItem` apart.
    """
    bills = {path for path in items if path.lower().endswith(BILL_SUFFIXES)}
    chosen = Deliveries({}, set(), {})
    spoken_for: set[str] = set()
    known_by_root: dict[str, dict[str, str]] = {}
    for path, mark in sorted(marks.items()):
        if mark:
            known_by_root.setdefault(mark.partition(".")[0], {})[path] = mark
    changed: list[_Period] = []
    roots = set()
    for root, manifests in _by_period(items).items():
        known = known_by_root.get(_digest(root), {})
        folders = {root, *map(_folder, known)}
        newest = max(manifests, key=lambda item: (item.modified, -len(item.path), item.path))
        as_before = known and {mark.rpartition(".")[0] for mark in known.values()} == {_mark(root, newest)} and known.keys() <= bills
        if as_before and not any(_is_in(path, folders) for path in failed):
            chosen.bills |= known
            spoken_for |= {path for path in bills if _is_in(path, folders)}
        else:
            deliveries = list(_read_all(manifests, read, chosen.failed))
            if not deliveries and not any(item.path in chosen.failed for item in manifests):
                # A manifest of something else.
                continue
            lost = _newest_lost(manifests, known) if known.keys() & bills else 0
            changed.append(_Period(root, [one for one in deliveries if _seconds(one.at) >= lost], known, lost))
        known_by_root.pop(_digest(root), None)
        roots.add(root)
    named = _Named(bills, roots, chosen.bills)
    for period in changed:
        counts = _newest_complete(period, named, chosen)
        folders = {period.root, *map(_folder, [*period.known, *counts])}
        chosen.bills |= counts
        inside = {
            path for path in {*bills, *period.known, *failed} if _is_in(path, folders) and not is_manifest(path)
        } | period.known.keys()
        if not counts and not (period.deliveries and not period.deliveries[0].names):
            chosen.held |= inside
            if period.lost and not period.deliveries:
                _note_lost(period.root, chosen)
        spoken_for |= inside
    for digest, known in known_by_root.items():
        # Where all files are gone too, or another manifest names them now, nobody misses the one that did.
        if known.keys() & bills and not known.keys() & chosen.bills.keys():
            folders = {*map(_folder, known), *(folder for folder in _above(min(known)) if _digest(folder) == digest)}
            inside = {path for path in {*bills, *known, *failed} if _is_in(path, folders) and not is_manifest(path)} - spoken_for
            chosen.held |= inside | known.keys()
            spoken_for |= inside | known.keys()
            _note_lost(min(folders), chosen)
    chosen.held -= chosen.bills.keys()
    chosen.bills |= dict.fromkeys(bills - spoken_for - chosen.bills.keys(), "")
    return chosen


def _newest_lost(manifests: Collection[Item], known: Mapping[str, str]) -> int:
    """When the newest delivery was made that was read and whose manifest is not there any more, in seconds; else 0."""
    there = {_digest(item.path) for item in manifests}
    marks = [mark.split(".") for mark in known.values() if mark.count(".") == _MARK.count(".")]
    return max((int(at) for _, manifest, _, at in marks if manifest not in there), default=0)


def _note_lost(folder: str, chosen: Deliveries) -> None:
    part = f"{folder}/{NO_MANIFEST}".lstrip("/")
    chosen.failed[part] = (
        f"{part}: the manifest that says which files count is not there any more: the period stays as it was. Bring it back, or put a"
        ' manifest.json into the folder that names them: {"reportKeys": ["FILE", …]}'
    )


def _by_period(items: Mapping[str, Item]) -> dict[str, list[Item]]:
    """Folder that the manifests speak for -> manifests."""
    periods: dict[str, list[Item]] = {}
    for path, item in sorted(items.items()):
        if is_manifest(path):
            periods.setdefault(_root(path), []).append(item)
    return dict(sorted(periods.items()))


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
            names = tuple(_named(stated))
        except UnreadableItem as error:
            failed[item.path] = f"{item.path}: {error}"
            continue
        except (ValueError, RecursionError) as error:
            failed[item.path] = f"{item.path}: is not JSON: {cut(str(error))}"
            continue
        if names or (isinstance(stated, dict) and stated.keys() & _LISTS):
            found.append(_Delivery(item, _submitted(stated) or item.modified, names))
    # Of two that say the same, the one beside the delivery and the one of the period, that of the period.
    yield from sorted(found, key=lambda one: (one.at, -len(one.manifest.path), one.manifest.path), reverse=True)


def _named(stated: Any) -> list[str]:
    """Names of files: in the lists that are known to hold them, else wherever they stand."""
    lists = list(_lists(stated))
    return list(dict.fromkeys(_names(lists or stated)))


def _lists(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (found for key, found in value.items() if key in _LISTS)
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _lists(inner)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.lower().endswith(_NAMED):
        yield value
    elif isinstance(value, dict) and _BLOB_NAME in value:
        yield from _names(value[_BLOB_NAME])
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


def _newest_complete(period: _Period, named: "_Named", chosen: Deliveries) -> dict[str, str]:
    """Path -> mark, of the newest delivery all of whose files are there; what is wrong with the newer ones is noted."""
    for delivery in period.deliveries:
        found = {name: named.find(name, period.root, delivery.manifest.path) for name in delivery.names}
        wrong = [name for name, paths in found.items() if len(paths) != 1]
        if not wrong:
            mark = f"{_mark(period.root, delivery.manifest)}.{_seconds(delivery.at)}"
            return {paths[0]: mark for paths in found.values()}
        path = delivery.manifest.path
        if zipped := [name for name in wrong if name.lower().endswith(".zip")]:
            chosen.failed[path] = f"{path}: names {cut(zipped[0])}: ZIP is not read; let the report be compressed as GZIP or Parquet"
        elif twice := next((name for name in wrong if found[name]), ""):
            places = " and ".join(map(cut, found[twice][:2]))
            chosen.failed[path] = f"{path}: names {cut(twice)}, which is there twice: {places}; the delivery before counts"
        elif taken := next((name for name in wrong if named.is_taken(name)), ""):
            chosen.failed[path] = f"{path}: names {cut(taken)}, which another manifest names too: the delivery before counts"
        else:
            more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
            names = ", ".join(map(cut, wrong[:MOST_NAMED]))
            chosen.failed[path] = f"{path}: names {names}{more}, not there (yet): the delivery before counts"
    return {}


class _Named:
    """Which bill a manifest means: by a URL, a key of the bucket, or a path; each may begin above or below what is listed.

    `roots` are the folders that manifests speak for, and `claimed` what they have claimed: the others must not.
    """

    def __init__(self, bills: Collection[str], roots: Collection[str], claimed: Collection[str]) -> None:
        self._roots, self._claimed = roots, claimed
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(bills):
            self._by_name.setdefault(path.rpartition("/")[2], []).append(path)

    def find(self, name: str, root: str, manifest: str) -> list[str]:
        """The bills that fit best, in order: more than one where nothing tells them apart.

        A bill below another manifest's folder is that one's: two accounts may deliver under the same names.
        """
        ranked: dict[tuple[int, int], list[str]] = {}
        for path in self._like(name):
            rank = self._rank(path, root)
            if rank is not None and path not in self._claimed:
                ranked.setdefault((rank, -_shared(path, manifest)), []).append(path)
        return ranked[min(ranked)] if ranked else []

    def is_taken(self, name: str) -> bool:
        """Whether another manifest has claimed a bill of this name."""
        return any(path in self._claimed for path in self._like(name))

    def _like(self, name: str) -> Iterator[str]:
        full = name.split("://", 1)[-1].lstrip("/")
        for path in self._by_name.get(full.rpartition("/")[2], ()):
            if f"/{full}".endswith(f"/{path}") or f"/{path}".endswith(f"/{full}"):
                yield path

    def _rank(self, path: str, root: str) -> int | None:
        owner = next((folder for folder in _above(path) if folder in self._roots), None)
        if owner == root:
            return 0
        if _is_in(path, [root]):
            return 1
        return 2 if owner is None or _is_in(root, [owner]) else None


def _shared(path: str, manifest: str) -> int:
    """How many folders a bill and a manifest share, that of a manifest below `metadata` taken for the one below `data`."""
    place = manifest.split("/")[:-1]
    if not any(map(_PERIOD.fullmatch, place)):
        for position, (name, below) in enumerate(pairwise(place)):
            if name == "metadata" and _PARTITION.fullmatch(below):
                place[position] = "data"
                break
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.split("/")[:-1], place, strict=False)))


def _above(path: str) -> Iterator[str]:
    """The folders that a file is in, from the nearest on."""
    while path:
        path = _folder(path)
        yield path


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_in(path: str, folders: Collection[str]) -> bool:
    return any(not folder or path.startswith(f"{folder}/") for folder in folders)


def _mark(root: str, manifest: Item) -> str:
    """`_MARK` without its last field."""
    return ".".join(map(_digest, (root, manifest.path, manifest.version)))


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
