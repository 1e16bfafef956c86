"""DeepSpeed around a model: optimizer, schedule, ZeRO stage, whole weights out of shards."""

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from beholder.training.config import TrainConfig


def import_deepspeed(gpus: bool) -> Any:
    """DeepSpeed, told not to compile anything.

    On CPUs its shared-memory collectives would be built with a C++ compiler for minutes;
    without them it uses gloo.
    """
    if not gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"  # also where a GPU could be seen
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def learning_rate_at(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then a cosine to 0: the factor on the peak rate at a step (released
    trainers of Q-Align and DeQA-Score)."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def deepspeed_settings(config: TrainConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration, from ours."""
    schedule = config.schedule
    zero: dict[str, Any] = {"stage": config.deepspeed.stage}
    if config.deepspeed.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_batch_size": schedule.global_batch,
        "train_micro_batch_size_per_gpu": schedule.micro_batch,
        "gradient_clipping": schedule.gradient_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.backbone.dtype == "bfloat16"},
        "steps_per_print": 1 << 30,
    }


def make_engine(model: nn.Module, config: TrainConfig, steps: int) -> Any:
    """The DeepSpeed engine; torch.distributed must be initialised.

    Weight decay spares vectors (norms and biases), as is usual.
    """
    deepspeed = import_deepspeed(bool(config.workers.gpus))
    trained = [p for p in model.parameters() if p.requires_grad]
    schedule = config.schedule
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]  # adapters alone have no vectors
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    rates = LambdaLR(optimizer, lambda step: learning_rate_at(step, steps, schedule.warmup))
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=rates,
        config=deepspeed_settings(config),
    )
    return engine


def whole_state(engine: Any, module: nn.Module, stage: int) -> Mapping[str, Tensor]:
    """A module's whole state dict on rank 0; collective under ZeRO-3, where weights are shards."""
    if stage < 3:
        return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
    gathered = import_deepspeed(engine.device.type == "cuda").zero.GatheredParameters
    keep = engine.global_rank == 0
    state = {k: v.detach().cpu().clone() for k, v in module.named_buffers()}
    for name, parameter in module.named_parameters():
        with gathered([parameter]):
            if keep:
                state[name] = parameter.detach().cpu().clone()
    return state
