"""The dry run's numbers."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.config import ConfigError, load_config
from beholder.errors import UserError
from beholder.media.storage import StorageError
from beholder.training.config import TrainConfig
from beholder.training.plan import describe_run, memory_by_stage


def test_memory_follows_zero_section_3() -> None:
    """The paper's own example: 7.5 B parameters on 64 GPUs take 120, 31.4, 16.6 and 1.9 GB."""
    table = memory_by_stage(int(7.5e9), int(7.5e9), 64, bfloat16=True)
    totals = [table[stage].total / 1e9 for stage in range(4)]
    assert totals == pytest.approx([120, 31.4, 16.6, 1.88], rel=0.01)


def test_frozen_parameters_take_only_weights() -> None:
    table = memory_by_stage(100, 10, 2, bfloat16=False)
    assert table[0] == (400, 40, 80)
    assert table[3] == (200, 20, 40)


def test_the_paper_run_is_described_without_weights_or_gpu(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(TrainConfig, project / "configs/train/onealign.yaml")
    text = describe_run(config)
    assert "8,197,859,328" in text
    assert "287,649 rows x 2 epochs / 256" in text
    assert "2,248 optimizer steps" in text
    assert "ZeRO 3      1.91       1.91      11.45   15.27  <- this config" in text
    assert "learning_rate: 2.0e-05" in text


def test_a_set_that_can_not_be_counted_is_named(project: Path) -> None:
    path = project / "configs/train/onealign.yaml"
    config = load_config(
        TrainConfig, path, ["sets.0.rows=null", "sets.0.manifest=/nowhere.parquet"]
    )
    with pytest.raises(StorageError, match=r"/nowhere\.parquet"):
        describe_run(config)


def test_what_training_would_refuse_the_dry_run_refuses(project: Path, tmp_path: Path) -> None:
    columns = {"item_id": ["a", "b"], "uri": ["a", "b"], "kind": ["image"] * 2, "mos": [1.0, 2.0]}
    manifest = tmp_path / "set.parquet"
    pq.write_table(pa.table(columns | {"split": ["train", "train"]}), manifest)
    path = project / "configs/train/onealign.yaml"
    sets = [f"sets.0.manifest={manifest}", "sets.0.range=declared", "sets.0.scale=[2, 5]"]
    with pytest.raises(ConfigError, match=r"expects \d+ training rows and .*set.parquet has 2"):
        describe_run(load_config(TrainConfig, path, sets))
    pq.write_table(pa.table(columns | {"split": ["train", "val"]}), manifest)
    with pytest.raises(UserError, match=r"item 'a' of .* has mos 1, outside its declared scale"):
        describe_run(load_config(TrainConfig, path, [*sets, "sets.0.rows=1"]))
    pq.write_table(pa.table(columns | {"split": ["train", "train"]}), manifest)
    with pytest.raises(ConfigError, match="no row in split 'val'"):
        describe_run(load_config(TrainConfig, path, [*sets, "sets.0.rows=null"]))


def test_settings_that_the_model_does_not_have(project: Path) -> None:
    path = project / "configs/train/onealign_pocket.yaml"
    unread = [f"sets.{i}.{key}" for i in range(3) for key in ("rows=10", "manifest=/nowhere")]
    config = load_config(TrainConfig, path, [*unread, "backbone.settings.colour=red"])
    with pytest.raises(UserError, match=r"backbone\.settings: .*colour"):
        describe_run(config)


def _own_set(folder: Path, name: str, train: int, **columns: list) -> list[dict]:
    """A set of so many training rows, two to select by and two to test, alone in a list."""
    count = train + 4
    table = {
        "item_id": [f"{name}{i}" for i in range(count)],
        "uri": [f"uri {i}" for i in range(count)],
        "kind": ["image"] * count,
        "mos": [1 + 4 * i / (count - 1) for i in range(count)],
        "split": ["train"] * train + ["val"] * 2 + ["test"] * 2,
    } | columns
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(table), path)
    scale = {"manifest": str(path), "task": "quality", "scale": [1, 5]}
    return [{"name": name, **scale}]


def _mix_lines(project: Path, sets: list[dict], *overrides: str) -> tuple[dict[str, str], str]:
    """The dry run's line of each set, and all its text."""
    path = project / "configs/train/onealign_pocket.yaml"
    own = [f"sets={json.dumps(sets)}", "evaluate=[mos]", *overrides]
    text = describe_run(load_config(TrainConfig, path, own))
    mix = text.split("# data mix\n")[1].split("\n\n")[0].splitlines()
    return {line.split()[0]: line for line in mix}, text


def test_a_set_without_test_rows_says_so(project: Path, tmp_path: Path) -> None:
    sets = _own_set(tmp_path, "a", 8, split=["train"] * 8 + ["val"] * 4)
    lines, _ = _mix_lines(project, [*sets, *_own_set(tmp_path, "b", 8)])
    assert "counted; no row in split 'test': it is not measured" in lines["a"]
    assert lines["b"].endswith("counted")


def test_shares_show_as_parts_of_an_epoch(project: Path, tmp_path: Path) -> None:
    sets = [*_own_set(tmp_path, "a", 90), *_own_set(tmp_path, "b", 10)]
    lines, _ = _mix_lines(project, sets)
    assert "90 rows  90.0%" in lines["a"]
    shared = [one | {"share": share} for one, share in zip(sets, (1, 3), strict=True)]
    lines, text = _mix_lines(project, shared, "mixing=weighted")
    assert "90 rows  25.0%" in lines["a"]
    assert "10 rows  75.0%" in lines["b"]
    assert "100 rows x 16 epochs / 64" in text
    with pytest.raises(ConfigError, match="set b gets no place among the 100"):
        _mix_lines(project, [sets[0] | {"share": 1}, sets[1] | {"share": 1e-6}], "mixing=weighted")


def test_a_fraction_shows_whether_counted_or_expected(project: Path, tmp_path: Path) -> None:
    part = {"fraction": 0.15, "fraction_seed": 2}
    (read,) = _own_set(tmp_path, "a", 90)
    unread = read | part | {"name": "b", "manifest": "/nowhere.parquet", "rows": 90}
    lines, text = _mix_lines(project, [read | part | {"rows": 90}, unread])
    assert "14 rows  50.0%  0.15 of all by seed 2, counted" in lines["a"]
    assert "14 rows  50.0%  0.15 of all by seed 2, expected, not read: /nowhere" in lines["b"]
    assert "28 rows x 16 epochs / 64" in text


def test_pairs_are_counted_as_they_are_dealt(project: Path, tmp_path: Path) -> None:
    """64 rows of two odd sets are 66 places: a third step of 32."""
    sets = [*_own_set(tmp_path, "a", 33), *_own_set(tmp_path, "b", 31)]
    pairs = [
        "objective.fidelity=1",
        "objective.binary=true",
        "schedule.epochs=1",
        "schedule.global_batch=32",
        "schedule.micro_batch=16",
    ]
    assert "3 optimizer steps" in _mix_lines(project, sets, *pairs)[1]
    pairs[0] = "objective.fidelity=0"
    assert "2 optimizer steps" in _mix_lines(project, sets, *pairs)[1]


def test_start_weights_that_are_not_there_are_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    path = project / "configs/train/onealign.yaml"
    gone = load_config(TrainConfig, path, [f"backbone.weights={tmp_path}/nowhere"])
    with pytest.raises(ConfigError, match=r"backbone\.weights .*nowhere has no config\.json"):
        describe_run(gone)
    out_of_reach = describe_run(load_config(TrainConfig, path))
    assert (
        "weights not looked at, words not checked: s3://YOUR-BUCKET/weights/mplug-owl2/config.json"
        in out_of_reach
    )


def _weights_with(folder: Path, tokenizer: str) -> str:
    """Where start weights would be of which the dry run needs two files."""
    (folder / "config.json").write_text('{"model_type": "pocket"}')
    (folder / "tokenizer.json").write_text(tokenizer)
    return f"backbone.weights={folder}"


def test_words_are_checked_with_the_tokenizer_of_the_start_weights(
    project: Path, tmp_path: Path
) -> None:
    path = project / "configs/train/onealign_pocket.yaml"
    unread = [f"sets.{i}.{key}" for i in range(3) for key in ("rows=10", "manifest=/nowhere")]
    weights = _weights_with(tmp_path, default_tokenizer())

    def described(*overrides: str) -> str:
        return describe_run(load_config(TrainConfig, path, [*unread, *overrides]))

    checked = "words bad, poor, fair, good, excellent: one token each"
    assert f"weights of its own; {checked}" in described()
    assert f"weights {tmp_path}; {checked}" in described(weights)
    split = [weights, "readout.words=[bad, flabbergasting]"]
    sentence = rf"splits the word 'flabbergasting' into \d+ tokens.*\({tmp_path}/tokenizer\.json\)"
    with pytest.raises(ConfigError, match=sentence):
        described(*split)
    assert "flabbergasting" not in default_tokenizer()
    tokens = described(weights, "readout={name: score_tokens}", "objective.smooth_l1=1")
    assert "[IMG0], [IMG1]" in tokens
    assert "words 0, 1, 2, 3" in described(weights, "readout={name: digits}")


def test_a_scale_far_too_wide_is_asked_about(project: Path, tmp_path: Path) -> None:
    count = 20
    narrow = [1 + 4 * n / (count + 3) for n in range(count + 4)]
    (one,) = _own_set(tmp_path, "a", count, mos=narrow)
    lines, _ = _mix_lines(project, [one | {"scale": [0, 100]}])
    asked = "counted; nearly all mos lie in [1.04, 4.62], 4% of its scale [0, 100]: is it the"
    assert asked in lines["a"]
    assert _mix_lines(project, [one])[0]["a"].endswith("counted")


def test_a_named_range_shows_as_numbers(project: Path, tmp_path: Path) -> None:
    (one,) = _own_set(tmp_path, "a", 8, mos=[2.0, 3.0, 4.0] * 4)
    del one["scale"]
    _, text = _mix_lines(project, [one | {"range": "min_max"}])
    resolved = yaml.safe_load(text.split("# data mix")[0])["sets"][0]
    assert (resolved["scale"], resolved["range"]) == ([2.0, 4.0], "declared")
    unread = one | {"range": "trimmed", "manifest": "/nowhere.parquet", "rows": 90}
    lines, _ = _mix_lines(project, [unread])
    assert "expected, not read: /nowhere" in lines["a"]
