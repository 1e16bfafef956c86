"""The regression head: what it reads, what it refuses, how it starts and where it is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from beholder.backbones import Read
from beholder.conversations import Slot
from beholder.opinions import NoSpreadError, Point, Scale
from beholder.readouts import HEAD_FILE, RegressionReadout, load_head, make_readout, through_head

READOUT = RegressionReadout()
HIDDEN = 16


def _head(seed: int = 0) -> torch.nn.Module:
    head = READOUT.head(HIDDEN, seed)
    assert head is not None
    return head


def _states(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(1))


def test_a_score_is_the_sigmoid_of_a_linear_map() -> None:
    head, hidden = _head(), _states()
    torch.nn.init.constant_(head.bias, 0.3)  # type: ignore[arg-type]
    with torch.no_grad():
        reading = READOUT.read(through_head(Read(hidden, torch.zeros(5, 0)), head), [])
    weight, bias = head.state_dict()["weight"][0], head.state_dict()["bias"]
    expected = [1 / (1 + np.exp(-float(row @ weight + bias))) for row in hidden]
    assert isinstance(reading.distribution, Point)
    np.testing.assert_allclose(reading.distribution.mean, expected, rtol=1e-6)
    assert reading.mass is None
    assert reading.row(3).distribution.mean == reading.distribution.mean[3]
    with pytest.raises(NoSpreadError, match="a regression head has no spread"):
        _ = reading.distribution.std


def test_logits_have_no_say() -> None:
    head, hidden = _head(), _states()
    with torch.no_grad():
        one, other = (
            READOUT.read(through_head(Read(hidden, logits), head), []).distribution.mean
            for logits in (torch.zeros(5, 12), torch.randn(5, 12))
        )
    assert (one == other).all()


def test_the_sets_ends_are_0_and_1_and_come_back() -> None:
    scale = Scale(1, 5)
    mos = np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(READOUT.scores(mos, scale), [0, 0.25, 1])
    np.testing.assert_allclose(READOUT.invert(READOUT.scores(mos, scale), scale), mos)
    assert list(READOUT.inverse_maps(scale)) == ["ends"]
    assert READOUT.targets(mos, None, scale).shape == (3, 0)
    assert READOUT.words() == READOUT.new_tokens() == ()
    assert READOUT.answer("quality", 2.0, scale) == (Slot("quality"),)
    with pytest.raises(ValueError, match="mos of row 1 is 7, outside the declared scale"):
        READOUT.targets(np.array([3.0, 7.0]), None, scale)


def test_a_seed_is_a_start() -> None:
    torch.manual_seed(5)
    first = _head(3).state_dict()
    torch.manual_seed(6)
    again, other = _head(3).state_dict(), _head(4).state_dict()
    assert torch.equal(first["weight"], again["weight"])
    assert not torch.equal(first["weight"], other["weight"])
    assert first["weight"].abs().max() <= HIDDEN**-0.5
    assert first["bias"].tolist() == [0]


def test_bf16_states_give_fp32_values() -> None:
    """In bf16 the sum would be rounded to 8 bits: neighbours would be one score."""
    head = _head().to(torch.bfloat16)
    values = head(torch.cat([_states(200).to(torch.bfloat16)]))
    assert values.dtype == torch.float32
    assert len(values.unique()) == 200


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (None, f"has no {HEAD_FILE}, the readout's trained head: copy it again"),
        ({"weight": torch.zeros(1, HIDDEN)}, "lacks the weights 'bias'"),
        ({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, "'weight' has shape"),
        ({"wait": torch.zeros(1)}, "unexpected key 'wait'"),
    ],
)
def test_a_file_that_is_no_head_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | None, sentence: str
) -> None:
    if tensors is not None:
        save_file(tensors, tmp_path / HEAD_FILE)
    with pytest.raises(ValueError, match=sentence):
        load_head(_head(), tmp_path)
    load_head(None, tmp_path)  # a readout without a head looks for nothing


def test_config_round_trip() -> None:
    again = make_readout(json.loads(json.dumps(READOUT.config())))
    assert isinstance(again, RegressionReadout)
    assert not again.has_spread
    assert again.scale == Scale(0, 1)
