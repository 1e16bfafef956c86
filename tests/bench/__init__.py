"""What the project promises in figures: a module a bench, each with ``rows()``.

``make bench`` runs them all, ``python jobs/bench.py catalog pipeline`` some. Each runs in a
process of its own, so that memory and threads are its own; none is run beside another.
"""

import operator
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
"""Where benches leave what they make."""

_OPERATORS = {">=": operator.ge, "<=": operator.le}


class Row(NamedTuple):
    """One figure.

    Attributes:
        name: what was measured, and where more than one run: of what it is the median.
        value: the figure.
        unit: of the value; empty for a ratio.
        bar: what is promised, as ``">= 0.8"``; empty where the figure is only told.
        note: spread, sizes, whatever makes the figure one.
    """

    name: str
    value: float
    unit: str
    bar: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the promise is held; a NaN holds none."""
        if not self.bar:
            return True
        sign, number = self.bar.split()
        return bool(_OPERATORS[sign](self.value, float(number)))


def median_row(name: str, values: Sequence[float], unit: str, bar: str = "") -> Row:
    """The median of several runs; the note has the smallest and the largest."""
    note = f"{min(values):.4g} to {max(values):.4g}, n={len(values)}"
    return Row(name, statistics.median(values), unit, bar, note)
