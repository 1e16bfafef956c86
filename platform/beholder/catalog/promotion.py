"""A shadow takes the place of what readers see: compared first, then switched by one write.

The new snapshot is the shadow's: its record names the shadow's files where they are, and
beside them rows for what differs from the catalog. It has the name of a revision of HEAD's night
and that snapshot as its parent, so that it is published and taken back like any other. Items that
the shadow lacks have no row in it: the next night finds them new and scores them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from beholder.catalog.buckets import query
from beholder.catalog.current_scorer import settle_current
from beholder.catalog.drift import as_records, from_records, pool
from beholder.catalog.head import finish, next_revision, publish, read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease, wait_until_free
from beholder.catalog.overlap import Coverage, Overlap, overlap
from beholder.catalog.prepare import prepare
from beholder.catalog.promotion_report import PAGE, PromotionConfig, criteria, write_promotion
from beholder.catalog.record import CatalogError, File, Record, lineage
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.evaluation.succession import Criterion
from beholder.scoring import outline_scorer

OutcomeName = Literal["promoted", "refused", "standing"]
EXIT_CODES: Mapping[str, int] = {"promoted": 0, "standing": 0, "refused": 3}
"""``standing``: readers see this scorer's scores already."""


@dataclass(frozen=True)
class Promotion:
    """How a promotion ended.

    Attributes:
        name: see :data:`EXIT_CODES`.
        snapshot: that readers see now.
        refused: sentences on what is below its threshold.
        report: URI of the page; None where nothing was compared.
    """

    name: OutcomeName
    snapshot: str
    refused: tuple[str, ...] = ()
    report: str | None = None

    @property
    def exit_code(self) -> int:
        """Of the job."""
        return EXIT_CODES[self.name]


def promote(config: PromotionConfig) -> Promotion:
    """Lets readers see a shadow's scores if it has enough of them, and near enough.

    Whatever ends it, the same call goes on: until HEAD is moved readers see the old scorer's
    scores, from then on the new one's, and ``scorers/current`` follows.

    Raises:
        LeaseTakenError: a night or another promotion works on the date of HEAD's snapshot.
        NotPublishedError: HEAD was moved meanwhile.
        CatalogError: there is no snapshot, no shadow of this scorer, or they don't fit together.
        StorageError: the storage can't be used.
    """
    layout = Layout(config.catalog)
    fingerprint = outline_scorer(config.scorer).file.fingerprint
    date = open_snapshot(layout.root).id.date
    with Lease(layout.lease(date), take_over=config.take_over) as lease:
        wait_until_free(layout.erasing)
        live = open_snapshot(layout.root)
        if live.id.date != date:
            raise CatalogError(f"HEAD was moved from {date} to {live.id}: run this again")
        if live.record.fingerprint == fingerprint:
            settle_current(layout)
            return Promotion("standing", live.record.id)
        run, recorded = next_revision(layout, live.record, fingerprint)
        report = layout.promotion(run, PAGE)
        if recorded:
            finish(layout, run, lease.holder)
        else:
            shadow = _shadow(layout, live, fingerprint)
            found = overlap(live, shadow, str(run), config.compared)
            held = criteria(config, live.record, shadow.record, found)
            refused = tuple(c.sentence for c in held if not c.ok)
            write_promotion(live, shadow, run, found, held)
            if refused:
                return Promotion("refused", live.record.id, refused, report)
            record = _prepared(config, live, shadow, run, found, held)
            lease.check()
            publish(layout, record, lease.holder)
        settle_current(layout)
    return Promotion("promoted", str(run), report=report)


def _shadow(layout: Layout, live: Snapshot, fingerprint: str) -> Snapshot:
    """The shadow's snapshot as one of the catalog itself: its paths are below the catalog's root.

    It is read through the catalog's own reader, like everything that readers see.
    """
    inside = layout.shadow(fingerprint)
    if read_head(inside) is None:
        raise CatalogError(
            f"{layout.root} has no shadow of fingerprint {fingerprint}: set shadow.scorer in the "
            "night's config, and let nights fill it"
        )
    record = open_snapshot(inside.root).record
    if record.buckets != live.record.buckets:
        raise CatalogError(
            f"{inside.root} has {record.buckets} buckets and the catalog {live.record.buckets}: "
            "remove the shadow, and let nights fill it anew"
        )

    def moved(files: Mapping[int, tuple[File, ...]]) -> dict[int, tuple[File, ...]]:
        return {
            bucket: tuple(
                f.model_copy(update={"path": layout.relative(inside.absolute(f.path))})
                for f in some
            )
            for bucket, some in files.items()
        }

    files = {"items": moved(record.items), "scores": moved(record.scores)}
    return Snapshot(layout, record.model_copy(update=files))


def _prepared(
    config: PromotionConfig,
    live: Snapshot,
    shadow: Snapshot,
    run: RunId,
    found: Overlap,
    held: Sequence[Criterion],
) -> Record:
    coverage = found.coverage
    draft = shadow.record.model_copy(
        update={
            "id": str(run),
            "parent": shadow.record.id,  # whose files it starts from
            "manifest": live.record.manifest,
            "config": config.model_dump(mode="json"),
            "counts": {"stale": coverage.outdated, "left_out": coverage.left_out},
            "audit": {"checks": [asdict(c) for c in held]},
            "drift": _pooled(shadow),
        }
    )
    record = prepare(live.layout, draft, shadow, (), found.different)
    record = record.model_copy(update={"parent": live.record.id})
    _check_balance(live, Snapshot(live.layout, record), coverage)
    return record


def _pooled(shadow: Snapshot) -> dict[str, Any]:
    """What the shadow's nights scored, so that the next night is compared with the same scorer."""
    inside = shadow.layout.shadow(shadow.record.fingerprint)
    nights = list(lineage(inside, shadow.record.id))
    mass: dict[str, float] = {}
    for night in nights[::-1]:
        mass |= night.drift.get("mass", {})
    histograms = pool(from_records(night.drift.get("histograms", ())) for night in nights)
    return {"histograms": as_records(histograms), "mass": mass}


def _check_balance(live: Snapshot, new: Snapshot, coverage: Coverage) -> None:
    """Raises unless what was written holds the catalog's items but those left out, and no other."""
    absent = 0
    for bucket in range(live.record.buckets):
        tables = {"l": live.items(bucket), "n": new.items(bucket)}
        found = query(
            "select l.item_id is null as foreign_one, count(*) as items, "
            "min(coalesce(l.item_id, n.item_id)) as key from l full join n using (item_id) "
            "where l.item_id is null or n.item_id is null group by all",
            **tables,
        )
        for row in found.to_pylist():
            if row["foreign_one"]:
                raise CatalogError(
                    f"{new.record.id} would show item '{row['key']}', which the catalog has not: "
                    "nothing is published; report it, it is a bug"
                )
            absent += row["items"]
    if absent != coverage.left_out:
        raise CatalogError(
            f"{new.record.id} would lack {absent} items, not {coverage.left_out} as counted: "
            "nothing is published; run this again, and report it if it comes back"
        )
