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
from beholder.datasets.public.tables import find_files
from beholder.datasets.splits import TEST, TRAIN, VAL, hold_out
from beholder.media.storage import write_bytes
from beholder.opinions import Scale


class OwnData(JobConfig):
    """Labels of the user's own."""

    labels: str = "labels.csv"
    """CSV below root: uri, mos, optional std, c1..cK or votes, split, source"""
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
    test: float = Field(0.2, ge=0, lt=1)
    """share of sources held out for test, in a set without official split"""
    val: float = Field(0.05, ge=0, lt=1)
    """share of sources held out for val, in a set without official val rows"""
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
        splits: rows by split.
        files: sha256 of each annotation file, by its path below the root.
    """

    rows: int
    expected: int | None
    missing: int
    example: str
    splits: Mapping[str, int]
    files: Mapping[str, str]


def build_manifest(config: ManifestConfig) -> BuiltManifest:
    """Writes a manifest: the items, their labels and splits, and the provenance.

    An official split is kept. Where there is none, or none for val, whole sources are held out,
    so that no picture made from a source in training is tested. Missing media stay in the
    manifest: training and scoring report them.

    Provenance stands in the schema's metadata: ``dataset``, ``about``, ``task``, ``scale``
    (``minimum..maximum``), ``licence``, ``source``, ``citation``, ``split`` and ``files`` (JSON,
    sha256 by path).

    Raises:
        ConfigError: no such set, or shares that leave nothing to train on.
        LabelError: the annotation files can't be used, or none of the media is there.
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
    missing = table.filter(pc.invert(table["found"]))
    if missing.num_rows == table.num_rows:
        raise LabelError(
            f"none of the {table.num_rows} media is below {media}, as {missing['uri'][0]}: give "
            "the folder that holds them as media"
        )
    files = {str(path.relative_to(root)): _sha256(path) for path in paths}
    table, how = _with_splits(table.drop_columns("found"), config)
    about |= {"dataset": config.name, "split": how, "files": json.dumps(files)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(about), sink)
    write_bytes(config.output, sink.getvalue().to_pybytes())
    return BuiltManifest(
        rows=table.num_rows,
        expected=PUBLIC_SETS[config.name].rows if config.own is None else None,
        missing=missing.num_rows,
        example=str(missing["uri"][0]) if missing.num_rows else "",
        splits={s: table["split"].to_pylist().count(s) for s in (TRAIN, VAL, TEST)},
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
            f"{'':<13}{some.citation}; {some.source_url}",
            f"{'':<13}terms: {some.terms}",
            f"{'':<13}certainty: {some.certainty}",
        ]
    return "\n".join(lines)


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


def _with_splits(table: pa.Table, config: ManifestConfig) -> tuple[pa.Table, str]:
    """The table with a split in every row, and how that came to be."""
    count = table.num_rows
    official = table["split"].to_pylist() if "split" in table.column_names else [None] * count
    none = not any(official)
    if not none and None in official:
        raise LabelError(
            f"row {official.index(None) + 1} of set {config.name} has no split and others have: "
            "give all rows one, or none"
        )
    share_test = config.test if none else 0.0
    share_val = 0.0 if VAL in official else config.val
    origin = table["source"] if "source" in table.column_names else table["item_id"]
    sources = [
        a or b for a, b in zip(origin.to_pylist(), table["item_id"].to_pylist(), strict=True)
    ]
    parted = {s: "" for s, split in zip(sources, official, strict=True) if split in (None, TRAIN)}
    if not parted or not share_test + share_val:
        return _set_split(
            table, [split or TRAIN for split in official]
        ), "none" if none else "official"
    test, val = (max(1, round(s * len(parted))) if s else 0 for s in (share_test, share_val))
    if test + val >= len(parted):
        raise ConfigError(
            f"test {config.test} and val {config.val} of {len(parted)} sources leave none to train "
            "on: lower them"
        )
    held = hold_out(parted, {"": test}, {"": val}, config.seed)
    split = [
        s if s in (VAL, TEST) else held[name] for s, name in zip(official, sources, strict=True)
    ]
    how = f"{test} and {val} of {len(parted)} sources held out for test and val, seed {config.seed}"
    return _set_split(table, split), how if none else f"official; {how}"


def _set_split(table: pa.Table, split: list[str]) -> pa.Table:
    if "split" in table.column_names:
        table = table.drop_columns("split")
    return table.append_column("split", pa.array(split))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
