"""Configs: what is written is what is run, and what can't be is said by name."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, ValidationError, model_validator

from beholder.config import (
    ConfigError,
    JobConfig,
    describe,
    dump_config,
    job_arguments,
    load_config,
)
from beholder.errors import UserError


class Source(JobConfig):
    uri: str
    """Where the manifest is."""
    weight: float = 1.0
    """Share of the mix."""


class Optimiser(JobConfig):
    lr: float = Field(2e-5, gt=0, description="learning rate at its peak")
    warmup: float = 0.03
    """Part of the steps spent warming up, 0..1."""


class Training(JobConfig):
    steps: int
    """Optimizer steps."""
    optimiser: Optimiser = Optimiser()
    mix: tuple[Source, ...] = ()
    limits: dict[str, Source] = Field(default_factory=dict)
    stage: Literal[0, 2, 3] = 2
    """ZeRO stage."""
    seed: int | None = None
    names: tuple[Annotated[str, AfterValidator(str.strip)], ...] = ()

    @model_validator(mode="after")
    def _mixed(self) -> "Training":
        if self.steps > 10 and not self.mix:
            raise ValueError("a long run needs a mix")
        return self


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def faults(path: Path | None, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(Training, path, overrides)
    assert isinstance(caught.value, UserError)
    return str(caught.value).splitlines()


def test_file_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "steps: 20\nmix:\n- uri: a\n- {uri: b, weight: 3}\n")
    overrides = ["optimiser.lr=2e-4", "mix.1.weight=.5", "steps=30", "seed=null", "steps=40"]
    config = load_config(Training, path, overrides)
    assert config.steps == 40
    assert config.optimiser.lr == 2e-4
    assert [s.weight for s in config.mix] == [1, 0.5]
    assert load_config(Training, None, ["steps=3"]).steps == 3


def test_configs_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(Training, None, ["steps=3"]).steps = 4


def test_dump_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(Training, None, ["steps=20", "mix=[{uri: a}]", "stage=3"])
    assert load_config(Training, write(tmp_path, dump_config(config))) == config
    assert "warmup: 0.03" in dump_config(config)  # defaults are resolved


def test_unknown_keys_are_named_in_full(tmp_path: Path) -> None:
    path = write(tmp_path, "steps: 3\noptimiser: {lrr: 1}\nwarmup: 0.1\nnonsense_key: 1\n")
    assert faults(path) == [
        f"{path}: unknown key 'optimiser.lrr': did you mean 'optimiser.lr'?",
        f"{path}: unknown key 'warmup': did you mean 'optimiser.warmup'?",
        f"{path}: unknown key 'nonsense_key': "
        "use one of steps, optimiser, mix, limits, stage, seed, names",
    ]


def test_unknown_keys_inside_lists_and_maps(tmp_path: Path) -> None:
    path = write(
        tmp_path, "steps: 3\nmix: [{uri: a, wieght: 2}]\nlimits: {night: {uri: x, wight: 1}}\n"
    )
    assert faults(path) == [
        f"{path}: unknown key 'mix.0.wieght': did you mean 'mix.0.weight'?",
        f"{path}: unknown key 'limits.night.wight': did you mean 'limits.night.weight'?",
    ]


class Circle(JobConfig):
    shape: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(JobConfig):
    shape: Literal["square"] = "square"
    side: float = 1.0


class Drawing(JobConfig):
    drawn: Circle | Square = Field(Circle(), discriminator="shape")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("drawn.shape=line", "--set: 'drawn.shape' is 'line': use one of 'circle', 'square'"),
        ("drawn.side=2", "--set: unknown key 'drawn.side': it does not belong to 'circle'"),
        ("drawn.radios=2", "--set: unknown key 'drawn.radios': did you mean 'drawn.radius'?"),
    ],
)
def test_sections_that_are_chosen_by_a_key(tmp_path: Path, override: str, sentence: str) -> None:
    path = write(tmp_path, "drawn: {shape: circle}")
    with pytest.raises(ConfigError) as caught:
        load_config(Drawing, path, [override])
    assert str(caught.value) == sentence
    chosen = load_config(Drawing, path, ["drawn.shape=square", "drawn.side=2"])
    assert chosen.drawn == Square(side=2)
    assert load_config(Drawing, write(tmp_path, dump_config(chosen))) == chosen
    assert "drawn.side (float" in " ".join(describe(Drawing).split())


def test_wrong_types_name_key_value_and_place(tmp_path: Path) -> None:
    path = write(tmp_path, "steps: many\nstage: 1\nseed: 1.5\n")
    by_key = {line.split("'")[1]: line for line in faults(path, "optimiser.lr=-1")}
    assert by_key["optimiser.lr"].startswith("--set: 'optimiser.lr' is -1: input should be greater")
    assert f"{path}: 'steps' is 'many': input should be a valid integer" in by_key["steps"]
    assert f"{path}: 'stage' is 1: input should be 0, 2 or 3" in by_key["stage"]
    assert f"{path}: 'seed' is 1.5: input should be a valid integer" in by_key["seed"]
    assert len(by_key) == 4


def test_missing_keys_say_what_they_are(tmp_path: Path) -> None:
    assert faults(write(tmp_path, "mix: [{}]")) == [
        f"{tmp_path}/job.yaml: 'steps' is missing: give int, Optimizer steps.",
        f"{tmp_path}/job.yaml: 'mix.0.uri' is missing: give str, Where the manifest is.",
    ]


def test_rules_across_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "steps: 11")
    assert faults(path) == [f"{path}: a long run needs a mix"]


class Mixed(JobConfig):
    """A config that needs at least one source."""

    mix: tuple[Source, ...] = Field(min_length=1)
    """Sources."""


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        (
            "[{uri: a, weight: much}]",
            "--set: 'mix.0.weight' is 'much': input should be a",
        ),
        ("[{uri: 3}]", "--set: 'mix.0.uri' is 3: input should be a valid string"),
        ("[]", "--set: 'mix' is []: tuple should have at least 1 item"),
    ],
)
def test_the_only_entry_of_a_list_is_not_also_missing(mix: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Mixed, None, [f"mix={mix}"])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(sentence)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "holds a list: write 'key: value' lines"),
        ("steps: [1\n", "is not YAML"),
        ("steps: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("", "'steps' is missing"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    (line,) = faults(write(tmp_path, text))
    assert message in line


def test_a_missing_file_is_named() -> None:
    assert faults(Path("nowhere.yaml")) == [
        "config file 'nowhere.yaml' does not exist: name one of configs/"
    ]


def test_a_key_is_given_once_in_an_override_too() -> None:
    (line,) = faults(None, "optimiser={lr: 1, lr: 2}", "steps=1")
    assert "--set optimiser={lr: 1, lr: 2}: the value is not YAML: give key 'lr' once" in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "--set steps: write it as key=value"),
        ("mix.3.uri=a", "there is no '3' in a list of 1"),
        ("steps.x=1", "there is no 'x' in 3"),
        ("steps=[", "the value is not YAML"),
    ],
)
def test_overrides_that_are_none(tmp_path: Path, override: str, message: str) -> None:
    (line,) = faults(write(tmp_path, "steps: 3\nmix: [{uri: a}]"), override)
    assert message in line


def test_help_shows_every_field() -> None:
    text = " ".join(describe(Training).split())
    for part in [
        "steps (int, required) Optimizer steps.",
        "optimiser.lr (float, default 2e-05) learning rate at its peak",
        "mix[].weight (float, default 1.0) Share of the mix.",
        "limits.<name>.uri (str, required)",
        "stage (0 | 2 | 3, default 2) ZeRO stage.",
        "seed (int | none, default none)",
        "names (tuple[str, ...], default ())",
    ]:
        assert part in text


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "steps: 3")
    told = job_arguments(
        Training,
        ["--config", str(path), "--set", "seed=7", "--dry-run", "--steps", "5"],
        "Trains.",
        flags={"dry-run": "only print"},
        options={"steps": "steps"},
    )
    assert (told.config.steps, told.config.seed, told.flags) == (5, 7, {"dry-run": True})
    with pytest.raises(ConfigError, match="unrecognized arguments: --sted x=1: see --help"):
        job_arguments(Training, ["--sted", "x=1"], "Trains.")
    with pytest.raises(SystemExit) as ended:
        job_arguments(Training, ["--help"], "Trains.", flags={"dry-run": "only print"})
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "optimiser.lr" in shown
    assert "only print" in shown


JOB = """
import sys
from beholder.config import ConfigError, run_job

def main(argv):
    if argv == ["user"]:
        raise ConfigError("key 'x' is wrong: mend it")
    if argv == ["ray"]:
        class Ray:
            def shutdown():
                print("(Worker pid=7) a line that came late", file=sys.stderr)
        sys.modules["ray"] = Ray
        raise ConfigError("key 'x' is wrong: mend it")
    if argv == ["defect"]:
        raise RuntimeError("boom")
    if argv == ["long"]:
        print("line\\n" * 100_000)
        return 0
    return int(argv[0])

if __name__ == "__main__":
    run_job(main)
"""


@pytest.mark.parametrize(
    ("argument", "debug", "code", "last_line", "traceback"),
    [
        ("user", "", 2, "error: key 'x' is wrong: mend it", False),
        ("user", "1", 1, "beholder.errors.ConfigError: key 'x' is wrong: mend it", True),
        ("defect", "", 1, "RuntimeError: boom", True),
        ("0", "", 0, "", False),
        ("3", "", 3, "", False),
    ],
)
def test_a_job_ends_in_one_sentence(
    tmp_path: Path, argument: str, debug: str, code: int, last_line: str, traceback: bool
) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB, "utf-8")
    environment = {"BEHOLDER_DEBUG": debug, "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(
        [sys.executable, str(job), argument], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == code
    assert ("Traceback" in ended.stderr) is traceback
    assert (ended.stderr.strip().splitlines() or [""])[-1] == last_line
    if not traceback and last_line:
        assert len(ended.stderr.strip().splitlines()) == 1


def test_the_sentence_stands_behind_what_workers_still_say(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB, "utf-8")
    environment = {"PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(
        [sys.executable, str(job), "ray"], env=environment, capture_output=True, text=True
    )
    late, last = ended.stderr.strip().splitlines()
    assert "came late" in late
    assert last == "error: key 'x' is wrong: mend it"


def test_a_reader_that_has_seen_enough_is_no_defect(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB, "utf-8")
    with subprocess.Popen(
        [sys.executable, str(job), "long"],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None and started.stderr is not None
        assert started.stdout.readline() == "line\n"
        started.stdout.close()
        said = started.stderr.read()
    assert (started.returncode, said) == (141, "")
