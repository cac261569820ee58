"""What a PromQL expression reads, what its result is like and what is wrong with it: for the checks of rules and dashboards."""

from promql.mutants import Mutant, mutants
from promql.reading import Reading, analyse, read
from promql.series import Labels, Series, exported, with_recorded
from promql.shape import Shape
from promql.text import names, write

__all__ = ["Labels", "Mutant", "Reading", "Series", "Shape", "analyse", "exported", "mutants", "names", "read", "with_recorded", "write"]
