"""What several files' tests of training share."""

from collections.abc import Iterator

import pytest
import torch

from beholder.training.folds import _alone


@pytest.fixture(scope="session")
def world() -> Iterator[None]:
    """One worker for DeepSpeed; once a session, for it keeps groups that torch forgets."""
    _alone()
    yield
    torch.distributed.destroy_process_group()
