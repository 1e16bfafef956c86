"""HEAD, the one object that says which snapshot readers see, and the two ways to move it.

A snapshot is published in two writes, its record by ``create`` and then HEAD by If-Match; whoever
dies between them leaves a whole record that nobody sees, and the next try goes on from there. A
rollback is the second write alone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count

from pydantic import ValidationError

from beholder.catalog.layout import Layout, RunId
from beholder.catalog.patience import patiently, trouble
from beholder.catalog.record import CatalogError, DamagedError, Record, Stored, find_record, lineage
from beholder.media.conditional import WriteConflictError, create, read_version, replace
from beholder.media.storage import StorageError, Trouble, list_files

RESTORED = (
    '{"snapshot": "2026-11-20.0", "reason": "restored", "by": "me", "at": "2026-11-20T08:00:00Z"}'
)
"""What a person may write into a HEAD that was damaged."""


class Head(Stored):
    """What HEAD says."""

    snapshot: str
    """that readers see"""
    reason: str
    """why it is this one"""
    by: str
    """who moved it"""
    at: datetime
    withdrawn: tuple[str, ...] = ()
    """snapshots that were rolled back: none of them is published again but by name"""


class NotPublishedError(CatalogError):
    """A snapshot that HEAD can't be moved to: somebody else has moved it."""


def read_head(layout: Layout) -> Head | None:
    """Which snapshot readers see; None before the first publication.

    Raises:
        DamagedError: HEAD is damaged.
        StorageError: the storage can't be used.
    """
    return _read(layout)[0]


def refuse_lost_head(layout: Layout, ours: RunId | None = None) -> None:
    """Refuses a catalog without a HEAD that has snapshots: it would be taken for a new one.

    Args:
        layout: of a catalog without a HEAD.
        ours: a run whose driver may have died between record and HEAD of a catalog's first night.

    Raises:
        DamagedError: there are other runs' snapshots; the message names the newest.
        StorageError: the storage can't be used.
    """
    found = patiently(lambda: list_files(f"{layout.root}/snapshots"))
    names = [uri.rpartition("/")[2].removesuffix(".json") for uri in found if uri.endswith(".json")]
    others = sorted({*names} - {str(ours)})
    if others:
        raise DamagedError(
            f"{layout.head} is gone, though {layout.root} has snapshots up to {others[-1]}: write "
            f"{RESTORED} into it, with the id of the one that readers shall see"
        )


def lost_record(layout: Layout, head: Head) -> DamagedError:
    """What to say where HEAD names a snapshot that has no record."""
    return DamagedError(
        f"{layout.head} names {head.snapshot}, which has no record: put {layout.root}/snapshots/"
        f"{head.snapshot}.json back, or take readers to another one with jobs/rollback.py "
        "--set to=..., as it is called in snapshots/"
    )


def publish(layout: Layout, record: Record, by: str) -> None:
    """Makes a snapshot what readers see.

    Args:
        layout: of the catalog.
        record: of a snapshot whose files are all written, and found right.
        by: who does it.

    Raises:
        NotPublishedError: another driver was first, with this snapshot's name or from this
            snapshot's parent; nothing of ours is visible.
        StorageError: the storage can't be used; a new try, by :func:`finish`, goes on.
    """
    uri = layout.snapshot(RunId.parse(record.id))
    try:
        patiently(lambda: create(uri, record.encode()))
    except WriteConflictError as error:
        raise NotPublishedError(
            f"{uri} was written by another driver of {record.id}: run the date again, which "
            "takes that one"
        ) from error
    _advance(layout, record, by)


def finish(layout: Layout, run: RunId, by: str) -> Record | None:
    """What an earlier try of a run has left to do: asked before a run begins.

    Returns:
        The run's snapshot if it is recorded: it is published now, if it wasn't yet. None where
        the run has not come as far.

    Raises:
        NotPublishedError: it was rolled back, or HEAD has gone another way meanwhile.
        StorageError: the storage can't be used.
    """
    record = find_record(layout, run)
    head = read_head(layout)
    if head is not None and str(run) in head.withdrawn:
        remedy = f"to have it again, run jobs/rollback.py with --set to={run}"
        if record is None:
            remedy = "it has been collected as garbage since, run the next date"
        raise NotPublishedError(
            f"{run} was rolled back, and HEAD names {head.snapshot} ({head.reason}): {remedy}"
        )
    if record is None:
        return None
    if head is None or all(seen.id != record.id for seen in lineage(layout, head.snapshot)):
        _advance(layout, record, by)
    return record


def next_revision(layout: Layout, live: Record, fingerprint: str) -> tuple[RunId, bool]:
    """What a new revision of the date that readers see is called; one that was rolled back stays
    rolled back, and its name is not used again.

    Args:
        layout: of the catalog.
        live: what readers see.
        fingerprint: of the revision's scorer.

    Returns:
        The name, and whether an earlier try has recorded it already: then :func:`finish` goes on.

    Raises:
        StorageError: the storage can't be used.
    """
    head = read_head(layout)
    assert head is not None
    seen = RunId.parse(live.id)
    for revision in count(seen.revision + 1):
        run = RunId(seen.date, revision)
        if str(run) in head.withdrawn:
            continue
        record = find_record(layout, run)
        if record is None:
            return run, False
        if (record.parent, record.fingerprint) == (live.id, fingerprint):
            return run, True
    raise AssertionError("revisions have no end")


def roll_back(layout: Layout, to: str | None, by: str, reason: str = "rolled back") -> Head:
    """Lets readers see another snapshot, by default the parent of the one they see.

    Args:
        layout: of the catalog.
        to: a snapshot's id; also a later one, that was rolled back.
        by: who does it.
        reason: why, for HEAD.

    Raises:
        CatalogError: there is no such snapshot, or nothing to go back to.
        WriteConflictError: somebody else has moved HEAD at the same moment.
        StorageError: the storage can't be used.
    """
    head, version = _read(layout)
    if head is None:
        refuse_lost_head(layout)
        raise CatalogError(
            f"{layout.root} has no published snapshot: there is nothing to roll back"
        )
    left = [record.id for record in lineage(layout, head.snapshot)]
    if to is None:
        here = find_record(layout, RunId.parse(head.snapshot))
        if here is None:
            raise lost_record(layout, head)
        to = here.parent
        if to is None:
            raise CatalogError(f"{head.snapshot} is the first snapshot: name another by --set to=…")
    reached = [record.id for record in lineage(layout, to)]
    if not reached:
        raise CatalogError(f"{layout.root} has no snapshot {to}: it was never made, or collected")
    withdrawn = {*head.withdrawn, *left} - set(reached)
    moved = _head(to, reason, by, sorted(withdrawn))
    patiently(lambda: _write(layout, moved.encode(), version))
    return moved


def _advance(layout: Layout, record: Record, by: str) -> None:
    """Moves HEAD from a snapshot's parent to it; where it is there already, that is all."""
    head, version = _read(layout)
    seen = head.snapshot if head else None
    if seen == record.id:
        return
    if seen != record.parent:
        raise NotPublishedError(
            f"{record.id} was made from {record.parent or 'nothing'}, but HEAD names "
            f"{seen or 'nothing'} ({head.reason if head else 'it is gone'}): another publication "
            "or a rollback came between; run the next date, which starts from there"
        )
    moved = _head(record.id, "published", by, head.withdrawn if head else ()).encode()
    try:
        patiently(lambda: _write(layout, moved, version))
    except WriteConflictError as error:
        there = read_head(layout)
        if there is None or there.snapshot != record.id:
            raise NotPublishedError(
                f"{record.id} is not published: {there.by if there else 'somebody'} moved HEAD to "
                f"{there.snapshot if there else 'nothing'} at the same moment; run the next date, "
                "which starts from there"
            ) from error


def _head(snapshot: str, reason: str, by: str, withdrawn: Iterable[str]) -> Head:
    return Head(
        snapshot=snapshot, reason=reason, by=by, at=datetime.now(UTC), withdrawn=tuple(withdrawn)
    )


def _write(layout: Layout, head: bytes, version: str) -> None:
    """Writes HEAD over the version that was read; over none, if there was none."""
    _ = replace(layout.head, head, version) if version else create(layout.head, head)


def _read(layout: Layout) -> tuple[Head | None, str]:
    """HEAD and its version; None and no version before the first publication."""
    try:
        data, version = patiently(lambda: read_version(layout.head))
        return Head.model_validate_json(data), version
    except ValidationError as error:
        raise DamagedError(
            f"{layout.head} is damaged ({error.errors()[0]['msg']}): write {RESTORED} into it, "
            "with the id of one that stands in snapshots/"
        ) from None
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        return None, ""
