"""What several rooms' tests share: one real S3 and one real Ray a session, started when asked."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

# Set before anything imports torch, whose threads otherwise fight over two cores, or Ray, which
# reads its token on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import httpx
import pytest
import torch
import yaml

from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.datasets.demo import find_sources
from beholder.local_stack import ObjectStore, RayCluster
from beholder.readouts import LevelReadout
from beholder.scoring import Scorer, TaskSpec

# A shell's background job ignores SIGINT, and so would all that is started here and asked to end.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers recorded by running the released code; see README.json inside."""
    return Path(__file__).resolve().parent / "golden" / "mplug_owl2"


@pytest.fixture(scope="session")
def session_environment() -> Iterator[pytest.MonkeyPatch]:
    """Environment variables that last for the session."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def s3(session_environment: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A SeaweedFS with keys and a bucket; AWS_* name it for the rest of the session."""
    with ObjectStore() as store:
        for name, value in store.environment().items():
            session_environment.setenv(name, value)
        yield store


@pytest.fixture(scope="session")
def ray_cluster(s3: ObjectStore, session_environment: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """A Ray with 4 CPUs whose nodes reach :func:`s3`; RAY_ADDRESS names it.

    Its processes inherit the environment as it is now, so the S3 must stand first.
    """
    with RayCluster(num_cpus=4, token=os.environ["RAY_AUTH_TOKEN"]) as cluster:
        for name, value in cluster.environment().items():
            session_environment.setenv(name, value)
        yield cluster


Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serve_run(
    project: Path, ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """``with serve_run(args, Engine={...}) as url``: ``serve run`` with the shipped config.

    ``args`` change the application's, ``controller`` the environment of Serve's own processes,
    keywords a deployment's options. With the ``port`` of an application that runs, that one is
    updated.
    """

    @contextmanager
    def run(
        args: Mapping[str, Any],
        port: int | None = None,
        controller: Mapping[str, str] = MappingProxyType({}),
        **deployments: Mapping[str, Any],
    ) -> Iterator[str]:
        config = yaml.safe_load((project / "serve_apps" / "local.yaml").read_text())
        config["controller_options"]["runtime_env"]["env_vars"] |= controller
        (application,) = config["applications"]
        application["args"] |= args
        for deployment in application["deployments"]:
            changed = deployments.get(deployment["name"], {})
            if "autoscaling_config" in changed:
                del deployment["num_replicas"]
            deployment |= changed
        if "candidate" in args:
            application["deployments"].append({"name": "Candidate", "num_replicas": 1})
        config["http_options"]["port"] = port = port or free_port()
        folder = tmp_path_factory.mktemp("serve")
        (folder / "app.yaml").write_text(yaml.safe_dump(config))
        serve = str(Path(sys.executable).with_name("serve"))
        command = [serve, "run", "--working-dir", str(project), str(folder / "app.yaml")]
        url = f"http://127.0.0.1:{port}"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=project)
            try:
                deadline = time.monotonic() + 120
                while not _is_ready(url):
                    said = (folder / "log").read_text()[-3000:]
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                yield url
            finally:
                process.send_signal(signal.SIGINT)  # what Ctrl-C sends: it takes its apps down
                process.wait(60)

    return run


def _is_ready(url: str) -> bool:
    try:
        if httpx.get(f"{url}/v1/ready", timeout=20).is_success:
            return True
    except httpx.HTTPError:
        pass
    time.sleep(0.2)  # nothing to await: the port is not open yet
    return False


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def small_scorer() -> Scorer:
    """An untrained pocket scorer of toy size, pretrained tower included: quick, and it scores."""
    torch.manual_seed(7)
    backbone = Pocket(PocketConfig(image_size=96, hidden_size=32, heads=2), default_tokenizer())
    backbone.initialise()
    for stage in backbone.abstractor.stages:  # fresh, they let nothing of a picture through
        torch.nn.init.normal_(stage.weight, std=0.3)
    tasks = {
        "quality": TaskSpec(kinds=("image", "video"), scale=(1, 5)),
        "aesthetics": TaskSpec(kinds=("image",), scale=(1, 5)),
    }
    return Scorer(backbone, LevelReadout(), tasks, "brief")


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """A few real photographs as encoded bytes, by name."""
    found = find_sources()
    return {name: found[name].read_bytes() for name in ("coffee", "chelsea", "rocket", "china")}
