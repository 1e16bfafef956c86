"""The shipped training configs, and what is wrong with wrong ones."""

from pathlib import Path

import pytest

from beholder.config import ConfigError, dump_config, load_config
from beholder.training.config import TrainConfig

POCKET = "configs/train/onealign_pocket.yaml"


def test_the_demo_configs_load(project: Path) -> None:
    paths = sorted((project / "configs" / "train").glob("*_pocket.yaml"))
    assert len(paths) >= 2
    for path in paths:
        load_config(TrainConfig, path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("schedule.lerning_rate=1", "schedule.lerning_rate.*learning_rate"),
        ("schedule.global_batch=63", "63 is not a multiple of"),
        ("backbone.name=resnet", "backbone.name"),
        ("deepspeed.stage=4", "deepspeed.stage"),
        ("backbone.train=[vision, language]", "frozen vision"),
        ("sets.1.name=quality", "two sets have one name"),
        ("backbone.dtype=bfloat16", "pocket's float32 states"),
        ("prompt=hello", "prompt 'hello' is none"),
        ("sets.0.task=beauty", "sets.0.task"),
        ("sets.0.scale=[5, 1]", "must be \\[minimum, maximum\\]"),
        ("name=../elsewhere", r"'name' is '\.\./elsewhere': it names a folder"),
        ("name='..'", r"'name' is '\.\.': it names a folder"),
        ("sets.0.name=koniq/10k", "'sets.0.name' is 'koniq/10k': it names a folder"),
        ("sets.0.name=''", "'sets.0.name' is '': it names a folder"),
        ("sets.0.fraction=0", "'sets.0.fraction' is 0: input should be greater than 0"),
        ("sets.0.fraction=1.5", "'sets.0.fraction' is 1.5: input should be less than or equal"),
        ("sets.0.share=2", "set quality has a share of 2 and mixing is concatenate"),
        ("mixing=weighted", "set quality has no share and mixing is weighted"),
        ("backbone.lora={}", "set backbone.train to .projector., or lora to null"),
        ("backbone.lora={rnk: 3}", "unknown key 'backbone.lora.rnk': did you mean"),
        ("backbone.lora={targets: every}", "'backbone.lora.targets' is 'every'"),
        ("readout.name=tarot", "readout.name' is 'tarot': use one of 'levels', 'binary'"),
        ("readout.tokens=5", "readout.tokens': it does not belong to 'levels'"),
        ("readout.name=score_tokens", "no score from objective.next_token alone: give smooth_l1"),
        ("objective.vote_ce=1", "vote_ce 1 learn votes on score tokens: name readout score_tokens"),
        ("readout.labels=soft", "readout.labels soft and objective.soft_label 0 don't go together"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(project: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, project / POCKET, [override])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("readout.labels=soft", "readout.labels': it does not belong to 'score_tokens'"),
        ("readout.tokens=1", "'readout.tokens' is 1: input should be greater"),
        ("readout.scale=[10, 1]", "'readout.scale' is \\[10, 1\\]: it must be \\[minimum, maximum"),
        ("objective.soft_label=1", "readout score_tokens and objective.soft_label 1 don't go"),
        (
            "sets.1.rule=left_closed",
            "set aesthetics: rule left_closed is about the edges of levels",
        ),
    ],
)
def test_score_tokens_have_fields_of_their_own(project: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, project / "configs/train/roc_pocket.yaml", [override])


@pytest.mark.parametrize(
    ("name", "override", "sentence"),
    [
        ("regression", "objective.squared_error=0", "every weight of the objective is 0"),
        ("regression", "objective={next_token: 1}", "from objective.squared_error alone, which is"),
        ("regression", "objective.next_token=1", "next_token 1 learns from words, .* set it to 0"),
        ("regression", "objective.fidelity=1", "fidelity 1 learns from words, .* set it to 0"),
        ("regression", "objective.vote_ce=2", "vote_ce 2 learns from words, .* set it to 0"),
        ("regression", "sets.0.rule=left_closed", "edges of levels, of which readout regression"),
        ("regression", "readout.tokens=5", "readout.tokens': it does not belong to 'regression'"),
        ("onealign", "objective.squared_error=1", "which readout levels has not: name readout reg"),
        ("roc", "objective.squared_error=1", "which readout score_tokens has not"),
        ("realqa", "objective.squared_error=1", "which readout digits has not"),
        ("binary", "objective.squared_error=1", "which readout binary has not"),
        ("binary", "objective.soft_label=0", "labels soft and objective.soft_label 0 don't go"),
        ("binary", "readout.labels=one_hot", "labels one_hot and objective.soft_label 1 don't go"),
        ("binary", "objective.emd=1", "learn votes on score tokens"),
        ("binary", "readout.words=[bad, fair, good]", "'readout.words'"),
        ("binary", "readout.words=[good, good]", "'readout.words'.*two different words"),
    ],
)
def test_a_readout_and_its_objective_belong_together(
    project: Path, name: str, override: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, project / f"configs/train/{name}_pocket.yaml", [override])


@pytest.mark.parametrize(
    "name",
    [f"{name}_pocket" for name in ("onealign", "deqa", "roc", "realqa", "regression", "binary")],
)
def test_a_resolved_config_is_read_back_equal(project: Path, tmp_path: Path, name: str) -> None:
    config = load_config(TrainConfig, project / f"configs/train/{name}.yaml")
    (tmp_path / "again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(TrainConfig, tmp_path / "again.yaml") == config
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_readout_without_a_name_is_levels(project: Path) -> None:
    config = load_config(TrainConfig, project / POCKET, ["readout={words: [low, high]}"])
    assert (config.readout.name, config.readout.words) == ("levels", ("low", "high"))


@pytest.mark.parametrize("words", ["[]", "[good]", "[good, good]", "[good, '']"])
def test_level_words_that_are_none(project: Path, words: str) -> None:
    with pytest.raises(ConfigError, match="at least two and distinct"):
        load_config(
            TrainConfig, project / "configs/train/onealign_pocket.yaml", [f"readout.words={words}"]
        )


def test_a_run_that_trains_nothing_is_refused(project: Path) -> None:
    base = project / "configs/train/onealign_pocket.yaml"
    with pytest.raises(ConfigError, match="nothing would be trained"):
        load_config(TrainConfig, base, ["backbone.train=[]"])
    with pytest.raises(ConfigError, match="'seed' is -1"):
        load_config(TrainConfig, base, ["seed=-1"])
