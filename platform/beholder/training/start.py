"""The model that a run starts from."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from beholder.backbones import Backbone
from beholder.backbones.loading import load_weights, make_backbone, unallocated
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.mplug_owl2.spec import real_config
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.config import ConfigError
from beholder.media.storage import fetch_tree
from beholder.readouts import make_readout
from beholder.training.adapters import adapted_layers
from beholder.training.config import TrainConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def start_backbone(config: TrainConfig, weights: bool = True) -> Backbone:
    """The run's backbone, initialised by its seed, its weights in the training dtype.

    It has the readout's new tokens: every worker makes them alike, and so does whoever takes
    the trained weights up.

    Args:
        config: the run's.
        weights: False leaves pretrained weights out, for who brings others.

    Raises:
        ConfigError: it needs ``backbone.weights`` and none are given, or they don't fit; its
            language part is frozen, and can't learn tokens that it lacks; LoRA's targets are none;
            or its tokenizer can't write what the readout reads.
        StorageError: there is nothing at ``backbone.weights``, or storage can't be used.
    """
    torch.manual_seed(config.seed)
    with _start_folder(config, weights) as folder:
        backbone = _made(config, folder, weights)
    _give_tokens(backbone, config)
    backbone.gradient_checkpointing = config.backbone.gradient_checkpointing
    return backbone.to(DTYPES[config.backbone.dtype])


def outline_backbone(config: TrainConfig) -> Backbone:
    """The run's backbone on the meta device, with its tokenizer: shapes and words, no weight.

    What would be refused once workers start is refused here, for a few files that are fetched.

    Raises:
        ConfigError: as :func:`start_backbone`, but for weights that don't fit.
        StorageError: as :func:`start_backbone`.
    """
    with _start_folder(config, weights=False) as folder, unallocated():
        backbone = _made(config, folder, weights=False)
    _give_tokens(backbone, config)
    return backbone


@contextmanager
def _start_folder(config: TrainConfig, weights: bool) -> Iterator[Path]:
    """The start weights' files while the context lasts, or what stands for them."""
    wanted = config.backbone
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if wanted.weights is not None:
            fetch_tree(wanted.weights, folder, lambda file: weights or file.endswith(".json"))
        elif wanted.name == "pocket":
            (folder / "tokenizer.json").write_text(default_tokenizer(), "utf-8")
            (folder / "config.json").write_text(json.dumps({"model_type": wanted.name}), "utf-8")
        else:
            raise ConfigError(
                f"backbone {wanted.name} has no weights of its own: give backbone.weights the URI "
                "of a converted checkpoint"
            )
        yield folder


def _made(config: TrainConfig, folder: Path, weights: bool) -> Backbone:
    """The backbone of a folder's config and tokenizer, with its weights or its own start."""
    wanted = config.backbone
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"backbone.weights {wanted.weights} has no readable config.json: {error}"
        ) from error
    if settings.get("model_type") != wanted.name:
        raise ConfigError(
            f"backbone.weights {wanted.weights} holds a {settings.get('model_type')}, not a "
            f"{wanted.name}: correct backbone.name"
        )
    try:
        backbone = make_backbone({**settings, **wanted.settings}, folder / "tokenizer.json")
        if wanted.weights is not None and weights:
            load_weights(backbone, folder)
        elif weights:
            backbone.initialise()
    except ValueError as error:
        where = f"backbone.weights {wanted.weights}" if wanted.weights else "backbone.settings"
        raise ConfigError(f"{where}: {error}") from error
    return backbone


def _give_tokens(backbone: Backbone, config: TrainConfig) -> None:
    """Adds the readout's new tokens, and looks whether its words are tokens."""
    wanted = config.backbone
    readout = make_readout(config.readout.model_dump(mode="json"))
    added = backbone.add_tokens(readout.new_tokens())
    if wanted.lora is not None:
        adapted_layers(backbone, wanted.lora)  # refuses what would fail on the workers
    elif added and "language" not in wanted.train:
        raise ConfigError(
            f"readout {config.readout.name} brings the token '{added[0]}' and more that this "
            "backbone has yet to learn: add language to backbone.train, or give backbone.lora"
        )
    try:
        readout.token_ids(backbone)
    except ValueError as error:
        file = "" if wanted.weights is None else f" ({wanted.weights}/tokenizer.json)"
        raise ConfigError(
            f"readout {readout.name} and backbone {wanted.name}: {error}{file}"
        ) from error


def new_tokens(config: TrainConfig) -> tuple[str, ...]:
    """The tokens that the run's readout brings."""
    return make_readout(config.readout.model_dump(mode="json")).new_tokens()


def sketch(config: TrainConfig) -> Backbone:
    """The run's backbone on the meta device: every shape, no weight, nothing fetched.

    Sizes come from the backbone's default config, ``backbone.settings`` and the readout's new
    tokens, of which it is taken to have none.

    Raises:
        ConfigError: settings that the backbone doesn't have or can't do.
    """
    wanted = config.backbone
    try:
        with unallocated():
            if wanted.name == "pocket":
                pocket = Pocket(PocketConfig(**wanted.settings), default_tokenizer())
                pocket.add_tokens(new_tokens(config))
                return pocket
            settings = {**real_config(), **wanted.settings}
            settings["vocab_size"] += len(new_tokens(config))
            return MplugOwl2(settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"backbone.settings: {error}") from error
