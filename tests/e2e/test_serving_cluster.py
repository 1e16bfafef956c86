"""``serve_apps/cluster.yaml``, deployed as it says, on a Ray of two nodes."""

import base64
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray.cluster_utils import Cluster

from beholder.datasets.demo import find_sources
from beholder.local_stack import ObjectStore
from beholder.media.storage import copy_tree, write_bytes
from beholder.scoring import Scorer

from ..conftest import free_port

pytestmark = pytest.mark.e2e


class Nodes:
    """A head and another node with two CPUs each, whose environment holds the package.

    Attributes:
        dashboard: the head's, which takes deployments.
    """

    def __init__(self) -> None:
        port = free_port()
        head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": port}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._cluster.add_node(num_cpus=2)
        self.dashboard = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return [free_port(), free_port()]


@pytest.fixture(scope="module")
def nodes(s3: ObjectStore, project: Path, ports: list[int]) -> Iterator[Nodes]:
    """What its processes inherit stands first: S3, the package's path, the second proxy's port."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="bh", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", f"{project / 'platform'}:{project}")
        patch.setenv("RAY_SERVE_WORKER_PROXY_HTTP_PORT", str(ports[1]))
        patch.delenv("RAY_ADDRESS", raising=False)
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.stop()


@pytest.fixture(scope="module")
def media(s3: ObjectStore) -> dict[str, bytes]:
    """A picture and a video, which are objects as well."""
    found = find_sources()
    data = {name: found[name].read_bytes() for name in ("coffee", "carphone")}
    for name, one in data.items():
        write_bytes(f"s3://{s3.bucket}/cluster/media/{name}", one)
    return data


@pytest.fixture(scope="module")
def told(
    nodes: Nodes,
    ports: list[int],
    s3: ObjectStore,
    small_scorer: Scorer,
    project: Path,
    tmp_path_factory,
) -> Iterator[dict[str, Any]]:
    """What Serve tells of the application once it runs."""
    folder = tmp_path_factory.mktemp("cluster")
    small_scorer.save(folder / "scorer")
    scorer = f"s3://{s3.bucket}/cluster/scorer"
    copy_tree(folder / "scorer", scorer)
    text = (project / "serve_apps" / "cluster.yaml").read_text()
    # These nodes hold the package, so the proxies can be told of it.
    text, uncommented = re.subn(r"(?m)^# (controller_options:|( {2})+\w+:)", r"\1", text)
    assert uncommented == 4
    config = yaml.safe_load(text)
    config["http_options"] |= {"host": "127.0.0.1", "port": ports[0]}
    args = config["applications"][0]["args"]
    args |= {"scorer": scorer, "allowed_buckets": [f"{s3.bucket}/cluster/media"]}
    args |= {"device": "cpu", "threads": 1, "decoders": 1}  # of 4 CPUs and no GPU
    (folder / "app.yaml").write_text(yaml.safe_dump(config))
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "deploy", "-a", nodes.dashboard, str(folder / "app.yaml")]
    subprocess.run(command, check=True, cwd=folder)
    headers = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    with httpx.Client(base_url=nodes.dashboard, headers=headers, timeout=60) as http:
        deadline = time.monotonic() + 180
        while True:
            details = http.get("/api/serve/applications/").json()
            application = details["applications"].get("score", {})
            if application.get("status") == "RUNNING":
                break
            assert application.get("status") != "DEPLOY_FAILED", application["message"]
            assert time.monotonic() < deadline, application
            time.sleep(0.5)  # Serve is asked: it tells nobody by itself
        yield details
        http.delete("/api/serve/applications/")


def test_every_deployment_runs_as_often_as_it_says_and_on_both_nodes(told: dict[str, Any]) -> None:
    deployments = told["applications"]["score"]["deployments"]
    running = {
        name: [r["node_id"] for r in one["replicas"] if r["state"] == "RUNNING"]
        for name, one in deployments.items()
    }
    assert {name: len(on) for name, on in running.items()} == {
        "Ingress": 3,
        "Preprocess": 2,
        "Engine": 1,
    }
    assert len({node for on in running.values() for node in on}) == 2
    assert [one["status"] for one in told["proxies"].values()] == ["HEALTHY"] * 2


@pytest.mark.parametrize("node", [0, 1])
def test_a_picture_and_a_video_are_scored_through_each_node(
    told: dict[str, Any],
    ports: list[int],
    node: int,
    media: dict[str, bytes],
    s3: ObjectStore,
    small_scorer: Scorer,
) -> None:
    url = f"http://127.0.0.1:{ports[node]}/v1/score"
    files = [("files", (name, data)) for name, data in media.items()]
    named = [{"id": n, "uri": f"s3://{s3.bucket}/cluster/media/{n}"} for n in media]
    encoded = [{"id": n, "data": base64.b64encode(data).decode()} for n, data in media.items()]
    answers = [
        httpx.post(url, files=files, timeout=60),
        httpx.post(url, json={"items": named}, timeout=60),
        httpx.post(url, json={"items": encoded}, timeout=60),
    ]
    expected = [score.as_dict()["scores"] for score in small_scorer.score(list(media.values()))]
    assert [set(one) for one in expected] == [{"quality", "aesthetics"}, {"quality"}]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert [item["item_id"] for item in answer.json()["items"]] == list(media)
        for item, wanted in zip(answer.json()["items"], expected, strict=True):
            assert item["scores"].keys() == wanted.keys()
            for task, one in wanted.items():
                assert item["scores"][task]["probs"] == pytest.approx(one["probs"], abs=1e-5)


@pytest.mark.parametrize("node", [0, 1])
def test_an_id_is_held_to_its_form_at_each_node(
    told: dict[str, Any], ports: list[int], node: int
) -> None:
    headers = [(b"X-Request-ID", b"a\xffb" + b"c" * 99)]
    answer = httpx.get(f"http://127.0.0.1:{ports[node]}/v1/none", headers=headers, timeout=60)
    assert answer.headers.get_list("X-Request-ID") == ["ab" + "c" * 62]
