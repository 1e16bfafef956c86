"""What public labels become as level words and soft labels, by the settings of two papers.

Q-Align, section 3.2.1 and Table 2; DeQA-Score, sections 3.2 and B.1, Tables 1, 2 and A1. Where a
paper and what its authors released differ, the settings are those that give the paper's figures;
:mod:`beholder.evaluation.paper_figures` holds the figures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.config import JobConfig
from beholder.datasets.public import LabelError
from beholder.evaluation import paper_labels
from beholder.evaluation.correlations import mae, plcc, rmse, srcc
from beholder.evaluation.paper_figures import DEQA_1, DEQA_2, DEQA_A1, Q_ALIGN, RELEASED, Key
from beholder.evaluation.paper_labels import Array, Opinions
from beholder.opinions import (
    LEVEL_WORDS,
    Density,
    Form,
    Levels,
    RangeRule,
    Scale,
    gaussian_w2,
    midpoint_js,
    normalise_mos,
    normalise_std,
    recovered,
    score_range,
    soft_labels,
    trimmed_range,
    vote_distribution,
)

Got = dict[Key, float]
"""Values by table and row."""

SPAQ_STEP = 94 / 5
"""A level of the released SPAQ words, whose range is [0, 94]."""

KADID_TEST = Scale(0, 4.93)
"""The range of the released words of KADID's test split."""


class PaperTablesConfig(JobConfig):
    """Compares published labels with the figures that two papers print about them."""

    labels: str
    """folder with the label files"""


def measure(folder: Path) -> Got:
    """Our value of every figure.

    Args:
        folder: of the label files.

    Raises:
        LabelError: a file is missing, has other columns, or holds labels that have no figures,
            such as scores that are all equal.
    """
    paper_labels.require_files(folder)
    got: Got = {}
    for name, measured in _SETS.items():
        try:
            got |= measured(folder)
        except LabelError:
            raise
        except ValueError as error:
            raise LabelError(
                f"the {name} labels in {folder} can't be measured, {error}: get them again"
            ) from error
    return got


def _koniq(folder: Path) -> Got:
    koniq = paper_labels.read_koniq(folder)
    scale, kept = trimmed_range(koniq.zscored)
    levels, rows = Levels(scale), kept & koniq.training
    words = paper_labels.read_words(folder, paper_labels.KONIQ_WORDS)
    raw = _some(koniq.raw, rows)
    # The range of all rows, test and dropped ones too.
    whole, _ = score_range(koniq.raw.mos, RangeRule.MIN_MAX)
    return {
        (Q_ALIGN, "KonIQ rows"): float(rows.sum()),
        **_agreement("KonIQ", levels.index(koniq.zscored[rows]), koniq.zscored[rows]),
        **_mismatches("KonIQ words", levels.index(words.scores), words.words),
        **_spread("KonIQ", raw),
        **_soft("KonIQ", raw, whole, Density.PDF, max_error=0.2),
    }


def _spaq(folder: Path) -> Got:
    spaq = paper_labels.read_spaq(folder)
    words = paper_labels.read_words(folder, paper_labels.SPAQ_WORDS)
    # Left-closed, but counted in steps: three of them are a hair above 56.4 in double precision,
    # so that the five rows of 56.4 were released as fair, which lie on the edge of good.
    index = np.searchsorted(np.arange(1, len(LEVEL_WORDS)) * SPAQ_STEP, words.scores, "right")
    split = dict(zip(words.names, words.training, strict=True))
    scale = Scale(paper_labels.SPAQ_LOWEST, paper_labels.SPAQ_HIGHEST)
    released = _some(spaq, [name in split for name in spaq.names])
    training = _some(spaq, [bool(split.get(name, False)) for name in spaq.names])
    return {
        **_agreement("SPAQ", index[words.training], words.scores[words.training]),
        **_mismatches("SPAQ words", index, words.words),
        **_spread("SPAQ", training),
        **_soft("SPAQ", released, scale, Density.CDF, max_error=0.2),
    }


def _kadid(folder: Path) -> Got:
    kadid = paper_labels.read_kadid(folder)
    words = paper_labels.read_words(folder, paper_labels.KADID_WORDS)
    train, test = words.scores[words.training], words.scores[~words.training]
    own, _ = score_range(train, RangeRule.MIN_MAX)
    whole, _ = score_range(kadid.mos, RangeRule.MIN_MAX)
    tested = [w for w, training in zip(words.words, words.training, strict=True) if not training]
    return {
        **_agreement("KADID", Levels(own).index(train), train),
        **_mismatches("KADID test words", Levels(KADID_TEST).index(test), tested),
        **_spread("KADID", kadid),
        **_soft("KADID", kadid, whole, Density.PDF, max_error=0.1),
    }


def _lsvq(folder: Path) -> Got:
    """Unlike KonIQ's, no row is dropped: the released words have those outside the range too."""
    train = paper_labels.read_lsvq(folder)
    got = _agreement("LSVQ", _trimmed_levels(train), train)
    for name, file in (("test", paper_labels.LSVQ_TEST), ("1080p", paper_labels.LSVQ_1080P)):
        words = paper_labels.read_words(folder, file)
        got |= _mismatches(f"LSVQ {name} words", _trimmed_levels(words.scores), words.words)
    return got


def _ava(folder: Path) -> Got:
    votes = paper_labels.read_ava(folder)
    mos = vote_distribution(votes, np.arange(1, votes.shape[1] + 1)).mean
    scale, kept = trimmed_range(mos)
    return _agreement("AVA", Levels(scale).index(mos[kept]), mos[kept])


_SETS: dict[str, Callable[[Path], Got]] = {
    "KonIQ": _koniq,
    "SPAQ": _spaq,
    "KADID": _kadid,
    "LSVQ": _lsvq,
    "AVA": _ava,
}


def _some(opinions: Opinions, rows: ArrayLike) -> Opinions:
    mask = np.asarray(rows, dtype=bool)
    names = [name for name, kept in zip(opinions.names, mask, strict=True) if kept]
    return Opinions(names, opinions.mos[mask], opinions.std[mask])


def _trimmed_levels(scores: Array) -> NDArray[np.int64]:
    scale, _ = trimmed_range(scores)
    return Levels(scale).index(scores)


def _agreement(name: str, index: NDArray[np.int64], scores: Array) -> Got:
    """Correlations of levels with the scores that they stand for."""
    return {
        (Q_ALIGN, f"{name} SRCC"): srcc(index, scores),
        (Q_ALIGN, f"{name} PLCC"): plcc(index, scores),
    }


def _mismatches(name: str, index: NDArray[np.int64], words: Sequence[str]) -> Got:
    """How many words there are, and how many are not the level's."""
    wrong = sum(LEVEL_WORDS[i] != word for i, word in zip(index, words, strict=True))
    return {
        (RELEASED, name): float(len(words)),
        (RELEASED, f"{name} that differ"): float(wrong),
    }


def _spread(name: str, opinions: Opinions) -> Got:
    scale, _ = score_range(opinions.mos, RangeRule.MIN_MAX)
    std = float(opinions.std.mean())
    return {
        (DEQA_A1, f"{name} rows"): float(len(opinions.mos)),
        (DEQA_A1, f"{name} range"): scale.width,
        (DEQA_A1, f"{name} mean std"): std,
        (DEQA_A1, f"{name} mean std / range"): std / scale.width,
    }


def _soft(name: str, opinions: Opinions, scale: Scale, density: Density, max_error: float) -> Got:
    """Errors of levels and of released soft labels, in levels, and the labels' adjustment."""
    mos, std = normalise_mos(opinions.mos, scale), normalise_std(opinions.std, scale)
    levels = Levels(Scale(1, len(LEVEL_WORDS))).index(mos) + 1
    labels = soft_labels(mos, std, density=density, form=Form.RELEASED, max_error=max_error)
    mean, width = recovered(labels.probs)
    dense = (std > 0) & (width > 0)  # a density: two rows of KADID have raters that all agree
    return {
        (DEQA_1, f"{name} one-hot L1"): mae(levels, mos),
        (DEQA_1, f"{name} one-hot RMSE"): rmse(levels, mos),
        (DEQA_1, f"{name} soft L1"): mae(mean, mos),
        (DEQA_1, f"{name} soft RMSE"): rmse(mean, mos),
        (DEQA_1, f"{name} soft JS"): float(
            midpoint_js(mos[dense], std[dense], mean[dense], width[dense]).mean()
        ),
        (DEQA_1, f"{name} soft W"): float(gaussian_w2(mos, std, mean, width).mean()),
        (DEQA_2, f"{name} alpha"): float(labels.alpha.mean()),
        (DEQA_2, f"{name} std of alpha"): float(labels.alpha.std()),
        (DEQA_2, f"{name} beta"): float(labels.beta.mean()),
        (DEQA_2, f"{name} std of beta"): float(labels.beta.std()),
    }
