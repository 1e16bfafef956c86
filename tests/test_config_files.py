"""A config file over its base: what merges, what replaces, and chains that lead nowhere."""

from pathlib import Path

import pytest
import yaml

from beholder.config import JobConfig, dump_config, job_arguments, load_config
from beholder.config_files import read_config_file
from beholder.errors import ConfigError

PAPER = """
name: paper
sets: [{name: a, rows: 7}, {name: b}]
schedule: {epochs: 2, rate: {peak: 1, warmup: 0.1}}
seed: 0
"""


def write(folder: Path, **files: str) -> Path:
    """Files by name; the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder / f"{next(iter(files))}.yaml"


def test_mappings_merge_and_all_else_replaces(tmp_path: Path) -> None:
    row = (
        "base: paper.yaml\nname: row\nsets: [{name: c}]\nschedule: {rate: {peak: 3}}\nseed: null\n"
    )
    assert read_config_file(write(tmp_path, row=row, paper=PAPER)) == {
        "name": "row",
        "sets": [{"name": "c"}],
        "schedule": {"epochs": 2, "rate": {"peak": 3, "warmup": 0.1}},
        "seed": None,
    }


def test_a_section_replaces_a_value_and_a_value_a_section(tmp_path: Path) -> None:
    row = "base: paper.yaml\nseed: {of: order}\nschedule: none\n"
    merged = read_config_file(write(tmp_path, row=row, paper=PAPER))
    assert (merged["seed"], merged["schedule"]) == ({"of": "order"}, "none")


def test_a_base_is_found_from_its_own_file_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    write(tmp_path, paper=PAPER, release="base: paper.yaml\nseed: 1\n")
    write(tmp_path / "tables", one="base: ../release.yaml\nname: one\n", two="base: one.yaml\n")
    monkeypatch.chdir(tmp_path / "tables")
    merged = read_config_file(Path("two.yaml"))
    assert merged == yaml.safe_load(PAPER) | {"name": "one", "seed": 1}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a": "base: a.yaml"}, "'{0}/a.yaml': base goes round in a circle, {0}/a.yaml -> "),
        (
            {"a": "base: b.yaml", "b": "base: ./c.yaml", "c": "base: ../{1}/b.yaml"},
            "'{0}/c.yaml': base goes round in a circle, {0}/a.yaml -> {0}/b.yaml -> ",
        ),
        ({"a": "base: nowhere.yaml"}, "'{0}/nowhere.yaml' does not exist: correct base in '{0}/a"),
        ({"a": "base: [b.yaml]"}, "'{0}/a.yaml': base is ['b.yaml']: write the path of one"),
        ({"a": "base: b.yaml", "b": "- 1"}, "'{0}/b.yaml' holds a list: write"),
        ({"a": "base: b.yaml", "b": "x: ["}, "'{0}/b.yaml' is not YAML"),
    ],
)
def test_chains_that_lead_nowhere(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    texts = {name: text.replace("{1}", tmp_path.name) for name, text in files.items()}
    with pytest.raises(ConfigError) as caught:
        read_config_file(write(tmp_path, **texts))
    assert sentence.format(tmp_path) in str(caught.value)


class Run(JobConfig):
    name: str
    steps: int = 1


def test_every_job_takes_one_and_saves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, row="base: paper.yaml\nname: row\n", paper="name: paper\nsteps: 5\n")
    config = job_arguments(Run, ["--config", str(path), "--set", "steps=6"], "Runs.").config
    assert config == Run(name="row", steps=6)
    assert "base" not in dump_config(config)
    with pytest.raises(ConfigError, match="unknown key 'base'"):
        load_config(Run, path, ["base=paper.yaml"])
    with pytest.raises(SystemExit):
        job_arguments(Run, ["--help"], "Runs.")
    assert "base: OTHER.yaml" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "name: a\nseed: 1\nname: b\n",
            "is not YAML: give key 'name' once, not again in line 3, column 1",
        ),
        ("x:\n  - {a: 1, b: 2, a: 3}\n", "give key 'a' once, not again in line 2, column 18"),
    ],
)
def test_a_key_is_given_once(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_config_file(tmp_path / "a.yaml")


def test_one_key_of_two_mappings_is_two_keys(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("sets: [{a: 1}, {a: 2}]\nin: {a: {a: 3}}\n")
    assert read_config_file(tmp_path / "a.yaml")["sets"] == [{"a": 1}, {"a": 2}]
