"""An adapter's scorer is the merged one, at the memory of its adapted layers."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from beholder.local_stack import ObjectStore
from beholder.media.storage import copy_tree
from beholder.readouts import make_readout
from beholder.scoring import Scorer, ScorerError, TaskSpec, check_base, load_adapter
from beholder.scoring.adapter import DOWN, FACTORS, UP, merged, save_adapter

TASKS = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
SCALING = 2.0


def tuned(base: Scorer, seed: int) -> tuple[Scorer, dict[str, Tensor]]:
    """What a training over the base's weights might have made, and its factors."""
    torch.manual_seed(seed)
    backbone = copy.deepcopy(base.backbone)
    state = backbone.state_dict()
    names = [name for name in state if name.endswith("attention.query.weight")]
    assert names
    factors = {}
    for name in names:
        factors[name + DOWN] = torch.randn(2, state[name].shape[1])
        factors[name + UP] = torch.randn(state[name].shape[0], 2)
        state[name] = merged(state[name], factors[name + DOWN], factors[name + UP], SCALING)
    moved = "abstractor.stages.0.weight"  # trained whole
    state[moved] = state[moved] + 0.1
    backbone.load_state_dict(state)
    return Scorer(backbone, base.readout, TASKS, base.prompt), factors


def written(base: Scorer, seed: int, folder: Path) -> Scorer:
    scorer, factors = tuned(base, seed)
    save_adapter(scorer, base.backbone.state_dict(), factors, SCALING, folder)
    return scorer


def probs(scorer: Scorer, photos: dict[str, bytes]) -> list[list[float]]:
    return [score.tasks["quality"].probs.tolist() for score in scorer.score(photos.values())]


def test_it_scores_as_the_merged_one(
    small_scorer: Scorer, photos: dict[str, bytes], tmp_path: Path
) -> None:
    before = probs(small_scorer, photos)
    whole = [written(small_scorer, seed, tmp_path / str(seed)) for seed in (0, 1)]
    loaded = [load_adapter(small_scorer, str(tmp_path / str(seed))) for seed in (0, 1)]
    assert [s.fingerprint for s in loaded] == [s.fingerprint for s in whole]
    assert [probs(s, photos) for s in loaded] == [probs(s, photos) for s in whole]
    assert probs(small_scorer, photos) == before != probs(loaded[0], photos)
    assert probs(loaded[0], photos) != probs(loaded[1], photos)


def test_it_holds_what_it_adds(small_scorer: Scorer, tmp_path: Path) -> None:
    scorer, factors = tuned(small_scorer, 0)
    save_adapter(scorer, small_scorer.backbone.state_dict(), factors, SCALING, tmp_path)
    assert load_file(tmp_path / FACTORS).keys() == {*factors, "abstractor.stages.0.weight"}
    shared = small_scorer.backbone.state_dict()
    for name, tensor in load_adapter(small_scorer, str(tmp_path)).backbone.state_dict().items():
        own = name + DOWN in factors or name == "abstractor.stages.0.weight"
        assert (tensor.data_ptr() == shared[name].data_ptr()) != own, name


def test_new_tokens_come_with_it(
    small_scorer: Scorer, photos: dict[str, bytes], tmp_path: Path
) -> None:
    readout = make_readout({"name": "score_tokens", "tokens": 5, "scale": [1.0, 5.0]})
    backbone = copy.deepcopy(small_scorer.backbone)
    assert backbone.add_tokens(readout.new_tokens())
    scorer = Scorer(backbone, readout, TASKS, small_scorer.prompt)
    save_adapter(scorer, small_scorer.backbone.state_dict(), {}, SCALING, tmp_path)
    loaded = load_adapter(small_scorer, str(tmp_path))
    assert loaded.fingerprint == scorer.fingerprint
    assert probs(loaded, photos) == probs(scorer, photos)


def test_it_goes_over_its_own_base_alone(small_scorer: Scorer, tmp_path: Path) -> None:
    written(small_scorer, 0, tmp_path)
    other, _ = tuned(small_scorer, 1)
    with pytest.raises(
        ScorerError, match=f"other weights than those of scorer {other.fingerprint}"
    ):
        load_adapter(other, str(tmp_path))


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_another_base_is_told_without_its_weights(
    small_scorer: Scorer, s3: ObjectStore, tmp_path: Path, where: str
) -> None:
    written(small_scorer, 0, tmp_path / "adapter")
    small_scorer.save(tmp_path / "base")
    other, _ = tuned(small_scorer, 1)
    other.save(tmp_path / "other")
    # The same but for what the adapter replaces whole.
    alike = copy.deepcopy(small_scorer.backbone)
    alike.state_dict()["abstractor.stages.0.weight"] += 1
    Scorer(alike, small_scorer.readout, TASKS, small_scorer.prompt).save(tmp_path / "alike")
    root = str(tmp_path)
    if where == "s3":
        root = f"s3://{s3.bucket}/bases"
        copy_tree(tmp_path, root)
    for base in ("base", "alike"):
        check_base(f"{root}/adapter/", f"{root}/{base}/", "base")
    with pytest.raises(ScorerError, match=r"adapter: it was trained over other .* scorer other:"):
        check_base(f"{root}/adapter", f"{root}/other", "other")


def test_an_adapter_without_heads_and_a_damaged_base(small_scorer: Scorer, tmp_path: Path) -> None:
    written(small_scorer, 0, tmp_path / "adapter")
    small_scorer.save(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(ScorerError, match=r"base/model.safetensors' is damaged, copy it again"):
        check_base(str(tmp_path / "adapter"), str(tmp_path / "base"), "base")
    file = tmp_path / "adapter" / "adapter.json"
    told = json.loads(file.read_text())
    del told["heads"]
    file.write_text(json.dumps(told))
    check_base(str(tmp_path / "adapter"), str(tmp_path / "base"), "base")
    assert load_adapter(small_scorer, str(tmp_path / "adapter")), "it is told by all weights"


def test_what_is_not_whole_is_refused(small_scorer: Scorer, tmp_path: Path) -> None:
    written(small_scorer, 0, tmp_path)
    with pytest.raises(ScorerError, match="is an adapter: load the scorer that it was trained"):
        Scorer.load(tmp_path)
    tensors = load_file(tmp_path / FACTORS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / FACTORS)
    with pytest.raises(ScorerError, match="it was changed after it was made, fetch it again"):
        load_adapter(small_scorer, str(tmp_path))
    (tmp_path / FACTORS).unlink()
    with pytest.raises(ScorerError, match="is not whole, fetch it again"):
        load_adapter(small_scorer, str(tmp_path))
    small_scorer.save(tmp_path / "whole")
    with pytest.raises(ScorerError, match=r"has no adapter\.json: it is no adapter"):
        load_adapter(small_scorer, str(tmp_path / "whole"))


def test_of_object_storage(small_scorer: Scorer, s3: ObjectStore, tmp_path: Path) -> None:
    scorer = written(small_scorer, 0, tmp_path)
    uri = f"s3://{s3.bucket}/adapters/one"
    copy_tree(tmp_path, uri)
    assert load_adapter(small_scorer, uri).fingerprint == scorer.fingerprint
