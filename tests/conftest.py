"""What several rooms' tests share: one real S3 and one real Ray a session, started when asked."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

# Set before anything imports torch, whose threads otherwise fight over two cores, or Ray, which
# reads its token on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import pytest
import torch

from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.datasets.demo import find_sources
from beholder.local_stack import ObjectStore, RayCluster
from beholder.readouts import LevelReadout
from beholder.scoring import Scorer, TaskSpec


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
