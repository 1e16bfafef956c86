"""What a catalog's Parquet files hold, and which bucket a key belongs to."""

import pyarrow as pa

BUCKET_SQL = "md5_number_lower({key}) % {buckets}"
"""The bucket of a key, in DuckDB: by MD5, the same in every version and on every machine."""

ITEM_FIELDS = [
    pa.field("item_id", pa.string()),
    pa.field("uri", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("owner", pa.string()),
    pa.field("segment", pa.string()),
    pa.field("created_at", pa.timestamp("us", tz="UTC")),
    pa.field("etag", pa.string()),  # of the bytes that were looked at, with size and sha256
    pa.field("size", pa.int64()),
    pa.field("sha256", pa.string()),  # null where they were never fetched whole
    pa.field("state", pa.string()),
    pa.field("failure_code", pa.string()),
    pa.field("failure_message", pa.string()),
    pa.field("attempts", pa.int32()),  # over all nights since its bytes last changed
    pa.field("bytes_read", pa.int64()),
    pa.field("run", pa.string()),  # that made this row
]
STATES = ("scored", "failed", "stale")
"""``scored``: its bytes have scores under the snapshot's fingerprint, for every task that fits its
kind. ``failed``: it has a failure and no score. ``stale``: its bytes have changed, or could not be
had again, and the older bytes' scores stand."""

ITEMS = pa.schema([*ITEM_FIELDS, pa.field("removed", pa.bool_())])
"""State by ``item_id``, in buckets of it: a row an item, in a delta also for removed ones."""

SCORE_VALUES = [
    pa.field("task", pa.string()),
    pa.field("mean", pa.float64()),
    pa.field("std", pa.float64()),  # with entropy, support and probs null for a point
    pa.field("entropy", pa.float64()),
    pa.field("support", pa.list_(pa.float64())),
    pa.field("probs", pa.list_(pa.float64())),
    pa.field("scale", pa.list_(pa.float64())),
    pa.field("mass", pa.float64()),
    pa.field("clip_means", pa.list_(pa.float64())),
    pa.field("coverage", pa.float64()),
]
SCORES = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("fingerprint", pa.string()),
        *SCORE_VALUES,
        pa.field("run", pa.string()),
    ]
)
"""State by ``sha256``, in buckets of it: a row for each (sha256, fingerprint, task)."""

PLANNED = pa.schema(
    [
        *ITEM_FIELDS[:8],  # item_id .. size: as the manifest has them now
        pa.field("change", pa.string()),  # one of WORK
        pa.field("known_sha256", pa.string()),  # bytes with this hash have scores already
        # Another item's bytes of the same etag, size and kind had this hash, and have scores.
        pa.field("likely_sha256", pa.string()),
        pa.field("attempts", pa.int32()),  # before this run
        pa.field("chunk", pa.int32()),
    ]
)
"""What a run looks at, a row an item. Items whose bytes are likely the same (equal etag and size)
stand next to each other in one chunk."""

WORK = ("new", "changed", "retried")
KEPT = ("unchanged", "stale", "removed", "left_out", "erased")
"""Items that a run doesn't look at. ``stale`` ones changed but were left out by a limit and keep
their old scores, ``left_out`` ones have none to keep. ``erased`` ones the manifest still names."""

CHUNK = pa.schema(
    [
        *ITEM_FIELDS,
        pa.field("scores", pa.list_(pa.struct(SCORE_VALUES))),
    ]
)
"""A chunk's data file, a row an item. ``scores`` is null where it failed, where the chunk holds
the same bytes with their scores in an earlier row, and where they were scored on another night."""
