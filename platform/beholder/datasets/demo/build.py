"""Builds the demo set: pictures, clips and four manifests, on a disk or in an object store."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beholder.datasets.demo.render import Made, Recipe, Row, render_source
from beholder.datasets.demo.sources import GROUPS, SOURCES, Source, find_sources
from beholder.datasets.splits import TEST, TRAIN, hold_out
from beholder.items import check_manifest
from beholder.media.storage import write_bytes

ABOUT = (
    "Demo set. The photographs and clips are real and come from installed packages; segment "
    "'pan' is a simulated camera movement over a photograph. The distortions, the latent "
    "qualities and the raters (mos, std, votes) are SIMULATED: nobody was asked."
)
TEST_SOURCES = {"photo": 6, "clip": 2}
VAL_SOURCES = {"photo": 3, "clip": 1}
DATASETS = ("quality", "aesthetics", "video")
WRITERS = 8

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("mos", pa.float64()),
        ("std", pa.float64()),
        ("votes", pa.list_(pa.int32())),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("segment", pa.string()),
        ("source", pa.string()),
        ("made_for", pa.string()),
        ("latent", pa.float64()),
        ("distortion", pa.string()),
        ("strength", pa.float64()),
    ],
    metadata={"about": ABOUT, "scale": "1..5"},
)
"""``latent`` is on 1..5. ``distortion`` joins two types by '+', in the order of application;
``strength`` is that of the stronger one, 0..1. ``made_for`` is the set for whose task a picture was
damaged: in the training split of another set it is one that was rated for both tasks."""
CATALOG_COLUMNS = ("item_id", "uri", "kind", "dataset", "segment")


@dataclass(frozen=True)
class DemoSet:
    """What was built.

    Attributes:
        manifests: URI of each manifest: ``quality``, ``aesthetics``, ``video``, ``catalog``.
        counts: rows by manifest and split, as ``counts["quality"]["test"]``.
        sources: sources by split.
        size: bytes of all media.
    """

    manifests: dict[str, str]
    counts: dict[str, dict[str, int]]
    sources: dict[str, list[str]]
    size: int


def build_demo(
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    uri_prefix: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> DemoSet:
    """Makes the demo set under ``out``; the same bytes for the same recipe.

    Args:
        out: a folder or a URI that :mod:`beholder.media.storage` can write to.
        recipe: how much of what; None for the quick start's.
        uri_prefix: what the manifests' URIs start with; None for ``out`` itself. Give it where
            the files are copied on to another place.
        workers: processes that render; 1 renders here.
        progress: called with (sources done, sources in all).

    Raises:
        DemoError: a package with pictures is missing.
    """
    recipe = recipe or Recipe()
    base = str(out).rstrip("/")
    prefix = (uri_prefix or base).rstrip("/")
    split = hold_out(GROUPS, TEST_SOURCES, VAL_SOURCES, recipe.seed)
    rows: dict[str, list[Row]] = {name: [] for name in DATASETS}
    size = 0
    with ThreadPoolExecutor(WRITERS) as writers:
        for done, (source, made) in enumerate(_rendered(recipe, workers), 1):
            list(writers.map(lambda m: write_bytes(f"{base}/{m.path}", m.data), made))
            for one in made:
                place = {"uri": f"{prefix}/{one.path}", "split": split[source.name]}
                for name, row in one.rows.items():
                    # Held out, a picture counts only for what it was damaged for.
                    if row["made_for"] == name or split[source.name] == TRAIN:
                        rows[name].append(row | place)
                size += len(one.data)
            if progress is not None:
                progress(done, len(SOURCES))
    tables = {name: _table(rows[name], name) for name in DATASETS}
    tables["catalog"] = _catalog(tables, base, prefix)
    return DemoSet(
        {name: _write_manifest(table, base, name) for name, table in tables.items()},
        {name: _counts(table) for name, table in tables.items()},
        {part: sorted(s for s in split if split[s] == part) for part in ("train", "val", "test")},
        size,
    )


def _rendered(recipe: Recipe, workers: int) -> Iterator[tuple[Source, list[Made]]]:
    paths = find_sources()
    # Clips first: they take longest.
    order = sorted(SOURCES, key=lambda source: source.group != "clip")
    if workers == 1:
        yield from ((s, render_source(s, paths[s.name], recipe)) for s in order)
        return
    # Not forked: the caller may hold threads and open connections.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running = {pool.submit(render_source, s, paths[s.name], recipe): s for s in order}
        for future in as_completed(running):
            yield running.pop(future), future.result()


def _table(rows: list[Row], name: str) -> pa.Table:
    ordered = sorted(rows, key=lambda row: row["item_id"])
    return check_manifest(pa.Table.from_pylist(ordered, schema=SCHEMA), f"demo {name}")


def _catalog(tables: dict[str, pa.Table], base: str, prefix: str) -> pa.Table:
    """The held-out pictures without their ratings, and four items that must end as failures."""
    columns = list(CATALOG_COLUMNS)
    parts = []
    for name in ("quality", "aesthetics"):
        table = tables[name]
        parts.append(table.filter(pc.equal(table["split"], TEST)).select(columns))
    bad: list[Row] = []
    for item_id, data in _bad_files().items():
        path = f"catalog/{item_id}.jpg"
        if data is not None:
            write_bytes(f"{base}/{path}", data)
        bad.append(
            {
                "item_id": item_id,
                "uri": f"{prefix}/{path}",
                "kind": "image",
                "dataset": "demo-bad",
                "segment": "bad",
            }
        )
    parts.append(pa.Table.from_pylist(bad, schema=parts[0].schema))
    return check_manifest(pa.concat_tables(parts), "demo catalog")


def _bad_files() -> dict[str, bytes | None]:
    photo = find_sources()["rocket"].read_bytes()
    return {
        "bad-truncated": photo[: len(photo) // 3],
        "bad-empty": b"",
        "bad-text": b"This is a text that was given the name of a picture.\n",
        "bad-missing": None,
    }


def _write_manifest(table: pa.Table, base: str, name: str) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    uri = f"{base}/{name}.parquet"
    write_bytes(uri, sink.getvalue().to_pybytes())
    return uri


def _counts(table: pa.Table) -> dict[str, int]:
    if "split" not in table.column_names:
        return {"all": table.num_rows}
    values, counts = table["split"].value_counts().flatten()
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))
