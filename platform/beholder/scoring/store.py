"""Scorers where jobs keep them: a folder on disk or in object storage."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from beholder.backbones.loading import make_backbone, unallocated
from beholder.media.pixels import PixelSpec
from beholder.media.storage import fetch_tree, list_files, open_filesystem, read_bytes
from beholder.scoring.adapter import FACTORS, OTHER_BASE, AdapterFile, over
from beholder.scoring.folder import (
    ADAPTER,
    ScorerError,
    ScorerFile,
    check_names,
    read_scorer_file,
)
from beholder.scoring.heads import heads_hash, names_in, read_heads
from beholder.scoring.scorer import Scorer

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class ScorerOutline:
    """What a scorer is, without its weights.

    Attributes:
        file: its ``scorer.json``.
        pixels: the preprocessing that its backbone wants.
    """

    file: ScorerFile
    pixels: PixelSpec


def load_scorer(uri: str, device: str = "cpu") -> Scorer:
    """A scorer from a URI or path.

    Raises:
        ScorerError: see :meth:`Scorer.load`; messages name the URI.
        StorageError: the storage can't be used, or holds nothing there.
    """
    with _local(uri, weights=True) as folder:
        return Scorer.load(folder, device)


def load_adapter(base: Scorer, uri: str) -> Scorer:
    """The scorer of an adapter's folder at a URI or path, over the weights of a loaded one.

    Raises:
        ScorerError: see :func:`beholder.scoring.adapter.over`; messages name the URI.
        StorageError: the storage can't be used, or holds nothing there.
    """
    with _local(uri, weights=True) as folder:
        return over(base, folder)


def check_base(adapter: str, base: str, fingerprint: str) -> None:
    """Refuses an adapter of other weights by what can be told without fetching them.

    Loading it compares all of the weights; adapters of older releases are told then only.

    Args:
        adapter: URI or path of its folder.
        base: of the scorer's that it shall go over.
        fingerprint: that scorer's, for the message.

    Raises:
        ScorerError: it was trained over other weights, or a file is damaged.
        StorageError: the storage can't be used, or lacks a file.
    """
    adapter = adapter.rstrip("/")
    try:
        about = AdapterFile.model_validate_json(read_bytes(f"{adapter}/{ADAPTER}"))
        if not about.heads:
            return
        replaced = names_in(f"{adapter}/{FACTORS}")
        kept = {name: head for name, head in read_heads(base).items() if name not in replaced}
        if heads_hash(kept) != about.heads:
            raise ValueError(OTHER_BASE.format(fingerprint))
    except (ValueError, KeyError) as error:
        raise ScorerError(f"adapter folder {adapter}: {error}") from error


def outline_scorer(uri: str, adapter: bool = False) -> ScorerOutline:
    """What a job must know of a scorer before it starts workers; no weight is fetched.

    Args:
        uri: URI or path of its folder.
        adapter: whether it shall be an adapter's folder.

    Raises:
        ScorerError: the folder is not a whole scorer of this version, or an adapter's where it
            should not be, or the other way round; messages name the URI.
        StorageError: the storage can't be used, or holds nothing there.
    """
    with _local(uri, weights=False) as folder:
        file = read_scorer_file(folder)
        if adapter and not (folder / ADAPTER).is_file():
            raise ScorerError(f"scorer folder {folder} has no {ADAPTER}: name an adapter's folder")
        if not adapter and (folder / ADAPTER).is_file():
            raise ScorerError(
                f"scorer folder {folder} is an adapter's: name the scorer that it goes over, or "
                "the run's scorer/, which has it merged"
            )
        try:
            with unallocated():
                config = json.loads((folder / "config.json").read_text("utf-8"))
                pixels = make_backbone(config, folder / "tokenizer.json").spec.pixels
        except ValueError as error:
            raise ScorerError(f"scorer folder {folder}: {error}") from error
    return ScorerOutline(file, pixels)


@contextmanager
def _local(uri: str, weights: bool) -> Iterator[Path]:
    """A folder with the scorer's files while the context lasts."""
    if "://" not in uri:
        yield Path(uri)
        return
    base = open_filesystem(uri)[1].rstrip("/") + "/"
    check_names(uri, [name.removeprefix("s3://").removeprefix(base) for name in list_files(uri)])
    with tempfile.TemporaryDirectory() as name:
        fetch_tree(uri, name, lambda file: weights or not file.endswith(WEIGHTS))
        try:
            yield Path(name)
        except ScorerError as error:
            raise ScorerError(str(error).replace(name, uri)) from error
