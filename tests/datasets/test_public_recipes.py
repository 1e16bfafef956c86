"""Every set of the papers' recipes, from files as its owners write them to what a run takes.

Rows are made up; ranges and what lies outside of them are the recipes' own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from beholder.config import load_config
from beholder.datasets import concatenate, few_rows
from beholder.datasets.build import BuiltManifest, ManifestConfig, build_manifest
from beholder.training.config import TrainConfig
from beholder.training.sets import load_set, rows_of, with_ranges

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(p for p in (CONFIGS / "train").rglob("*.yaml") if not p.stem.endswith("_pocket"))
COUNT = 40
"""Rows of a set, or of each of its files."""

Files = dict[str, str]


def spread(low: float, high: float) -> list[float]:
    """So many means, even over a range, the ends among them."""
    return [round(low + (high - low) * n / (COUNT - 1), 4) for n in range(COUNT)]


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def koniq() -> Files:
    """Two training rows, the first and the last, lie outside the trimmed range of all 10,073."""
    split = ["training", "test", "validation", "training"]
    means = [3.9, *spread(7, 85)[1:-1], 88.4]
    counts = [
        (0.9, 0.1, 0.0, 0.0, 0.0),
        (0.1, 0.2, 0.3, 0.2, 0.2),
        (0.0, 0.1, 0.4, 0.5, 0.0),
        (0.0, 0.0, 0.1, 0.5, 0.4),
    ]
    rows = [
        f"{n}.jpg,{','.join(map(str, counts[n % 4]))},10,{mean},0.9,{split[n % 4]}"
        for n, mean in enumerate(means)
    ]
    return {
        "koniq10k_distributions_sets.csv": lines(
            "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set", *rows
        )
    }


def spaq() -> Files:
    """Two pictures, the best, are in no list; the workbook is written apart."""
    listed = [f"{n:05}.jpg,{'test' if n % 5 == 0 else 'train'}" for n in range(COUNT - 2)]
    return {"qalign_spaq.csv": lines("name,split", *listed)}


def kadid() -> Files:
    """Twenty references of two pictures; the last four are for testing, one row is in no list."""
    rows, listed = [], ["name,split"]
    for n, mean in enumerate(spread(1.07, 4.84)):
        name = f"I{n // 2 + 1:02}_01_{n % 2 + 1:02}.png"
        mean = {3: 1.0, 39: 4.93}.get(n, mean)
        rows.append(f"{name},I{n // 2 + 1:02}.png,{mean},0.7")
        listed += [f"{name},{'test' if n >= 32 else 'train'}"] if n != 3 else []
    return {
        "dmos.csv": lines("dist_img,ref_img,dmos,var", *rows),
        "qalign_kadid.csv": lines(*listed),
    }


def pipal() -> Files:
    means = [916.7136, *spread(934.9479, 1835.9856)[1:]]
    return {
        f"Train_Label/A{n:04}.txt": lines(f"A{n:04}_00_00.bmp,{mean}", f"A{n:04}_00_01.bmp,1400")
        for n, mean in enumerate(means)
    }


def ava() -> Files:
    votes = ["0 1 5 17 38 36 15 6 5 1", "9 0 0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0 0 9"]
    rows = [f"{n} {n + 500} {votes[n % 3]} 1 22 1396" for n in range(COUNT)]
    tested = [str(n + 500) for n in range(0, COUNT, 4)]
    return {"AVA.txt": lines(*rows), "aesthetics_image_lists/generic_test.jpgl": lines(*tested)}


def tad66k() -> Files:
    return {
        f"labels/merge/{split}.csv": lines(
            "image,score", *(f"{split}{n}.jpg,{mean}" for n, mean in enumerate(spread(1.39, 9.28)))
        )
        for split in ("train", "test")
    }


def icaa17k() -> Files:
    return {
        f"1{split}.csv": lines(
            "ID,color,MOS,probability",
            *(f"mono/{split}{n}.jpg,5.5,{mean},0.6" for n, mean in enumerate(spread(0, 10))),
        )
        for split in ("train", "test")
    }


def aadb() -> Files:
    """Means of attributes are -1 to 1."""
    names = ("BalacingElements", "ColorHarmony", "Content", "DoF", "Light", "MotionBlur", "Object")
    names += ("Repetition", "RuleOfThirds", "Symmetry", "VividColor")
    made = {}
    for part in ("Train", "Validation", "TestNew"):
        for name, means in {"score": spread(0, 1), **dict.fromkeys(names, spread(-1, 1))}.items():
            made[f"imgListFiles_label/imgList{part}Regression_{name}.txt"] = lines(
                *(f"{part}{n}.jpg {mean}" for n, mean in enumerate(means))
            )
    return made


def para() -> Files:
    votes = [f"aestheticScore_{n / 2:.1f}" for n in range(2, 11)]
    rated = ("quality", "composition", "color", "dof", "light", "content")
    header = ["imageName", "sessionId", *votes, "aestheticScore_mean", "aestheticScore_std"]
    header += [f"{name}Score_mean" for name in rated]
    made = {}
    for part in ("Train", "Test"):
        rows = [
            ",".join(
                [f"{part}{n}.jpg", "session1", *("1" * 9), *f"{mean} 0.4".split(), *["3.2"] * 6]
            )
            for n, mean in enumerate(spread(1, 5))
        ]
        made[f"annotation/PARA-Giaa{part}.csv"] = lines(",".join(header), *rows)
    return made


def lsvq() -> Files:
    """The ends are training clips'."""
    means = spread(23, 85)
    return {
        "labels_train_test.csv": lines(
            "name,mos,is_test", *(f"a/{n},{mean},{n % 4 == 1}" for n, mean in enumerate(means))
        )
    }


MADE: dict[str, tuple[Callable[[], Files], str]] = {
    "koniq": (koniq, "1024x768/0.jpg"),
    "koniq_zscore": (koniq, "1024x768/0.jpg"),
    "spaq": (spaq, "TestImage/00000.jpg"),
    "kadid": (kadid, "images/I01_01_01.png"),
    "pipal": (pipal, "Train_Dist/A0000_00_00.bmp"),
    "ava": (ava, "images/500.jpg"),
    "tad66k": (tad66k, "imgs/train0.jpg"),
    "icaa17k": (icaa17k, "mono/train0.jpg"),
    "aadb": (aadb, "datasetImages_warp256/Train0.jpg"),
    "para": (para, "imgs/session1/Train0.jpg"),
    "lsvq": (lsvq, "a/0.mp4"),
}
"""By set: what writes its files, and a medium that is there."""
SPLITS = {
    "koniq": (20, 10, 10),
    "koniq_zscore": (20, 10, 10),
    "spaq": (30, 1, 7),
    "kadid": (31, 2, 6),
    "pipal": (60, 4, 16),
    "ava": (30, 1, 9),
    "tad66k": (40, 2, 38),
    "icaa17k": (40, 2, 38),
    "aadb": (40, 40, 40),
    "para": (40, 2, 38),
    "lsvq": (30, 1, 9),
}
"""Rows for training, validation and test; of what has splits, all training rows stay so."""
LEFT_OUT = {"koniq": 2}
"""Training rows outside a recipe's ``within``; PIPAL's lies where chance has put it. A trimmed
range leaves out a thousandth, of so few rows none."""


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, write_xlsx: Callable[..., None]
) -> dict[str, tuple[str, BuiltManifest]]:
    """Each set's manifest and what was said of it."""
    made = {}
    for name, (files, medium) in MADE.items():
        root = tmp_path_factory.mktemp(name)
        for path, text in files().items() | {(medium, "")}:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, "utf-8")
        if name == "spaq":
            rated = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
            rows = [[f"{n:05}.jpg", mean, *[50] * 5] for n, mean in enumerate(spread(2, 96))]
            (root / "Annotations").mkdir()
            book = root / "Annotations/MOS and Image attribute scores.xlsx"
            write_xlsx(book, {"Sheet1": [["Image name", "MOS", *rated], *rows]})
        output = str(root / f"{name}.parquet")
        fields = [f"name={name}", f"root={root}", f"output={output}"]
        fields += [f"splits=qalign_{name}.csv"] if name in ("spaq", "kadid") else []
        config = load_config(ManifestConfig, CONFIGS / "datasets/papers.yaml", fields)
        made[name] = output, build_manifest(config)
    return made


def set_of(manifest: str) -> str:
    return Path(manifest).stem


@pytest.mark.parametrize("name", SPLITS)
def test_all_training_rows_stay_and_validation_is_held_out_of_test(built, name: str) -> None:
    _, said = built[name]
    assert tuple(said.splits.values()) == SPLITS[name]
    assert said.unlisted == {"spaq": 2, "kadid": 1}.get(name, 0)


def learned(path: Path, built: dict[str, tuple[str, BuiltManifest]]) -> dict[str, pa.Table]:
    """The rows of each set that a recipe trains and validates on."""
    named = [set_of(some.manifest) for some in load_config(TrainConfig, path).sets]
    overrides = [f"sets.{n}.manifest={built[name][0]}" for n, name in enumerate(named)]
    overrides += [f"sets.{n}.rows=null" for n in range(len(named))]
    config = load_config(TrainConfig, path, overrides)
    config = with_ranges(config)
    sets = [load_set(some, config) for some in config.sets]
    mix = concatenate([replace(one, table=rows_of(one, "train", "val")) for one in sets])
    return {
        name: mix.filter(pc.equal(mix["set"], one.name))
        for name, one in zip(named, sets, strict=True)
    }


@pytest.mark.parametrize(
    "path", RECIPES, ids=lambda p: p.relative_to(CONFIGS / "train").with_suffix("").as_posix()
)
def test_a_recipe_takes_what_the_builder_makes(built, path: Path) -> None:
    fractions = [some.fraction for some in load_config(TrainConfig, path).sets]
    for fraction, (name, rows) in zip(fractions, learned(path, built).items(), strict=True):
        train = rows["split"].to_pylist().count("train")
        if name == "pipal":
            assert 59 <= train <= 60
            continue
        assert train == few_rows(SPLITS[name][0] - LEFT_OUT.get(name, 0), fraction)


def test_every_set_is_in_a_recipe() -> None:
    named = {
        set_of(some.manifest) for path in RECIPES for some in load_config(TrainConfig, path).sets
    }
    assert named == set(MADE) == set(SPLITS)


@pytest.mark.parametrize("name", ["aadb", "para"])
def test_attributes_are_numbers_in_the_recipes_order(built, name: str) -> None:
    path = CONFIGS / f"train/roc/table4_{name}.yaml"
    (some,) = load_config(TrainConfig, path).sets
    for row in learned(path, built)[name].to_pylist():
        assert [attribute for attribute, _ in row["further"]] == list(some.attributes)
        assert [mean for _, mean in row["further"]] == [row[c] for c in some.attributes.values()]
        assert all(isinstance(mean, float) for _, mean in row["further"])
