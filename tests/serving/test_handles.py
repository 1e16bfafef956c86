"""The second try after a death, with handles that fail as Ray's do; and the shipped configs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeDeploySchema

from beholder.config import validate_config
from beholder.items import Item
from beholder.serving import app
from beholder.serving.config import ServeConfig
from beholder.serving.handles import ScoringReplicas, is_loss
from beholder.serving.service import Answered, LostReplicaError


def upstream() -> RayServeException:
    """What the router raises when a call's argument is lost."""
    error = RayServeException("an upstream actor died")
    error.__cause__ = ActorDiedError()
    return error


LOSSES = [
    ActorDiedError(),
    ActorUnavailableError("gone", b"0" * 16),
    ObjectLostError("0" * 56, None, ""),
    RayTaskError("score", "", ActorDiedError()),
    RayTaskError("score", "", ActorDiedError()).as_instanceof_cause(),
    upstream(),
]


class Response:
    """An awaitable answer or error, that notes its cancellation."""

    def __init__(self, outcome: Any, by_reference: bool = True) -> None:
        self._outcome = outcome
        self.by_reference = by_reference
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __await__(self):
        async def wait() -> Any:
            if self._outcome is None:
                await asyncio.Event().wait()
            if isinstance(self._outcome, Exception):
                raise self._outcome
            return self._outcome

        return wait().__await__()


class Handle:
    """Gives prepared outcomes, one a call; its methods are the same."""

    def __init__(self, *outcomes: Any, by_reference: bool = True) -> None:
        self.responses: list[Response] = []
        self._by_reference = by_reference
        self.asked: list[Any] = []
        self._outcomes = list(outcomes)
        self.about = self.stage = self.score = self

    def remote(self, *asked: Any) -> Response:
        self.asked.extend(asked[:1])
        self.responses.append(Response(self._outcomes.pop(0), self._by_reference))
        return self.responses[-1]


def answered(*names: str) -> Answered:
    seconds = {"preprocess": 1.0, "queue": 0.0, "engine": float(len(names))}
    return Answered([{"item_id": name} for name in names], len(names), seconds)


def replicas(engine: Handle, calls: int) -> ScoringReplicas:
    preprocess: Any = Handle(*["staged"] * calls)
    some: Any = engine
    return ScoringReplicas(preprocess, some, some, 2, {})


ITEMS = [Item(name, b"") for name in "abc"]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda e: type(e).__name__)
def test_a_death_is_tried_once_more_and_no_more(loss: Exception) -> None:
    service = replicas(Handle(loss, answered("a")), 2)
    assert asyncio.run(service.score(ITEMS[:1], None, "id")).answers == [{"item_id": "a"}]
    with pytest.raises(LostReplicaError):
        asyncio.run(replicas(Handle(loss, loss), 2).score(ITEMS[:1], None, "id"))


def test_by_grpc_pixels_are_awaited_before_an_engine_is_asked() -> None:
    """Serve's router would ask for what a dead replica staged for ever."""
    gone = ActorUnavailableError("gone", b"0" * 16)
    preprocess: Any = Handle(gone, "staged", by_reference=False)
    engine: Any = Handle(answered("a"))
    service = ScoringReplicas(preprocess, engine, engine, 2, {})
    assert asyncio.run(service.score(ITEMS[:1], None, "id")).answers == [{"item_id": "a"}]
    assert engine.asked == ["staged"]


def test_a_dead_engine_that_is_asked_what_it_is_counts_as_lost() -> None:
    with pytest.raises(LostReplicaError):
        asyncio.run(replicas(Handle(ActorDiedError()), 0).about())
    with pytest.raises(ValueError, match="no"):
        asyncio.run(replicas(Handle(ValueError("no")), 0).about())


def test_other_errors_are_not_tried_again() -> None:
    engine = Handle(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        asyncio.run(replicas(engine, 1).score(ITEMS[:1], None, "id"))
    assert len(engine.asked) == 1 and not is_loss(ValueError())


def test_a_large_request_goes_in_groups_and_comes_back_whole() -> None:
    service = replicas(Handle(answered("a", "b"), answered("c")), 2)
    whole = asyncio.run(service.score(ITEMS, None, "id"))
    assert [one["item_id"] for one in whole.answers] == ["a", "b", "c"]
    assert whole.frames == 3 and whole.seconds["engine"] == 2.0


def test_an_error_in_one_group_cancels_the_others() -> None:
    engine = Handle(None, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        asyncio.run(replicas(engine, 2).score(ITEMS, None, "id"))
    assert engine.responses[0].cancelled


def test_who_is_cancelled_cancels_its_calls() -> None:
    engine = Handle(None)

    async def leave() -> None:
        async with asyncio.timeout(0.05):
            await replicas(engine, 1).score(ITEMS[:1], None, "id")

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    assert engine.responses[0].cancelled


@pytest.mark.parametrize("name", ["local", "cluster"])
def test_a_shipped_config_is_what_serve_and_the_application_read(project: Path, name: str) -> None:
    told = yaml.safe_load((project / "serve_apps" / f"{name}.yaml").read_text())
    schema = ServeDeploySchema.model_validate(told)
    (application,) = schema.applications
    settings = validate_config(ServeConfig, application.args, name)
    names = {one.name for one in application.deployments}
    assert names == {app.Ingress.name, app.Preprocess.name, app.Engine.name}
    for one in application.deployments:
        if isinstance(one.graceful_shutdown_timeout_s, float):
            assert one.graceful_shutdown_timeout_s > settings.request_s, one.name
