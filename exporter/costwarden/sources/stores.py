"""Where files of bills lie: what is there, told by one listing, and one file at a time as a local file."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from costwarden.sources.requests import SourceError

T = TypeVar("T")

LARGEST_MANIFEST = 16 << 20
"""Bytes: one of a year of daily files is well below 1 MiB."""

POLL_SECONDS = 0.05


class Item(msgspec.Struct, frozen=True):
    """A file or an object."""

    path: str
    """Below the folder or the prefix, with `/`."""
    version: str
    """Another one where the content may be another."""
    modified: datetime
    size: int


class UnreadableItem(Exception):
    """One file could not be got; the message says why, without its name."""


CHANGED = "changed while it was being read; the next refresh tries again"


class Store(Protocol):
    """A folder, or the objects below a prefix."""

    place: str
    """As sentences name it."""

    def list(self) -> Iterator[Item]:
        """Everything that is there, names that begin with a dot left out. Raises `SourceError`."""

    def read(self, item: Item) -> bytes:
        """The content of a small file. Raises `UnreadableItem` and `SourceError`."""

    def fetch(self, item: Item, target: Path) -> None:
        """Make the file `target`: the content of `item`, as it was listed. Raises `UnreadableItem` and `SourceError`."""

    def is_current(self, item: Item) -> bool:
        """Whether what `fetch` gave still is what was listed."""


class Folder:
    """A folder of the file system."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self.place = str(path)

    def list(self) -> Iterator[Item]:
        """A file that vanishes meanwhile is given with an empty version."""
        try:
            for folder, names, files in os.walk(self._root, onerror=_raise):
                names[:] = [name for name in names if not name.startswith(".")]
                for name in files:
                    if not name.startswith("."):
                        yield self._item(Path(folder, name))
        except OSError as error:
            raise SourceError(f"{os.fsencode(error.filename).decode(errors='backslashreplace')}: {error.strerror}") from None

    def read(self, item: Item) -> bytes:
        """See `Store`."""
        try:
            if not stat.S_ISREG((self._root / item.path).stat().st_mode):
                raise UnreadableItem("is not a regular file")
            with (self._root / item.path).open("rb") as file:
                data = file.read(LARGEST_MANIFEST + 1)
        except OSError as error:
            raise UnreadableItem(error.strerror or str(error)) from None
        if len(data) > LARGEST_MANIFEST:
            raise UnreadableItem(f"is larger than {LARGEST_MANIFEST >> 20} MiB")
        return data

    def fetch(self, item: Item, target: Path) -> None:
        """A link: DuckDB takes `*` and `[` in a name for a pattern and `year=2026` in a path for a column, so it gets a name of ours."""
        path = self._root / item.path
        try:
            # To open a named pipe is to wait for its writer.
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            raise UnreadableItem(error.strerror or str(error)) from None
        if not regular:
            raise UnreadableItem("is not a regular file")
        target.symlink_to(path.resolve())

    def is_current(self, item: Item) -> bool:
        """See `Store`."""
        return self._item(self._root / item.path).version == item.version

    def _item(self, path: Path) -> Item:
        name = path.relative_to(self._root).as_posix()
        try:
            status = path.stat()
        except OSError:
            return Item(name, "", datetime.fromtimestamp(0, UTC), 0)
        # A file that was put in the place of another may have its size and its time, but hardly its inode and never its time of change.
        version = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}:{status.st_ctime_ns}"
        return Item(name, version, datetime.fromtimestamp(status.st_mtime, UTC), status.st_size)


def below(prefix: str, key: str) -> str | None:
    """The path of an object below `prefix` (empty, or with a slash at its end); None where a name in it is empty or begins with a dot."""
    path = key.removeprefix(prefix)
    return None if any(not name or name.startswith(".") for name in path.split("/")) else path


def until_closed(closing: threading.Event, call: Callable[[], T]) -> T:
    """What `call` gives or raises; `SourceError` as soon as `closing` is set.

    A client of an object store cannot be interrupted: it goes on in a thread of its own until its time is up, and nobody listens.
    """
    done = threading.Event()
    given: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            given.append(call())
        except BaseException as error:  # noqa: BLE001 (given to the one who waits)
            raised.append(error)
        done.set()

    thread = threading.Thread(target=run, daemon=True, name="object-store")
    thread.start()
    while not done.wait(POLL_SECONDS):
        if closing.is_set():
            raise SourceError("closed while it was being read")
    if raised:
        raise raised[0]
    return given[0]


def _raise(error: OSError) -> None:
    raise error
