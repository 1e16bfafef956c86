"""Training, scoring and serving as their users type them, on a real Ray and a real S3."""

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.compute as pc
import pytest
import yaml

from beholder.catalog.manifest_pass import read_scores
from beholder.config import ConfigError, load_config
from beholder.datasets.manifests import load_manifest
from beholder.local_stack import ObjectStore
from beholder.media.storage import list_files, read_bytes
from beholder.scoring import check_panel, load_scorer
from beholder.training.config import TrainConfig


def test_training_ends_in_an_evaluated_scorer(trained) -> None:
    scorer = load_scorer(f"{trained.run}/scorer")
    assert scorer.fingerprint == trained.summary["fingerprint"]
    assert check_panel(scorer).ok
    assert set(scorer.tasks) == {"quality", "aesthetics"}
    assert set(scorer.tasks["quality"].kinds) == {"image", "video"}
    for name in ("quality", "aesthetics", "video"):
        metrics = scorer.file.metrics[name]
        assert metrics["items"] == trained.demo.counts[name]["test"]
        assert metrics["failed"] == 0
        assert -1 <= metrics["latent"]["srcc"] <= 1
    assert "scorer" in trained.printed


def test_the_run_folder_can_be_made_again(trained) -> None:
    resolved = yaml.safe_load(read_bytes(f"{trained.run}/config.yaml"))
    assert TrainConfig.model_validate(resolved).schedule.epochs == 8
    losses = [point["loss"] for point in trained.summary["curve"]]
    assert losses[-1] < 0.5 * losses[0]
    names = "\n".join(list_files(f"{trained.run}/checkpoints"))
    assert "commit-rank-0000.json" in names
    assert "commit-rank-0001.json" in names, "both workers wrote their shards"


def test_no_test_source_was_trained_on(trained) -> None:
    for name in ("quality", "aesthetics", "video"):
        rows = load_manifest(trained.demo.manifests[name]).to_pylist()
        by_split: dict[str, set] = {}
        for row in rows:
            by_split.setdefault(row["split"], set()).add(row["source"])
        assert not by_split["test"] & (by_split["train"] | by_split["val"])
        assert not by_split["val"] & by_split["train"]


def test_a_finished_run_is_not_overwritten(trained, submit: Callable) -> None:
    config = f"storage={trained.run.rsplit('/', 1)[0]}"
    done = submit(
        "train_onealign.py",
        *("--config", "configs/train/onealign_pocket.yaml", "--set", config, "--set", "name=short"),
    )
    assert done.returncode != 0
    assert "short is finished: choose another name" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@contextmanager
def busy_cluster() -> Iterator[None]:
    """Of 4 CPUs others hold 2.5, as an endpoint would: just what a pass's actors need is left."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


HOLD = """
import sys
import ray

@ray.remote
class Holder:
    def ready(self):
        return True

ray.init(logging_level="ERROR", log_to_driver=False)
holder = Holder.options(num_cpus=2.5).remote()
ray.get(holder.ready.remote())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scored(trained, submit: Callable, s3: ObjectStore) -> str:
    output = f"s3://{s3.bucket}/scores/night"
    sets = {
        "manifest": trained.demo.manifests["catalog"],
        "scorer": f"{trained.run}/scorer",
        "output": output,
    }
    words = [word for k, v in sets.items() for word in ("--set", f"{k}={v}")]
    with busy_cluster():
        done = submit("score_manifest.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 failed" in done.stdout
    return output


def test_every_item_of_a_catalog_comes_out_once_a_task(trained, scored: str) -> None:
    rows = read_scores(scored)
    keys = list(zip(rows["item_id"].to_pylist(), rows["task"].to_pylist(), strict=True))
    items = load_manifest(trained.demo.manifests["catalog"])["item_id"].to_pylist()
    assert sorted(keys) == sorted((i, t) for i in items for t in ("quality", "aesthetics"))


def test_bad_items_are_rows_with_their_codes(scored: str) -> None:
    rows = read_scores(scored)
    failed = rows.filter(pc.is_valid(rows["failure_code"])).to_pylist()
    codes = {row["item_id"]: row["failure_code"] for row in failed}
    assert codes == {
        "bad-truncated": "decode.truncated",
        "bad-empty": "decode.empty",
        "bad-text": "decode.unsupported",
        "bad-missing": "fetch.not_found",
    }
    assert all(row["mean"] is None and row["failure_message"] for row in failed)


def test_scores_equal_the_scorer_in_this_process(trained, scored: str) -> None:
    rows = {(r["item_id"], r["task"]): r for r in read_scores(scored).to_pylist()}
    some = load_manifest(trained.demo.manifests["catalog"]).slice(0, 5).to_pylist()
    scorer = load_scorer(f"{trained.run}/scorer")
    for item, score in zip(some, scorer.score([i["uri"] for i in some]), strict=True):
        for task, distribution in score.tasks.items():
            row = rows[item["item_id"], task]
            assert row["probs"] == pytest.approx(distribution.probs.tolist(), abs=1e-5)
            assert row["fingerprint"] == scorer.fingerprint


@pytest.fixture(scope="module")
def endpoint(trained, serve_run: Callable) -> Iterator[str]:
    """``serve run`` with the shipped config on another scorer and port."""
    args = {"scorer": f"{trained.run}/scorer", "max_items": 4, "max_pixels": 2_000_000}
    with serve_run(args) as url:
        yield url


def test_uploads_and_base64_answer_what_the_scorer_says(
    trained, endpoint: str, photos: dict[str, bytes]
) -> None:
    files = [("files", (name, data)) for name, data in photos.items()]
    uploaded = httpx.post(f"{endpoint}/v1/score", files=files, timeout=60).json()["items"]
    items = [{"id": n, "data": base64.b64encode(d).decode()} for n, d in photos.items()]
    posted = httpx.post(f"{endpoint}/v1/score", json={"items": items}, timeout=60).json()["items"]
    scorer = load_scorer(f"{trained.run}/scorer")
    expected = scorer.score(list(photos.values()))
    for answers in (uploaded, posted):
        assert [answer["item_id"] for answer in answers] == list(photos)
        for answer, score in zip(answers, expected, strict=True):
            assert answer["fingerprint"] == scorer.fingerprint
            for task, distribution in score.tasks.items():
                got = answer["scores"][task]
                assert got["probs"] == pytest.approx(distribution.probs.tolist(), abs=1e-5)
                assert got["mean"] == pytest.approx(float(distribution.mean), abs=1e-5)
                assert got["std"] == pytest.approx(float(distribution.std), abs=1e-5)


def test_a_bad_upload_harms_no_neighbour(endpoint: str, photos: dict[str, bytes]) -> None:
    files = [
        ("files", ("good.png", photos["coffee"])),
        ("files", ("bad.jpg", b"<html>")),
        ("files", ("half.jpg", photos["rocket"][:4000])),
    ]
    data = {"tasks": "quality"}
    answers = httpx.post(f"{endpoint}/v1/score", files=files, data=data, timeout=60)
    good, bad, half = answers.json()["items"]
    assert set(good["scores"]) == {"quality"}
    assert bad["failure"]["code"] == "decode.unsupported"
    assert half["failure"]["code"] == "decode.truncated"


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
        ({"json": {"items": []}}, 400, "items"),
        ({"json": {"items": [{"data": "???"}]}}, 400, "not base64"),
        ({"json": {"items": [{"data": "AAAA"}], "tasks": ["beauty"]}}, 400, "'beauty'"),
        ({"json": {"items": [{"data": "AAAA"}] * 5}}, 413, "at most 4"),
        ({"files": [("files", ("x", b"1"))] * 5}, 413, "at most 4"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON"),
    ],
)
def test_a_wrong_request_gets_a_sentence(
    endpoint: str, request_: dict, status: int, sentence: str
) -> None:
    answer = httpx.post(f"{endpoint}/v1/score", timeout=60, **request_)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


def test_the_schema_shows_both_ways_of_sending(endpoint: str) -> None:
    schema = httpx.get(f"{endpoint}/openapi.json", timeout=60).json()
    content = schema["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    item = content["application/json"]["schema"]["properties"]["items"]["items"]
    assert set(item["properties"]) == {"data", "uri", "id"}


def test_the_shipped_config_names_the_quick_starts_scorer(project: Path) -> None:
    served = yaml.safe_load((project / "serve_apps" / "local.yaml").read_text())
    train = load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml")
    expected = f"{train.storage}/{train.name}/scorer"
    assert served["applications"][0]["args"]["scorer"] == expected
    with pytest.raises(ConfigError, match="scorer"):
        load_config(TrainConfig, None, ["scorer=1"])
