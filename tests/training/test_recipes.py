"""The papers' recipes: every file is a run, none twice, and its table's reader finds it."""

import re
from pathlib import Path

import pytest

from beholder.config import dump_config, load_config
from beholder.config_files import read_config_file
from beholder.datasets.public import PUBLIC_SETS
from beholder.opinions import LEVEL_WORDS
from beholder.training.config import TrainConfig
from beholder.training.plan import describe_run

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "train"
RECIPES = sorted(FOLDER.rglob("*.yaml"))
PAPERS = ("qalign", "deqa", "roc", "realqa")


def recipe(name: str) -> TrainConfig:
    return load_config(TrainConfig, FOLDER / f"{name}.yaml")


def in_papers() -> list[Path]:
    return [path for path in RECIPES if path.parent != FOLDER]


def named(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def plan(path: Path) -> str:
    """What ``--dry-run`` says where no manifest is; 1,000 rows where nobody has printed them."""
    overrides = []
    for number, some in enumerate(load_config(TrainConfig, path).sets):
        overrides.append(f"sets.{number}.manifest=/nowhere/{some.name}.parquet")
        overrides += [f"sets.{number}.rows=1000"] if some.rows is None else []
    return describe_run(load_config(TrainConfig, path, overrides))


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_every_file_is_a_run(path: Path) -> None:
    text = plan(path)
    assert re.search(r"^[1-9][\d,]* optimizer steps", text, re.MULTILINE)
    total, trained = re.search(r"^all +([\d,]+)  ([\d,]+) trained", text, re.MULTILINE).groups()
    assert 0 < int(trained.replace(",", "")) <= int(total.replace(",", ""))


def test_no_run_stands_in_two_files() -> None:
    runs: dict[str, Path] = {}
    for path in RECIPES:
        config = load_config(TrainConfig, path)
        run = dump_config(config.model_copy(update={"name": ""}))
        assert run not in runs, f"{path} is {runs[run]}"
        runs[run] = path
    names = [load_config(TrainConfig, path).name for path in RECIPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", in_papers(), ids=named)
def test_a_row_says_its_table_and_what_was_printed(path: Path) -> None:
    head = path.read_text("utf-8").split("base:")[0]
    comment = " ".join(line.removeprefix("# ") for line in head.splitlines())
    kind, table = re.match(r"(Table|Released script) (\w+)", comment).groups()
    if kind == "Table":
        assert path.name.startswith(f"table{table}_")
        assert re.search(r"printed: (\w.* )?\.\d{2,3}\b", comment)
    else:
        assert path.name.startswith("release_")
        assert "Table" in comment
    assert (
        load_config(TrainConfig, path).name
        == named(path).replace("/", "-").replace("_", "-").lower()
    )


@pytest.mark.parametrize("paper", PAPERS)
def test_the_papers_tables_lead_to_all_files_and_to_no_others(paper: str) -> None:
    text = (FOLDER / paper / "README.md").read_text("utf-8")
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", text)
    assert all(shown == target for shown, target in links)
    linked = {(FOLDER / paper / target).resolve() for _, target in links}
    assert not [path for path in linked if not path.is_file()]
    assert set((FOLDER / paper).glob("*.yaml")) <= linked


@pytest.mark.parametrize("path", [p for p in RECIPES if not p.stem.endswith("_pocket")], ids=named)
def test_manifests_are_those_that_the_builder_makes(path: Path) -> None:
    for some in load_config(TrainConfig, path).sets:
        made = re.fullmatch(r"s3://YOUR-BUCKET/sets/(\w+)\.parquet", some.manifest)
        assert made is not None and made[1] in PUBLIC_SETS
        known = PUBLIC_SETS[made[1]]
        assert some.task == known.task
        assert some.rows is None or some.rows <= known.rows


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rate"),
    [
        ("qalign/table3_koniq", 2, 64, 2e-5),  # Q-Align, section 4.1
        ("qalign/table3_spaq_fewshot", 4, 64, 2e-5),
        ("qalign/table5_lsvq", 2, 64, 2e-5),
        ("qalign/table6_ava", 2, 128, 2e-5),
        ("qalign/table6_ava_fewshot", 4, 128, 2e-5),
        ("onealign", 2, 256, 2e-5),
        ("qalign/release_koniq", 3, 64, 2e-5),
        ("qalign/release_koniq_lora", 1, 64, 2e-4),
        ("deqa/table3_koniq", 3, 64, 2e-5),  # DeQA-Score, section 5.1
        ("deqa/tableA7_2_encoder_abstractor_lora", 3, 64, 2e-5),
        ("roc", 2, 16, 2e-5),  # ROC4MLLM, "Experimental Settings"
        ("roc/table6_ava_coupled", 2, 16, 2e-5),
        ("roc/table1_ava_mplug_owl2", 2, 16, 2e-5),
    ],
)
def test_schedules_are_the_papers(name: str, epochs: int, batch: int, rate: float) -> None:
    schedule = recipe(name).schedule
    assert (schedule.epochs, schedule.global_batch, schedule.learning_rate) == (epochs, batch, rate)
    assert (schedule.warmup, schedule.weight_decay) == (0.03, 0)


@pytest.mark.parametrize(
    ("name", "rows"), [("koniq_fewshot", 2000), ("spaq_fewshot", 2200), ("ava_fewshot", 26000)]
)
def test_few_shot_rows_are_as_many_as_printed(name: str, rows: int) -> None:
    """Q-Align, Tables 3 and 6: 2K, 2.2K and 26K."""
    (some,) = recipe(f"qalign/table{6 if name.startswith('ava') else 3}_{name}").sets
    assert some.rows is not None
    assert some.fraction * some.rows == pytest.approx(rows, rel=0.012)


def test_level_words_are_the_tables() -> None:
    """DeQA-Score, Tables 7 and A6: best first there, worst first here."""
    assert recipe("deqa/table7_reverse").readout.words == LEVEL_WORDS[::-1]
    random = recipe("deqa/table7_random").readout.words
    assert random[::-1] == ("excellent", "poor", "bad", "good", "fair")
    longest = recipe("deqa/tableA6_12_levels").readout.words[::-1]
    assert longest[:3] == ("one", "two", "three") and longest[-1] == "twelve"
    for count in (6, 7, 8, 10, 12):
        assert recipe(f"deqa/tableA6_{count:02d}_levels").readout.words[::-1] == longest[:count]
    assert recipe("deqa/table7_number").readout.words[::-1] == longest[:5]


def test_paper_and_release_are_apart() -> None:
    printed, released = (
        recipe(f"deqa/{name}_koniq_spaq_kadid") for name in ("table4_1", "release")
    )
    assert (printed.objective.spread, released.objective.spread) == ("predicted", "fixed")
    assert (printed.readout.density, released.readout.density) == ("cdf", "pdf")
    assert {s.name: s.density for s in printed.sets if s.density} == {}
    assert {s.name: s.density for s in released.sets if s.density} == {"spaq": "cdf"}
    assert (printed.readout.max_error, released.readout.max_error) == (0.2, 0.1)
    paper, script = recipe("roc").objective, recipe("roc/release_ava").objective
    assert (paper.smooth_l1, script.smooth_l1) == (1, 0)
    assert (script.vote_ce, script.emd) == (10, 0)


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("tableA7_0_lora", set()),
        ("tableA7_1_abstractor_lora", {"projector"}),
        ("tableA7_2_encoder_abstractor_lora", {"vision", "projector"}),
        ("tableA7_3_full", {"language"}),
        ("tableA7_4_abstractor_full", {"projector", "language"}),
        ("table4_1_koniq_spaq_kadid", {"vision", "projector", "language"}),
    ],
)
def test_trained_parts_are_those_of_table_a7(name: str, trained: set[str]) -> None:
    backbone = recipe(f"deqa/{name}").backbone
    assert set(backbone.train) == trained
    assert (backbone.lora is not None) == ("language" not in trained)


def test_a_row_differs_from_its_base_in_what_it_ablates_alone() -> None:
    """DeQA-Score, Table 6 #2 and #3."""
    full = read_config_file(FOLDER / "deqa/table4_1_koniq_spaq_kadid.yaml")
    for row in ("table6_2_one_hot_fidelity", "table6_3_soft_label"):
        data = read_config_file(FOLDER / f"deqa/{row}.yaml")
        assert {key for key in full if data[key] != full[key]} <= {"name", "readout", "objective"}
        assert data["sets"] == full["sets"]


def test_every_command_of_the_readmes_table_is_a_run() -> None:
    """By method its config, which is of the readout that its row names."""
    readme = (FOLDER.parents[1] / "README.md").read_text("utf-8")
    command = r"`python jobs/train_onealign\.py --config configs/train/(\w+)\.yaml`"
    rows = [line.split(" | ") for line in readme.splitlines() if re.search(command, line)]
    commands = {re.search(command, row[3]).group(1): row[2] for row in rows}
    readouts = {name: recipe(name).readout.name for name in commands}
    assert set(readouts.values()) == {*("levels", "score_tokens", "digits", "regression", "binary")}
    for name, readout in readouts.items():
        assert commands[name].startswith(f"`{readout}`"), name
    assert len(commands) == 6
