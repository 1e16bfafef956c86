"""The golden panel: it travels with its scorer, and tells another one apart."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from beholder.local_stack import ObjectStore
from beholder.media.storage import copy_tree
from beholder.readouts import RegressionReadout
from beholder.scoring import Scorer, ScorerError, check_panel, load_scorer, outline_scorer
from beholder.scoring.panel import Panel, make_panel, read_panel


@pytest.fixture(scope="module")
def panel(small_scorer: Scorer, photos: dict[str, bytes]) -> Panel:
    media = [("image", data) for data in photos.values()]
    made = make_panel(small_scorer, [("image", b"broken"), *media], {"torch": "2"})
    assert made is not None
    return made


@pytest.fixture
def paneled(small_scorer: Scorer, panel: Panel) -> Scorer:
    scorer = copy.copy(small_scorer)
    scorer.panel = panel
    return scorer


def test_it_passes_where_it_was_made(paneled: Scorer, photos: dict[str, bytes]) -> None:
    check = check_panel(paneled)
    assert check.ok
    assert check.difference is not None
    assert check.difference < 1e-6
    assert len(paneled.panel.data) == len(photos)  # what can't be scored is not on a panel


def test_it_travels_with_the_folder_and_is_not_hashed(
    paneled: Scorer, small_scorer: Scorer, tmp_path: Path
) -> None:
    paneled.save(tmp_path)
    loaded = Scorer.load(tmp_path)
    assert loaded.panel == paneled.panel
    assert loaded.fingerprint == small_scorer.fingerprint
    assert check_panel(loaded).ok


def test_it_travels_through_object_storage(
    paneled: Scorer, s3: ObjectStore, tmp_path: Path
) -> None:
    paneled.save(tmp_path)
    uri = f"s3://{s3.bucket}/panel/scorer"
    copy_tree(tmp_path, uri)
    assert check_panel(load_scorer(uri)).ok
    assert outline_scorer(uri).file.fingerprint == paneled.fingerprint


def test_other_weights_are_told_apart(paneled: Scorer) -> None:
    """Weights that changed after the fingerprint was taken, as a wrong kernel would."""
    moved = copy.deepcopy(paneled)
    with torch.no_grad():
        for weight in moved.backbone.abstractor.parameters():
            weight.mul_(2)
    check = check_panel(moved)
    assert not check.ok
    was = paneled.score(paneled.panel.data)
    now = moved.score(paneled.panel.data)
    by_hand = max(
        float(np.abs(a.tasks[t].probs - b.tasks[t].probs).max())
        for a, b in zip(was, now, strict=True)
        for t in a.tasks
    )
    assert check.difference == pytest.approx(by_hand, abs=1e-6)
    assert check.where in check.reason


def test_a_scorer_without_one_fails_by_name(small_scorer: Scorer) -> None:
    check = check_panel(small_scorer)
    assert not check.ok
    assert "no golden panel" in check.reason


def test_another_scorers_panel_is_refused(paneled: Scorer) -> None:
    file = paneled.panel.file.model_copy(update={"fingerprint": "0" * 16})
    paneled.panel = Panel(file, paneled.panel.data)
    check = check_panel(paneled)
    assert not check.ok
    assert "0000000000000000" in check.reason


def test_a_picture_that_scores_no_more_fails(paneled: Scorer) -> None:
    paneled.panel = Panel(paneled.panel.file, (b"<svg/>", *paneled.panel.data[1:]))
    check = check_panel(paneled)
    assert not check.ok
    assert check.where == "0-image"


def test_a_damaged_panel_is_refused(paneled: Scorer, tmp_path: Path) -> None:
    paneled.save(tmp_path)
    (tmp_path / "panel" / "0-image").write_bytes(b"other")
    with pytest.raises(ScorerError, match="'0-image' is not the file that was scored"):
        Scorer.load(tmp_path)
    (tmp_path / "panel" / "panel.json").write_text("{}")
    with pytest.raises(ScorerError, match="golden panel can't be used"):
        Scorer.load(tmp_path)


def test_a_name_that_leaves_the_folder_is_refused(paneled: Scorer, tmp_path: Path) -> None:
    paneled.save(tmp_path)
    file = tmp_path / "panel" / "panel.json"
    said = json.loads(file.read_text())
    said["items"][0]["file"] = "../scorer.json"
    file.write_text(json.dumps(said))
    with pytest.raises(ScorerError, match="no plain file name"):
        read_panel(tmp_path)


def test_a_pickle_in_the_panel_is_refused(paneled: Scorer, tmp_path: Path) -> None:
    paneled.save(tmp_path)
    (tmp_path / "panel" / "weights.pkl").write_bytes(b"")
    with pytest.raises(ScorerError, match=r"panel/weights\.pkl"):
        Scorer.load(tmp_path)


def test_points_are_compared_on_their_scale(
    small_scorer: Scorer, photos: dict[str, bytes], tmp_path: Path
) -> None:
    readout = RegressionReadout()
    head = readout.head(small_scorer.backbone.spec.hidden_size, 3)
    scorer = Scorer(small_scorer.backbone, readout, small_scorer.tasks, "unanswered", head=head)
    scorer.panel = make_panel(scorer, [("image", photos["coffee"])], {})
    scorer.save(tmp_path)
    loaded = Scorer.load(tmp_path)
    assert check_panel(loaded).ok
    before = float(loaded.score([photos["coffee"]])[0].tasks["quality"].mean)
    with torch.no_grad():
        loaded.head.bias.add_(1)
    after = float(loaded.score([photos["coffee"]])[0].tasks["quality"].mean)
    check = check_panel(loaded)
    assert not check.ok
    assert check.difference >= abs(after - before) - 1e-7  # on 0..1
