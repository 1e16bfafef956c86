"""Figures that two papers print about public labels, as data, and ours against them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

HEADER = "table | row | got | paper | ok"

Q_ALIGN = "Q-Align Table 2"
RELEASED = "Q-Align released words"
DEQA_1 = "DeQA-Score Table 1"
DEQA_2 = "DeQA-Score Table 2"
DEQA_A1 = "DeQA-Score Table A1"

Key = tuple[str, str]
"""A table and its row."""


@dataclass(frozen=True)
class Figure:
    """A number of a paper.

    Attributes:
        table: where it stands.
        row: the set and the quantity.
        paper: as printed, so its decimals are those that count; a share ends in ``%``.
        known: published labels are known not to give it.
    """

    table: str
    row: str
    paper: str
    known: bool = False

    @property
    def key(self) -> Key:
        """What a measurement of it is filed under."""
        return self.table, self.row

    def printed(self, got: float, more: int = 0) -> str:
        """A value with as many decimals as the paper prints, or some more."""
        digits = self.paper.removesuffix("%")
        decimals = len(digits.partition(".")[2])
        percent = "%" if self.paper.endswith("%") else "f"
        return f"{got:.{decimals + more if decimals else 0}{percent}}"

    def holds(self, got: float) -> bool:
        """Whether a value, rounded to the paper's decimals, is the printed number."""
        return self.printed(got) == self.paper

    def line(self, got: float) -> str:
        """``table | row | got | paper | ok``, with two decimals more than the paper's."""
        verdict = "ok" if self.holds(got) else "known" if self.known else "FAILED"
        return " | ".join([self.table, self.row, self.printed(got, 2), self.paper, verdict])


def report(
    figures: Sequence[Figure], got: Mapping[Key, float], write: Callable[[str], None]
) -> int:
    """Writes a line a figure and tells the exit status.

    Args:
        figures: what papers print.
        got: our value of each figure.
        write: takes each line.

    Returns:
        0: all figures hold but those known not to; 1: another one does not.
    """
    write(HEADER)
    for figure in figures:
        write(figure.line(got[figure.key]))
    missed = [figure for figure in figures if not figure.holds(got[figure.key])]
    failed = sum(not figure.known for figure in missed)
    write(
        f"{len(figures)} figures: {len(figures) - len(missed)} round to the paper's, "
        f"{len(missed) - failed} are known not to, {failed} should and do not"
    )
    return int(failed > 0)


FIGURES = (
    Figure(Q_ALIGN, "KonIQ rows", "7046"),
    Figure(Q_ALIGN, "KonIQ SRCC", "0.952"),
    Figure(Q_ALIGN, "KonIQ PLCC", "0.961"),
    Figure(Q_ALIGN, "SPAQ SRCC", "0.969"),
    Figure(Q_ALIGN, "SPAQ PLCC", "0.968"),
    Figure(Q_ALIGN, "KADID SRCC", "0.979"),
    Figure(Q_ALIGN, "KADID PLCC", "0.982"),
    Figure(Q_ALIGN, "LSVQ SRCC", "0.940"),
    Figure(Q_ALIGN, "LSVQ PLCC", "0.944"),
    # The votes that are published cover a tenth of the set, and its range is not stated.
    Figure(Q_ALIGN, "AVA SRCC", "0.920", known=True),
    Figure(Q_ALIGN, "AVA PLCC", "0.930", known=True),
    Figure(RELEASED, "KonIQ words", "9056"),
    Figure(RELEASED, "KonIQ words that differ", "0"),
    Figure(RELEASED, "SPAQ words", "11121"),
    Figure(RELEASED, "SPAQ words that differ", "0"),
    Figure(RELEASED, "KADID test words", "2000"),
    Figure(RELEASED, "KADID test words that differ", "0"),
    Figure(RELEASED, "LSVQ test words", "7186"),
    Figure(RELEASED, "LSVQ test words that differ", "0"),
    Figure(RELEASED, "LSVQ 1080p words", "3573"),
    Figure(RELEASED, "LSVQ 1080p words that differ", "0"),
    Figure(DEQA_A1, "KonIQ rows", "7046"),
    Figure(DEQA_A1, "KonIQ range", "2.91"),
    Figure(DEQA_A1, "KonIQ mean std", "0.57"),
    Figure(DEQA_A1, "KonIQ mean std / range", "19.73%"),
    Figure(DEQA_A1, "SPAQ rows", "8897"),
    Figure(DEQA_A1, "SPAQ range", "91.67"),
    Figure(DEQA_A1, "SPAQ mean std", "13.93"),
    Figure(DEQA_A1, "SPAQ mean std / range", "15.20%"),
    Figure(DEQA_A1, "KADID rows", "10125"),
    Figure(DEQA_A1, "KADID range", "3.93"),
    Figure(DEQA_A1, "KADID mean std", "0.86"),
    Figure(DEQA_A1, "KADID mean std / range", "21.90%"),
    Figure(DEQA_1, "KonIQ one-hot L1", "0.302"),
    Figure(DEQA_1, "KonIQ one-hot RMSE", "0.374"),
    Figure(DEQA_1, "KonIQ soft L1", "0.008"),
    Figure(DEQA_1, "KonIQ soft RMSE", "0.018"),
    Figure(DEQA_1, "KonIQ soft JS", "0.001"),
    Figure(DEQA_1, "KonIQ soft W", "0.038"),
    Figure(DEQA_1, "SPAQ one-hot L1", "0.299"),
    Figure(DEQA_1, "SPAQ one-hot RMSE", "0.366"),
    Figure(DEQA_1, "SPAQ soft L1", "0.011", known=True),
    Figure(DEQA_1, "SPAQ soft RMSE", "0.025", known=True),
    Figure(DEQA_1, "SPAQ soft JS", "0.022", known=True),
    Figure(DEQA_1, "SPAQ soft W", "0.084"),
    Figure(DEQA_1, "KADID one-hot L1", "0.327", known=True),
    Figure(DEQA_1, "KADID one-hot RMSE", "0.389", known=True),
    Figure(DEQA_1, "KADID soft L1", "0.024"),
    Figure(DEQA_1, "KADID soft RMSE", "0.038"),
    Figure(DEQA_1, "KADID soft JS", "0.010", known=True),
    Figure(DEQA_1, "KADID soft W", "0.140", known=True),
    Figure(DEQA_2, "KonIQ alpha", "1.036"),
    Figure(DEQA_2, "KonIQ std of alpha", "0.041"),
    Figure(DEQA_2, "KonIQ beta", "-0.005"),
    Figure(DEQA_2, "KonIQ std of beta", "0.005"),
    Figure(DEQA_2, "SPAQ alpha", "1.033"),
    Figure(DEQA_2, "SPAQ std of alpha", "0.085"),
    Figure(DEQA_2, "SPAQ beta", "-0.005"),
    Figure(DEQA_2, "SPAQ std of beta", "0.014"),
    Figure(DEQA_2, "KADID alpha", "1.118"),
    Figure(DEQA_2, "KADID std of alpha", "0.091"),
    Figure(DEQA_2, "KADID beta", "-0.015"),
    Figure(DEQA_2, "KADID std of beta", "0.010"),
)
"""All that the label files are compared with."""
