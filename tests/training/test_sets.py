"""What a run's manifests are checked for before anything starts, and the few that are learned."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
from beholder.training.set_config import SetConfig
from beholder.training.sets import load_set, look_for_media, with_ranges

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


@pytest.mark.parametrize("second", ["./i3", "x/../i3", "i3"])
def test_one_path_written_in_two_ways_is_one_medium(
    project: Path, tmp_path: Path, second: str
) -> None:
    uris = [f"i{i}" for i in range(ROWS)]
    uris[7] = second
    with pytest.raises(ConfigError, match=r"items 'i3' and 'i7' of .* are one medium, "):
        loaded(project, manifest(tmp_path, uri=uris))
    stored = [f"s3://bucket/i{i}" for i in range(ROWS)]
    stored[7] = "s3://bucket/./i3"  # a key of its own
    assert loaded(project, manifest(tmp_path, uri=stored)).num_rows == ROWS


def test_a_set_of_which_nothing_would_be_learned_is_refused(project: Path, tmp_path: Path) -> None:
    weights: list[float | None] = [0.0 if i % 4 > 1 else 1.0 for i in range(ROWS)]
    with pytest.raises(ConfigError, match=r"all its training rows in .* have weight 0"):
        loaded(project, manifest(tmp_path, weight=weights))
    weights[2] = None  # which is 1
    loaded(project, manifest(tmp_path, weight=weights))


def test_the_item_is_named_whose_votes_cannot_be_used(project: Path, tmp_path: Path) -> None:
    """Of the learned rows the fifth and the ninth are wrong: the first of them is named."""
    base = project / "configs/train/roc_pocket.yaml"
    votes = [[1] * 5] * ROWS
    for wrong, said in (([0] * 5, "no votes at all"), ([9, 0, 0, 0, 0], "their mean at 0%")):
        some = list(votes)
        some[6] = some[10] = wrong
        path = manifest(tmp_path, mos=[3.0] * ROWS, votes=pa.array(some, pa.list_(pa.int32())))
        own = [f"sets.0.manifest={path}", "evaluate=[mos]", "objective.vote_ce=1"]
        config = load_config(TrainConfig, base, own)
        with pytest.raises(ConfigError, match=rf"item 'i6' of .*set\.parquet: .*{said}"):
            load_set(config.sets[0], config)


MANY = 4000


def _ranged(
    project: Path, folder: Path, mos: np.ndarray, split: list[str], *overrides: str
) -> SetConfig:
    count = len(mos)
    names = [f"i{i}" for i in range(count)]
    columns = {"item_id": names, "uri": names, "kind": ["image"] * count, "mos": mos}
    pq.write_table(pa.table(columns | {"split": split}), folder / "many.parquet")
    own = [f"sets.0.manifest={folder}/many.parquet", "evaluate=[mos]", "sets.0.scale=null"]
    base = project / "configs/train/onealign_pocket.yaml"
    config = load_config(TrainConfig, base, [*own, *overrides])
    return with_ranges(config).sets[0]


def test_ranges_by_name_are_those_of_the_rule(project: Path, tmp_path: Path) -> None:
    """Over 4,000 rows a thousandth at each end is four; over the 2,000 of train, two."""
    rng = np.random.default_rng(0)
    mos = rng.permutation(np.arange(MANY)) / 40
    split = [("train", "test", "val", "train")[i % 4] for i in range(MANY)]
    train = np.sort([m for m, s in zip(mos, split, strict=True) if s == "train"])
    rules = {
        "min_max": (0, 99.975),
        "trimmed": (0.1, 99.9),
    }
    for rule, bounds in rules.items():
        some = _ranged(project, tmp_path, mos, split, f"sets.0.range={rule}")
        assert some.scale == pytest.approx(bounds)
        over = [f"sets.0.range={rule}", "sets.0.range_over=train"]
        some = _ranged(project, tmp_path, mos, split, *over)
        cut = 2 if rule == "trimmed" else 0
        assert some.scale == (train[cut], train[-max(cut, 1)])
        config = load_config(
            TrainConfig,
            project / "configs/train/onealign_pocket.yaml",
            ["evaluate=[mos]", f"sets.0={some.model_dump_json()}"],
        )
        if rule == "trimmed":
            kept = load_set(config.sets[0], config).table
            learned = kept.filter(pc.equal(kept["split"], "train"))["mos"].to_numpy()
            assert (learned.min(), learned.max()) == (train[2], train[-3])  # [m, M)
            assert kept["split"].to_pylist().count("test") == MANY // 4


def test_a_range_is_taken_over_rows_that_are_left_out_too(project: Path, tmp_path: Path) -> None:
    """DeQA-Score's KonIQ: Q-Align's rows, the range of all."""
    mos = np.linspace(2, 4, ROWS)
    split = ["train", "val"] * (ROWS // 2)
    within = ["sets.0.range=min_max", "sets.0.within={mos: [3, 4]}"]
    some = _ranged(project, tmp_path, mos, split, *within)
    assert some.scale == (2, 4)
    assert some.within == {"mos": (3, 4)}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sets.0.scale=null"], "set quality has no scale: give .* or range min_max or trimmed"),
        (["sets.0.range=min_max"], r"scale \[1\.0, 5\.0\] and range min_max are two ranges"),
        (["sets.0.range_over=train"], "range_over train is about range min_max and trimmed"),
        (
            ["sets.0.scale=null", "sets.0.range=trimmed", "sets.0.within={mos: [1, 4]}"],
            "range trimmed says which mos are left out, and so does within.mos",
        ),
    ],
)
def test_one_range_a_set(project: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml", overrides)


def test_mos_without_a_range_are_refused(project: Path, tmp_path: Path) -> None:
    split = ["train", "val"] * (ROWS // 2)
    with pytest.raises(ConfigError, match=r"range min_max of .*: all 40 mos are 3, which has no"):
        _ranged(project, tmp_path, np.full(ROWS, 3.0), split, "sets.0.range=min_max")
