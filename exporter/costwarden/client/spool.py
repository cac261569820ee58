"""What could not be told yet, kept in a folder: it outlives the process, and the next one delivers it."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

SUFFIX = ".spool"
PATHS = {"track", "release"}
"""What a record may be for."""


class Record(msgspec.Struct, frozen=True):
    """A request for the budget service. `path` is the last part of it: `track` or `release`."""

    number: int
    path: str
    body: msgspec.Raw


class _Done(msgspec.Struct, frozen=True):
    done: int


class _Line(msgspec.Struct):
    """Either of the two."""

    number: int = 0
    path: str = ""
    body: msgspec.Raw = msgspec.Raw(b"null")
    done: int = 0


_line_decoder = msgspec.json.Decoder(_Line)


class Spool:
    """An append-only file of one process in `folder`, of JSON lines: a record, or that one is delivered.

    A record is written before anybody is told that it is; it is in the hands of the operating system at once, so that it survives the end
    of the process, and on the disk after `sync`. What other processes have left behind, `adopt` gives. Raises `OSError`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._file, self._path = self._create()
        self._synced = True
        _open.add(self)

    def _create(self) -> tuple[int, Path]:
        while True:
            path = self._folder / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            if _lock(file):
                return file, path
            os.close(file)  # another process took it for left behind, in the moment between

    def append(self, record: Record) -> None:
        """Keep `record`."""
        self._write(msgspec.json.encode(record))

    def done(self, number: int, *, last: bool) -> None:
        """The record is delivered; `last` says that no other is kept."""
        if last:
            os.ftruncate(self._file, 0)
        else:
            self._write(msgspec.json.encode(_Done(number)))

    def _write(self, line: bytes) -> None:
        self._synced = False
        line += b"\n"
        written = os.write(self._file, line)
        if written != len(line):  # a full disk: half a line would swallow the next one
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(f"{self._path}: the disk is full")

    def sync(self) -> None:
        """Make what is kept survive a loss of power."""
        if not self._synced:
            os.fsync(self._file)
            self._synced = True

    def adopt(self, keep: Callable[[str, msgspec.Raw], bool]) -> int:
        """Give what ended processes have left behind to `keep`, oldest file first; how many records it was.

        `keep` says whether a record is safe without the file that it came from; a file whose records all are is removed.
        """
        adopted = 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=_modified):
            if path == self._path:
                continue
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                if not _lock(file) or not path.exists():
                    continue
                kept = [keep(record.path, record.body) for record in undelivered(path.read_bytes())]
                adopted += len(kept)
                # Else it is told now and found once more by the next process, and the service records an event once.
                if all(kept):
                    self.sync()
                    path.unlink()
            finally:
                os.close(file)
        return adopted

    def close(self) -> None:
        """Let go of the file; an empty one is removed, one with records waits for the next process."""
        if self._file < 0:
            return
        if os.fstat(self._file).st_size == 0:
            self._path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of a file that a fork has left us: it is the other process's."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_open: "weakref.WeakSet[Spool]" = weakref.WeakSet()


def _abandon_all() -> None:
    """In a forked child: as long as it has the file open too, the lock outlives the process whose spool it is."""
    for spool in list(_open):
        spool.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_abandon_all)


def undelivered(content: bytes) -> list[Record]:
    """The records of a spool file that are not marked as delivered. A line that was cut short is passed over."""
    records: dict[int, Record] = {}
    for line in content.splitlines():
        try:
            read = _line_decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            continue
        if read.done:
            records.pop(read.done, None)
        elif read.path:
            records[read.number] = Record(read.number, read.path, msgspec.Raw(bytes(read.body)))
    return list(records.values())


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _lock(file: int) -> bool:
    """Whether the file is ours until it is closed."""
    import fcntl  # not on Windows, where there is no spool on disk

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
