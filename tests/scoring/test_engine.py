"""Scheduling: batches by frames, in order, nothing lost."""

import numpy as np

from beholder.scoring import Scorer
from beholder.scoring.engine import Clip, Engine


def _clips(*frames: int) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8), "video", ("quality",))
        for n in frames
    ]


def test_batches_hold_at_most_their_frames_and_every_clip_once(small_scorer: Scorer) -> None:
    engine = Engine(small_scorer.backbone, small_scorer.readout, "brief", max_frames=4)
    groups = list(engine.batches(_clips(1, 2, 1, 3, 9, 1, 1)))
    assert groups == [[0, 1, 2], [3], [4], [5, 6]]


def test_the_budget_changes_no_score(small_scorer: Scorer) -> None:
    clips = _clips(1, 3, 2, 1)
    means = []
    for budget in (1, 3, 100):
        engine = Engine(small_scorer.backbone, small_scorer.readout, "brief", max_frames=budget)
        means.append([float(r["quality"].distribution.mean) for r in engine.run(clips)])
    np.testing.assert_allclose(means[0], means[2], atol=1e-5)
    np.testing.assert_allclose(means[1], means[2], atol=1e-5)
