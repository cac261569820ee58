"""Two people's changes of one text: yours in an exported copy, and those of a newer version."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise

import msgspec

Lines = Sequence[str]


class Edit(msgspec.Struct, frozen=True):
    """Lines [first, last) of the original, and what stands there instead."""

    first: int
    last: int
    lines: tuple[str, ...]


def edits(original: Lines, changed: Lines) -> list[Edit]:
    """How `changed` comes from `original`, in the order of its lines."""
    opcodes = SequenceMatcher(None, original, changed, autojunk=False).get_opcodes()
    return [Edit(first, last, tuple(changed[begin:end])) for tag, first, last, begin, end in opcodes if tag != "equal"]


def merge(original: Lines, mine: Lines, theirs: Lines) -> list[str] | None:
    """`original` with the edits of both; None where they meet.

    Edits that touch count as meeting: of two lines that stand side by side, one may be the reason for the other. The same edit on both
    sides is one.
    """
    both = list(dict.fromkeys([*edits(original, mine), *edits(original, theirs)]))
    both.sort(key=lambda edit: (edit.first, edit.last))
    for before, after in pairwise(both):
        if after.first <= before.last:
            return None
    merged = list(original)
    for edit in reversed(both):
        merged[edit.first : edit.last] = edit.lines
    return merged
