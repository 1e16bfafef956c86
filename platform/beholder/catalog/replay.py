"""Failed items of a published night, to be looked at again because a person asks for it."""

from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.tables import ITEM_FIELDS, PLANNED
from beholder.errors import UserError
from beholder.items import FailureCode

REPLAYED = pa.schema([field for field in PLANNED if field.name != "chunk"])
"""What a plan's rows are before they are cut into chunks."""


def replay_rows(
    items: Iterable[pa.Table], codes: Collection[str] = (), item_ids: Collection[str] = ()
) -> Iterator[pa.Table]:
    """Planned rows of the items that failed, whatever their codes' retry policies say.

    What failed because the object was no longer the manifest's version is asked for without a
    version now: a replay looks at what is there.

    Args:
        items: the snapshot's, of schema :data:`~beholder.catalog.tables.ITEM_FIELDS`, a bucket
            at a time.
        codes: of failures, as ``fetch.denied``; none for all.
        item_ids: only these; none for all.

    Yields:
        Tables of schema :data:`REPLAYED`; stale items carry the sha256 whose scores stand.

    Raises:
        UserError: a code is none; no item failed with these; an item that was asked for did not
            fail, or is not there. The latter two are raised at the end.
    """
    for code in codes:
        if code not in list(FailureCode):
            raise UserError(f"'{code}' is no failure's code: use one of {', '.join(FailureCode)}")
    wanted, found = pa.array(item_ids, pa.string()), 0
    missing = set(item_ids)
    for table in items:
        failed = table.filter(pc.is_valid(table["failure_code"]))
        if codes:
            some = pa.array(codes, pa.string())
            failed = failed.filter(pc.is_in(failed["failure_code"], value_set=some))
        if item_ids:
            failed = failed.filter(pc.is_in(failed["item_id"], value_set=wanted))
            missing -= set(failed["item_id"].to_pylist())
        if failed.num_rows:
            found += failed.num_rows
            yield _planned(failed)
    if missing:
        raise UserError(
            f"{len(missing)} of the items to replay did not fail or are not there, as "
            f"'{min(missing)}': leave them out"
        )
    if not found:
        of = f" with {', '.join(codes)}" if codes else ""
        raise UserError(f"no item of this snapshot failed{of}: there is nothing to replay")


def _planned(failed: pa.Table) -> pa.Table:
    moved = pc.equal(failed["failure_code"], str(FailureCode.FETCH_CHANGED))
    stale = pc.equal(failed["state"], "stale")
    nothing = pa.scalar(None, pa.string())
    columns = {field.name: failed[field.name] for field in ITEM_FIELDS[:8]} | {
        "etag": pc.if_else(moved, nothing, failed["etag"]),
        "size": pc.if_else(moved, pa.scalar(None, pa.int64()), failed["size"]),
        "change": pa.repeat("retried", failed.num_rows),
        "known_sha256": pc.if_else(stale, failed["sha256"], nothing),
        "attempts": failed["attempts"],
    }
    return pa.table({name: columns[name] for name in REPLAYED.names}, schema=REPLAYED)
