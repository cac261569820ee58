"""Which bills are there twice.

Figures are `CHARGES` or `CHARGES/ROWS`: a digest of the daily charges, and one of the whole rows with all their columns. Only the second
tells a copy from the next hour's file, and for Parquet it would mean to read columns that nothing else is read from. So it is made where
the first does not tell two bills apart: of both.
"""

from collections.abc import Callable, Mapping

from costwarden.sources import KnownPart


class Copies:
    """`known` are the parts that stay as they are; `whole_rows(part)` gives the second digest of one of them, empty where it cannot."""

    def __init__(self, known: Mapping[str, KnownPart], whole_rows: Callable[[str], str]) -> None:
        self._whole_rows = whole_rows
        self._counted: dict[str, dict[str, str]] = {}
        self._charges = {_charges(found.figures) for found in known.values() if found.figures}
        for part, found in known.items():
            if found.state != "duplicate":
                self.count(part, found.figures)

    def count(self, part: str, figures: str) -> None:
        """`part` is counted with these figures; empty ones are of a bill without charges, which is nobody's copy."""
        if figures:
            self._charges.add(_charges(figures))
            self._counted.setdefault(_charges(figures), {})[part] = figures.partition("/")[2]

    def needs_whole_rows(self, figures: str) -> bool:
        """Whether the charges of another bill are the same, so that only whole rows can tell the two apart."""
        return bool(figures) and "/" not in figures and figures in self._charges

    def original_of(self, part: str, figures: str) -> str:
        """The part that is counted and holds the same bill; empty where there is none.

        One whose whole rows cannot be read any more is taken for the same: rather once too few until it can be read than twice.
        """
        charges, _, rows = figures.partition("/")
        rivals = self._counted.get(charges, {}) if charges else {}
        for rival in rivals:
            if rival != part and not rivals[rival]:
                rivals[rival] = self._whole_rows(rival)
        others = {rival: theirs for rival, theirs in rivals.items() if rival != part}
        return next((rival for rival, theirs in others.items() if theirs == rows), "") or next(
            (rival for rival, theirs in others.items() if not theirs), ""
        )


def _charges(figures: str) -> str:
    return figures.partition("/")[0]
