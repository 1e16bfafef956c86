"""What a run's manifests are checked for before anything starts, and the few that are learned."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.config import ConfigError, load_config
from beholder.datasets import few_shot
from beholder.errors import UserError
from beholder.opinions import Density, Form, Scale, soft_labels
from beholder.readouts import make_readout
from beholder.training.config import TrainConfig
from beholder.training.feed import Opinion, labels_of
from beholder.training.plan import training_rows
from beholder.training.run import train
from beholder.training.sets import load_set, look_for_media

ROWS = 40


def manifest(folder: Path, **changes: list) -> Path:
    columns = {
        "item_id": [f"i{i}" for i in range(ROWS)],
        "uri": [f"i{i}" for i in range(ROWS)],
        "kind": ["image"] * ROWS,
        "mos": [1 + i % 5 for i in range(ROWS)],
        "split": [{0: "val", 1: "test"}.get(i % 4, "train") for i in range(ROWS)],
        "source": ["lion"] * ROWS,
    }
    path = folder / "set.parquet"
    pq.write_table(pa.table(columns | changes), path)
    return path


def loaded(project: Path, path: Path, *overrides: str) -> pa.Table:
    own = [f"sets.0.manifest={path}", "evaluate=[mos]"]
    base = project / "configs/train/onealign_pocket.yaml"
    config = load_config(TrainConfig, base, [*own, *overrides])
    return load_set(config.sets[0], config).table


def test_a_split_that_is_none_is_named(project: Path, tmp_path: Path) -> None:
    split = ["train", "val", "trian", "test"] * (ROWS // 4)
    sentence = r"item 'i2' of .*set\.parquet is in split 'trian': use train, val, test"
    with pytest.raises(ConfigError, match=sentence):
        loaded(project, manifest(tmp_path, split=split))


def test_text_to_be_measured_against_is_named_with_its_type(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column 'source', which holds string in .*set\.parquet"):
        loaded(project, manifest(tmp_path), "evaluate=[mos, source]")
    counted = manifest(tmp_path, latent=list(range(ROWS)))
    loaded(project, counted, "evaluate=[mos, latent]")


@pytest.mark.parametrize(
    ("column", "value"), [("std", -0.5), ("std", 15.0), ("weight", -1.0), ("weight", float("nan"))]
)
def test_a_spread_or_weight_that_is_none_is_named_in_any_split(
    column: str, value: float, project: Path, tmp_path: Path
) -> None:
    values = [0.5] * ROWS
    values[1] = value  # a test row: only the end of the run would look at it
    with pytest.raises(ConfigError, match=rf"item 'i1' of .*set\.parquet has {column} {value:g}: "):
        loaded(project, manifest(tmp_path, **{column: values}))
    values[1] = None
    loaded(project, manifest(tmp_path, **{column: values}))


def test_a_medium_that_is_rated_twice_is_named(project: Path, tmp_path: Path) -> None:
    uris = [f"i{i}" for i in range(ROWS)]
    uris[7] = uris[3]
    with pytest.raises(ConfigError, match=r"items 'i3' and 'i7' of .* are one medium, i3: keep"):
        loaded(project, manifest(tmp_path, uri=uris))


def test_a_fraction_is_few_shots_and_leaves_other_splits(project: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path)
    everything = loaded(project, path)
    few = loaded(project, path, "sets.0.fraction=0.3", "sets.0.fraction_seed=5")
    assert few.equals(few_shot(everything, 0.3, 5))
    counts = [few["split"].to_pylist().count(split) for split in ("train", "val", "test")]
    assert counts == [6, 10, 10]
    other = loaded(project, path, "sets.0.fraction=0.3", "sets.0.fraction_seed=6")
    assert few["item_id"].to_pylist() != other["item_id"].to_pylist()


def test_rows_are_expected_before_a_fraction_is_taken(project: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path)
    assert loaded(project, path, "sets.0.rows=20", "sets.0.fraction=0.1").num_rows == 2 + 20
    with pytest.raises(ConfigError, match=r"expects 2 training rows and .* has 20"):
        loaded(project, path, "sets.0.rows=2", "sets.0.fraction=0.1")


def test_pairs_need_two_of_the_few(project: Path, tmp_path: Path) -> None:
    pairs = ["sets.0.assume_std=true", "objective.fidelity=1", "sets.0.fraction=0.01"]
    with pytest.raises(ConfigError, match="set quality has one training row"):
        loaded(project, manifest(tmp_path), *pairs)


def test_a_share_that_is_no_place_is_refused_before_anything_starts(
    project: Path, tmp_path: Path
) -> None:
    one = {"manifest": str(manifest(tmp_path)), "task": "quality", "scale": [1, 5]}
    sets = [one | {"name": "a", "share": 1}, one | {"name": "b", "share": 1e-6}]
    own = [f"sets={json.dumps(sets)}", "mixing=weighted", "evaluate=[mos]"]
    base = project / "configs/train/onealign_pocket.yaml"
    config = load_config(TrainConfig, base, [*own, f"storage={tmp_path}/runs"])
    with pytest.raises(ConfigError, match="set b gets no place among the 40 of an epoch"):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_rows_outside_of_what_a_set_takes_are_left_out_but_for_test(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latent = [float(i) for i in range(ROWS)]  # test rows are 1, 5, 9, ..
    path = manifest(tmp_path, latent=latent)
    caplog.set_level("INFO", logger="beholder")
    within = ["sets.0.within={latent: [4, 36], mos: [1, 5]}", "sets.0.rows=13"]
    found = loaded(project, path, *within)
    kept = dict(zip(found["latent"].to_pylist(), found["split"].to_pylist(), strict=True))
    assert {n for n, split in kept.items() if split == "test"} == set(range(1, ROWS, 4))
    others = [n for n in range(4, 36) if n % 4 != 1 and 1 + n % 5 < 5]  # from, and below
    assert [n for n, split in kept.items() if split != "test"] == others
    (record,) = [r for r in caplog.records if r.message == "rows.left_out"]
    assert record.fields == {"set": "quality", "rows": 30 - len(others)}


@pytest.mark.parametrize(
    ("within", "sentence"),
    [
        ("{source: [1, 2]}", r"within names column 'source', which holds string in .*set\.parquet"),
        ("{z: [1, 2]}", r"set\.parquet has no column 'z'"),
        ("{mos: [2, 2]}", r"within mos \[2, 2\] holds nothing: give \[from, below\]"),
        ("{mos: [7, 8]}", "has no row in split 'train'"),
    ],
)
def test_bounds_that_mean_nothing_are_named(
    project: Path, tmp_path: Path, within: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        loaded(project, manifest(tmp_path), f"sets.0.within={within}")


def test_test_rows_may_lie_outside_the_scale(project: Path, tmp_path: Path) -> None:
    """KonIQ's do: levels are cut over the range of what is learned, errors are on their own."""
    own = [f"sets.0.manifest={manifest(tmp_path, mos=[3, 1, 4, 3] * (ROWS // 4))}"]
    base = project / "configs/train/onealign_pocket.yaml"
    config = load_config(TrainConfig, base, [*own, "evaluate=[mos]", "sets.0.scale=[3, 4]"])
    assert training_rows(config.sets[0], config) == (20, "counted")


def test_a_set_has_a_density_of_its_own(project: Path) -> None:
    """DeQA-Score's release: SPAQ's labels by mass, the others' by density."""
    base = project / "configs/train/deqa_pocket.yaml"
    config = load_config(TrainConfig, base, ["sets.1.density=cdf", "readout.form=released"])
    readouts = {s.name: make_readout(config.readout.for_set(s)) for s in config.sets}
    rows = [
        Opinion("image", "quality", 3.8, Scale(1, 5), name, 1.0, 0.6, n)
        for n, name in enumerate(readouts)
    ]
    targets, _ = labels_of(rows, readouts, votes=False)
    by = {
        density: soft_labels([3.8], [0.6], density=density, form=Form.RELEASED).probs[0]
        for density in Density
    }
    assert targets.tolist() == [by["pdf"].tolist(), by["cdf"].tolist(), by["pdf"].tolist()]
    assert abs(by["pdf"] - by["cdf"]).max() > 0.01
    with pytest.raises(ConfigError, match="set quality: density cdf is about soft labels"):
        load_config(
            TrainConfig, project / "configs/train/onealign_pocket.yaml", ["sets.0.density=cdf"]
        )


def test_media_that_are_not_there_are_named_before_anything_starts(
    project: Path, tmp_path: Path
) -> None:
    uris = [str(tmp_path / f"{i}.jpg") for i in range(ROWS)]
    for uri in uris:
        Path(uri).write_bytes(b"")
    own = [f"sets.0.manifest={manifest(tmp_path, uri=uris)}", "evaluate=[mos]"]
    config = load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml", own)
    mix = load_set(config.sets[0], config).table
    look_for_media(mix, config)
    for uri in uris[:3]:
        Path(uri).unlink()
    with pytest.raises(UserError, match=r"media of 3 of 40 rows .* the first with '.*jpg does not"):
        look_for_media(mix, config)
