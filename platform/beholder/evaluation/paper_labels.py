"""Label files that carry what two papers' tables were made of, read into arrays.

They are CSV files in the forms that ``jobs/paper_tables.py`` lists, with where to get them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beholder.datasets.public import LabelError, LabelFile
from beholder.datasets.public.reading import number
from beholder.datasets.public.tables import Row, read_rows
from beholder.opinions import vote_distribution

Array = NDArray[np.float64]

KONIQ = "koniq10k_distributions_sets.csv"
KONIQ_WORDS = "qalign_koniq.csv"
SPAQ = "vqr1_SPAQ.csv"
SPAQ_WORDS = "qalign_spaq.csv"
KADID = "kadid10k_dmos_std.csv"
KADID_WORDS = "qalign_kadid.csv"
LSVQ_TRAIN = "fastvqa_lsvq_train.csv"
LSVQ_TEST = "qalign_test_lsvq.csv"
LSVQ_1080P = "qalign_test_lsvq_1080p.csv"
AVA = "ava_idealo_test.csv"

FILES = (
    *(KONIQ, KONIQ_WORDS, SPAQ, SPAQ_WORDS, KADID, KADID_WORDS),
    *(LSVQ_TRAIN, LSVQ_TEST, LSVQ_1080P, AVA),
)
"""All files that the tables need."""

_SPLIT = {name: {"split"} for name in (KONIQ_WORDS, SPAQ_WORDS, KADID_WORDS)}
"""Files of words that hold more than one split, and the column that tells."""

KONIQ_ANSWERS = tuple(f"c{answer}" for answer in range(1, 6))
AVA_VOTES = tuple(f"n{score}" for score in range(1, 11))

SPAQ_LOWEST, SPAQ_HIGHEST = 2.0, 96.0
"""MOS that ``vqr1_SPAQ.csv`` writes as 1 and 5: its second column is ``1 + 4 (MOS - 2) / 94``."""


@dataclass(frozen=True)
class Opinions:
    """A set's opinions, a row an item.

    Attributes:
        names: of the items.
        mos: on the scale of the votes that it is taken over. (N,).
        std: of those votes. (N,).
    """

    names: Sequence[str]
    mos: Array
    std: Array


@dataclass(frozen=True)
class KoniqOpinions:
    """KonIQ-10k's opinions, in both units.

    Attributes:
        zscored: MOS after rejection of raters and z-scores, 0..100, what Q-Align cut. (N,).
        raw: mean of the answers and their std, 1..5, what DeQA-Score took.
        training: the rows of the official training split. bool (N,).
    """

    zscored: Array
    raw: Opinions
    training: NDArray[np.bool_]


@dataclass(frozen=True)
class Words:
    """Scores with the level words that Q-Align released for them.

    Attributes:
        names: of the items.
        scores: on the set's own scale. (N,).
        words: one of the five levels each.
        training: the rows of the training split; none where the file is a test split. bool (N,).
    """

    names: Sequence[str]
    scores: Array
    words: Sequence[str]
    training: NDArray[np.bool_]


def require_files(folder: Path) -> None:
    """Looks for all files before any is read.

    Raises:
        LabelError: there is no such folder, or a file is missing.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder} is no folder: give the one with the label files")
    for name in FILES:
        if not (folder / name).is_file():
            raise LabelError(f"{folder} has no file '{name}': see --help for where to get it")


def read_koniq(folder: Path) -> KoniqOpinions:
    """KonIQ-10k's answers; the readers here all raise as :func:`read_rows` and :func:`number`."""
    rows = _rows(folder, KONIQ, {"image_name", *KONIQ_ANSWERS, "MOS", "SD", "set"})
    votes = _matrix(rows, KONIQ_ANSWERS)
    raw = vote_distribution(votes, np.arange(1, votes.shape[1] + 1)).mean
    training = np.array([row.cells["set"] == "training" for row in rows])
    names = _texts(rows, "image_name")
    return KoniqOpinions(
        _numbers(rows, "MOS"), Opinions(names, raw, _numbers(rows, "SD")), training
    )


def read_spaq(folder: Path) -> Opinions:
    """SPAQ's MOS on 0..100 and their std; the file's columns have no names of their own."""
    rows = _rows(folder, SPAQ, {"c0", "c1", "c2"})
    unit = (_numbers(rows, "c1") - 1) / 4
    mos = SPAQ_LOWEST + unit * (SPAQ_HIGHEST - SPAQ_LOWEST)
    return Opinions(_texts(rows, "c0"), mos, _numbers(rows, "c2"))


def read_kadid(folder: Path) -> Opinions:
    """KADID-10k's DMOS, 1..5 where higher is better, and what DeQA-Score took as std."""
    rows = _rows(folder, KADID, {"dist", "dmos", "std"})
    return Opinions(_texts(rows, "dist"), _numbers(rows, "dmos"), _numbers(rows, "std"))


def read_lsvq(folder: Path) -> Array:
    """MOS of LSVQ's training videos. (N,)."""
    return _numbers(_rows(folder, LSVQ_TRAIN, {"mos"}), "mos")


def read_ava(folder: Path) -> Array:
    """Votes for 1..10 of the AVA pictures that are published so. (N, 10)."""
    return _matrix(_rows(folder, AVA, set(AVA_VOTES)), AVA_VOTES)


def read_words(folder: Path, name: str) -> Words:
    """A set's scores and released words.

    Args:
        folder: of the label files.
        name: the set's file.
    """
    rows = _rows(folder, name, {"name", "score", "level"} | _SPLIT.get(name, set()))
    training = np.array([row.cells.get("split") == "train" for row in rows])
    return Words(_texts(rows, "name"), _numbers(rows, "score"), _texts(rows, "level"), training)


def _rows(folder: Path, name: str, need: set[str]) -> list[Row]:
    rows = read_rows(LabelFile(name), folder, need)
    if not rows:
        raise LabelError(f"{folder / name} has no rows: get it again")
    return rows


def _texts(rows: Sequence[Row], column: str) -> list[str]:
    return [row.cells[column] for row in rows]


def _numbers(rows: Sequence[Row], column: str) -> Array:
    return np.array([number(row.where, column, row.cells[column]) for row in rows])


def _matrix(rows: Sequence[Row], columns: Sequence[str]) -> Array:
    return np.stack([_numbers(rows, column) for column in columns], axis=1)
