"""From annotation files to a manifest in storage that says where it comes from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from beholder.config import ConfigError, JobConfig
from beholder.datasets.own import own_csv
from beholder.datasets.public import PUBLIC_SETS, LabelError, PublicSet, read_public
from beholder.datasets.public.reading import attribute_column
from beholder.datasets.public.tables import find_files
from beholder.datasets.splits import SPLITS
from beholder.datasets.splitting import as_listed, with_splits
from beholder.media.storage import write_bytes
from beholder.opinions import Scale


class OwnData(JobConfig):
    """Labels of the user's own."""

    labels: str = "labels.csv"
    """CSV below root: uri, mos, optional std, c1..cK or votes, split, source, attribute_NAME"""
    scale: tuple[float, float]
    """worst and best answer that raters could give, in the unit of mos"""
    task: Literal["quality", "aesthetics"] = "quality"
    """what mos rates"""
    kind: Literal["image", "video"] = "image"
    """of items whose row has no kind"""
    terms: str = "own data"
    """of the data's use; goes into the manifest"""


class ManifestConfig(JobConfig):
    """What :func:`build_manifest` reads and writes."""

    name: str
    """of a public set, see --list; with own, the name that the own set gets"""
    root: str
    """local folder with the annotation files"""
    output: str
    """URI or path of the manifest to write, one Parquet file"""
    media: str | None = None
    """folder or s3:// prefix that the media are below; none: root"""
    own: OwnData | None = None
    """labels of one's own instead of a public set"""
    splits: str | None = None
    """CSV below root with columns name (an item_id) and split, in place of the owners' splits;
    items that it doesn't name are left out"""
    test: float = Field(0.2, ge=0, lt=1)
    """share of sources held out for test, in a set without splits"""
    val: float = Field(0.05, ge=0, lt=1)
    """share of sources held out for val, in a set without val rows"""
    val_from: Literal["train", "test"] = "train"
    """whose sources are held out for val, in a set with splits; test leaves all training rows
    to be learned from, as papers do that have no val"""
    seed: int = Field(0, ge=0)
    """of the choice of what is held out"""


@dataclass(frozen=True)
class BuiltManifest:
    """What was written.

    Attributes:
        rows: in the manifest.
        expected: rows that the set's owners state; None for own data.
        missing: items whose media are not there.
        example: the first of these, "" if there is none.
        unlisted: items left out, since ``splits`` does not name them.
        splits: rows by split.
        files: sha256 of each annotation file, by its path below the root.
    """

    rows: int
    expected: int | None
    missing: int
    example: str
    unlisted: int
    splits: Mapping[str, int]
    files: Mapping[str, str]


def build_manifest(config: ManifestConfig) -> BuiltManifest:
    """Writes a manifest: the items, their labels and splits, and the provenance.

    An official split, or one in ``splits``, is kept. Where there is none, or none for val, whole
    sources are held out, so that no picture made from a source in training is tested. Missing
    media stay in the manifest: training and scoring report them.

    Provenance stands in the schema's metadata: ``dataset``, ``about``, ``task``, ``scale``
    (``minimum..maximum``), ``licence``, ``source``, ``citation``, ``split`` and ``files`` (JSON,
    sha256 by path).

    Raises:
        ConfigError: no such set, or shares that leave nothing to train on.
        LabelError: the annotation files or ``splits`` can't be used, or none of the media is
            there.
        StorageError: media or output can't be reached.
    """
    root, media = Path(config.root), config.media or config.root
    if config.own is None:
        some = _public_set(config.name)
        table = read_public(some, root, media)
        about, paths = _about(some), _paths(some, root)
    else:
        table = _own_table(config, config.own, media)
        about, paths = _about_own(config.own), [root / config.own.labels]
    whole = table.num_rows
    if config.splits is not None:
        table = as_listed(table, root, config.splits)
        paths = [*paths, root / config.splits]
    missing = table.filter(pc.invert(table["found"]))
    if missing.num_rows == table.num_rows:
        raise LabelError(
            f"none of the {table.num_rows} media is below {media}, as {missing['uri'][0]}: give "
            "the folder that holds them as media"
        )
    files = {str(path.relative_to(root)): _sha256(path) for path in paths}
    table, how = with_splits(
        table.drop_columns("found"),
        test=config.test,
        val=config.val,
        val_from=config.val_from,
        seed=config.seed,
    )
    about |= {"dataset": config.name, "split": how, "files": json.dumps(files)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(about), sink)
    write_bytes(config.output, sink.getvalue().to_pybytes())
    return BuiltManifest(
        rows=table.num_rows,
        expected=PUBLIC_SETS[config.name].rows if config.own is None else None,
        missing=missing.num_rows,
        example=str(missing["uri"][0]) if missing.num_rows else "",
        unlisted=whole - table.num_rows,
        splits={s: table["split"].to_pylist().count(s) for s in SPLITS},
        files=files,
    )


def sets_table() -> str:
    """The table of public sets as text: two lines on each, what is expected and what it means."""
    lines = []
    for some in PUBLIC_SETS.values():
        scale = f"{some.scale.minimum:g}..{some.scale.maximum:g}"
        lines += [
            f"{some.name:<13}{some.title}: {some.task}, {some.kind}, {scale}, {some.rows:,} rows",
            f"{'':<13}files: {', '.join(some.expected) or 'unknown'}",
            f"{'':<13}media: {' or '.join(folder or '(root)' for folder in some.media)}",
            f"{'':<13}{some.meaning}",
            *_attributes(some),
            f"{'':<13}{some.citation}; {some.source_url}",
            f"{'':<13}terms: {some.terms}",
            f"{'':<13}certainty: {some.certainty}",
        ]
    return "\n".join(lines)


def _attributes(some: PublicSet) -> list[str]:
    if not some.attributes:
        return []
    return [f"{'':<13}columns: {', '.join(map(attribute_column, some.attributes))}"]


def _public_set(name: str) -> PublicSet:
    if name not in PUBLIC_SETS:
        raise ConfigError(
            f"there is no public set '{name}': use one of {', '.join(PUBLIC_SETS)}, or describe "
            "own data in own"
        )
    return PUBLIC_SETS[name]


def _own_table(config: ManifestConfig, own: OwnData, media: str) -> pa.Table:
    try:
        scale = Scale(*own.scale)
    except ValueError as error:
        raise ConfigError(f"own.scale: {error}") from None
    return own_csv(Path(config.root) / own.labels, media, scale, own.kind, config.name)


def _paths(some: PublicSet, root: Path) -> list[Path]:
    files = [f for one in some.files for f in (one, *one.beside)] + list(some.members.values())
    return [path for file in files for path in find_files(file, root)]


def _about(some: PublicSet) -> dict[str, str]:
    return {
        "about": f"{some.title}. {some.meaning}. Form of its files: {some.certainty}",
        "task": some.task,
        "scale": f"{some.scale.minimum:g}..{some.scale.maximum:g}",
        "licence": some.terms,
        "source": some.source_url,
        "citation": some.citation,
    }


def _about_own(own: OwnData) -> dict[str, str]:
    return {
        "about": "Own labels",
        "task": own.task,
        "scale": f"{own.scale[0]:g}..{own.scale[1]:g}",
        "licence": own.terms,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
