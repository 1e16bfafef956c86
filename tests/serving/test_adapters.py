"""Requests that ask for an adapter by its name, and what is told of a scorer on trial."""

import copy
import json
from pathlib import Path

import pytest
import torch
from fastapi import FastAPI

from beholder.config import ConfigError, validate_config
from beholder.scoring import Scorer, ScorerError
from beholder.scoring.adapter import save_adapter
from beholder.serving.app import build
from beholder.serving.config import ServeConfig
from beholder.serving.trial import TrialAnswer

from .conftest import Ask, Endpoint


@pytest.fixture(scope="module")
def other(small_scorer: Scorer) -> Scorer:
    """Another scorer on the same backbone."""
    backbone = copy.deepcopy(small_scorer.backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.01)
    return Scorer(backbone, small_scorer.readout, small_scorer.tasks, small_scorer.prompt)


@pytest.fixture
def app(endpoint: Endpoint, other: Scorer) -> FastAPI:
    api = endpoint(candidate={"scorer": "none", "share": 1.0, "criteria": {"min_items": 2}})
    api.state.service.adapters["mobile"] = other
    return api


def test_an_adapter_answers_whoever_asks_for_it(
    app: FastAPI, ask: Ask, small_scorer: Scorer, other: Scorer, photos: dict[str, bytes]
) -> None:
    files = [("files", (name, data)) for name, data in photos.items()]
    for name, scorer in {"": small_scorer, "mobile": other}.items():
        answer = ask(app, "POST", "/v1/score", files=files, data={"scorer": name}).json()
        assert {item["fingerprint"] for item in answer["items"]} == {scorer.fingerprint}
        expected = [score.as_dict()["scores"] for score in scorer.score(photos.values())]
        assert [item["scores"] for item in answer["items"]] == json.loads(json.dumps(expected))


def test_scorers_are_listed_and_others_refused(
    app: FastAPI, ask: Ask, small_scorer: Scorer, other: Scorer
) -> None:
    listed = ask(app, "GET", "/v1/scorers").json()["scorers"]
    prints = {one["name"]: one["fingerprint"] for one in listed}
    assert prints == {"": small_scorer.fingerprint, "mobile": other.fingerprint}
    asked = {"items": [{"data": ""}], "scorer": "desktop"}
    answer = ask(app, "POST", "/v1/score", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "this endpoint has no scorer 'desktop': ask for 'mobile', or leave it out"
    )


def test_a_candidate_is_told_of_where_there_is_one(
    app: FastAPI, endpoint: Endpoint, ask: Ask
) -> None:
    assert ask(endpoint(), "GET", "/v1/candidate").status_code == 404
    said = [
        {"fingerprint": "f", "scores": {"quality": {"mean": m, "scale": (1, 5)}}} for m in (2, 3)
    ]
    for _ in range(10):
        app.state.service.trial.pairs.add(said, said)
    told = ask(app, "GET", "/v1/candidate").json()
    assert told["tasks"]["quality"]["items"] == 20
    assert told["tasks"]["quality"]["found"]["srcc"]["value"] == pytest.approx(1)
    assert told["ready"] is True


def test_a_candidate_that_says_one_thing_of_all_is_told_of_in_json(app: FastAPI, ask: Ask) -> None:
    """Correlations with a constant are not numbers, and JSON has none of these."""
    score = {"fingerprint": "f", "scores": {"quality": {"mean": 3, "scale": (1, 5)}}}
    app.state.service.trial.pairs.add([score] * 20, [score] * 20)
    answer = ask(app, "GET", "/v1/candidate")
    assert answer.status_code == 200, answer.text
    TrialAnswer.model_validate(answer.json())
    assert answer.json()["ready"] is False


def test_other_pixels_need_an_application_of_their_own(
    small_scorer: Scorer, tmp_path: Path
) -> None:
    small_scorer.save(tmp_path / "one")
    small_scorer.save(tmp_path / "two")
    config = tmp_path / "two" / "config.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps(fields | {"image_size": fields["image_size"] + 32}))
    args = {"scorer": str(tmp_path / "one"), "candidate": {"scorer": str(tmp_path / "two")}}
    with pytest.raises(ConfigError, match=r"candidate .*two wants other pixels than scorer"):
        build(validate_config(ServeConfig, args, "serve config"))


def test_whole_scorers_and_adapters_are_not_taken_for_each_other(
    small_scorer: Scorer, other: Scorer, tmp_path: Path
) -> None:
    small_scorer.save(tmp_path / "whole")
    save_adapter(other, small_scorer.backbone.state_dict(), {}, 1.0, tmp_path / "adapter")
    whole, adapter = str(tmp_path / "whole"), str(tmp_path / "adapter")
    for args, said in (
        ({"scorer": adapter}, r"adapter is an adapter's: name the scorer that it goes over"),
        ({"scorer": whole, "adapters": {"mobile": whole}}, r"whole has no adapter.json"),
        ({"scorer": whole, "candidate": {"scorer": adapter}}, r"adapter is an adapter's"),
    ):
        with pytest.raises(ScorerError, match=said):
            build(validate_config(ServeConfig, args, "serve config"))


def test_an_adapter_of_another_base_is_refused_before_replicas_start(
    small_scorer: Scorer, other: Scorer, tmp_path: Path
) -> None:
    small_scorer.save(tmp_path / "one")
    other.save(tmp_path / "other")
    save_adapter(other, small_scorer.backbone.state_dict(), {}, 1.0, tmp_path / "adapter")
    # What is replaced whole may be anything, so this one leaves a part of the base alone.
    kept = small_scorer.backbone.state_dict()
    half = copy.deepcopy(other)
    for name, tensor in half.backbone.state_dict().items():
        if name.startswith("abstractor"):
            tensor.copy_(kept[name])
    save_adapter(half, kept, {}, 1.0, tmp_path / "half")
    for base, adapter in (("one", "adapter"), ("one", "half"), ("other", "adapter")):
        args = {"scorer": str(tmp_path / base), "adapters": {"a": str(tmp_path / adapter)}}
        build(validate_config(ServeConfig, args, "serve config"))
    args = {"scorer": str(tmp_path / "other"), "adapters": {"a": str(tmp_path / "half")}}
    said = rf"half: it was trained over other weights than those of scorer {other.fingerprint}"
    with pytest.raises(ScorerError, match=said):
        build(validate_config(ServeConfig, args, "serve config"))
