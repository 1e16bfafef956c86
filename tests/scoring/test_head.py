"""A scorer whose readout has a trained head: kept, hashed, asked for, and its points."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from beholder.items import FailureCode
from beholder.opinions import Point
from beholder.ranking import gather, probability_matrix, rank
from beholder.readouts import HEAD_FILE, RegressionReadout
from beholder.scoring import Scorer, ScorerError
from beholder.scoring.fingerprint import weights_hash


@pytest.fixture(scope="module")
def scorer(small_scorer: Scorer) -> Scorer:
    readout = RegressionReadout()
    head = readout.head(small_scorer.backbone.spec.hidden_size, 3)
    return Scorer(small_scorer.backbone, readout, small_scorer.tasks, "unanswered", head=head)


@pytest.fixture
def folder(scorer: Scorer, tmp_path: Path) -> Path:
    scorer.save(tmp_path / "scorer")
    return tmp_path / "scorer"


def _means(scorer: Scorer, items: list, task: str = "quality") -> list[float]:
    return [float(score.tasks[task].mean) for score in scorer.score(items)]


def test_a_saved_scorer_scores_bit_for_bit_the_same(
    scorer: Scorer, folder: Path, photos: dict[str, bytes]
) -> None:
    again = Scorer.load(folder)
    assert again.fingerprint == scorer.fingerprint
    items = list(photos.values())
    assert _means(again, items) == _means(scorer, items)
    assert len(set(_means(scorer, items))) == len(items)
    # The model's own file is a backbone's and nothing else.
    assert load_file(folder / "model.safetensors").keys() == scorer.backbone.state_dict().keys()


def test_batch_order_and_padding_do_not_matter(scorer: Scorer, photos: dict[str, bytes]) -> None:
    frames = [Image.fromarray(np.full((96, 96, 3), value, np.uint8)) for value in (30, 200)]
    items = [photos["coffee"], frames, photos["rocket"]]
    together = _means(scorer, items)
    alone = [_means(scorer, [item])[0] for item in items]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, _means(scorer, items[::-1])[::-1], atol=1e-5)


def test_one_weight_of_the_head_moves_the_fingerprint(scorer: Scorer, folder: Path) -> None:
    weights = load_file(folder / HEAD_FILE)
    weights["weight"][0, 5] = weights["weight"][0, 5].nextafter(torch.tensor(2.0))
    save_file(weights, folder / HEAD_FILE)
    with pytest.raises(ScorerError, match=r"says fingerprint .*fetch it again"):
        Scorer.load(folder)
    assert scorer.head is not None
    assert weights_hash(weights) != weights_hash(scorer.head.state_dict())


def test_a_scorer_without_a_head_keeps_none(small_scorer: Scorer, tmp_path: Path) -> None:
    small_scorer.save(tmp_path)
    assert not (tmp_path / HEAD_FILE).exists()
    assert small_scorer.head is None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda file: file.unlink(), f"has no {HEAD_FILE}"),
        (lambda file: file.write_bytes(b"?"), f"{HEAD_FILE}' is damaged"),
    ],
)
def test_a_folder_without_its_head_is_refused(folder: Path, spoil, sentence: str) -> None:
    spoil(folder / HEAD_FILE)
    with pytest.raises(ScorerError, match=sentence):
        Scorer.load(folder)


def test_a_readout_with_a_head_asks_for_it(small_scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="'regression' reads through a head that is trained"):
        Scorer(small_scorer.backbone, RegressionReadout(), small_scorer.tasks, "unanswered")


def test_points_are_ordered_by_mean_and_refuse_the_rest(
    scorer: Scorer, photos: dict[str, bytes]
) -> None:
    scores = scorer.score(list(photos.values()))
    assert all(isinstance(score.tasks["quality"], Point) for score in scores)
    assert all(score.mass == {} for score in scores)
    ranking = rank(scores, "quality")
    assert (np.diff(ranking.values) < 0).all()
    for rule in ("lower_bound", "expected_rank"):
        sentence = rf"'{rule}' needs a spread and row 0 is a point .*order by mean"
        with pytest.raises(ValueError, match=sentence):
            rank(scores, "quality", rule)
    with pytest.raises(ValueError, match=r"P\(A > B\) needs a spread"):
        probability_matrix(gather(scores, "quality").stack())
    first, second, *_ = scores
    with pytest.raises(ValueError, match=r"a regression head has no spread.*P\(A > B\)"):
        first.tasks["quality"].probability_above(second.tasks["quality"])


def test_a_video_is_the_mean_of_its_clips_by_duration(scorer: Scorer) -> None:
    dark, light = (Image.fromarray(np.full((96, 96, 3), v, np.uint8)) for v in (30, 200))
    (score,) = scorer.score([[dark] * 30 + [light] * 10], ["quality"])
    clips = [float(clip.mean) for clip in score.clips["quality"]]
    assert len(clips) == 2 and clips[0] != clips[1]
    assert float(score.tasks["quality"].mean) == pytest.approx(0.75 * clips[0] + 0.25 * clips[1])


def test_a_value_that_is_not_finite_is_a_failure(folder: Path, photos: dict[str, bytes]) -> None:
    broken = Scorer.load(folder)
    assert broken.head is not None
    broken.head.bias.data[0] = torch.nan  # type: ignore[union-attr, operator]
    (score,) = broken.score([photos["coffee"]])
    assert score.failure is not None
    assert score.failure.code is FailureCode.MODEL_NAN
