"""How a run that fails says why."""

from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from beholder.errors import UserError
from beholder.training.run import failed_because

TRACEBACKS = "[Rank 0]\nTraceback (most recent call last):\n  File ...\nValueError: boom\n"


def test_the_users_own_error_is_the_reason_whichever_worker_had_it() -> None:
    lost, said = RuntimeError("gloo: closed"), UserError("media of 9 of 9 rows: mend them")
    error = WorkerGroupError(TRACEBACKS, {0: lost, 1: said})
    assert failed_because(error) == "media of 9 of 9 rows: mend them"


def test_a_defect_is_one_line_that_points_at_its_traceback() -> None:
    several = ValueError("while loading:\n  shape (3, 4)\n")
    reason = failed_because(WorkerGroupError(TRACEBACKS, {0: several}))
    assert reason == "ValueError: shape (3, 4) (the workers' lines above say where)"
    for error in (WorkerGroupError(TRACEBACKS, {}), ControllerError(KeyError())):
        assert "\n" not in failed_because(error)
