"""Rows that tasks hand to each other through the catalog's storage.

A sender writes one object, with a range of bytes for each receiver; a receiver asks every sender's
object for its own range. So there are as many objects as senders, however many receivers, and
nobody holds more than what is his.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from beholder.catalog.patience import patiently
from beholder.media.storage import explained, open_filesystem, write_bytes

Ranges = dict[int, tuple[int, int]]
"""First byte and the one behind the last, by receiver."""
Parcel = tuple[str, int, int]
"""An object's URI, the first byte, and the one behind the last."""

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def send(uri: str, parts: Iterable[tuple[int, pa.Table]]) -> Ranges:
    """Writes rows for some receivers.

    Args:
        uri: of the object, of this sender alone.
        parts: receivers and their rows.

    Raises:
        StorageError: the storage can't be used.
    """
    sink, ranges = pa.BufferOutputStream(), {}
    for receiver, rows in parts:
        start = sink.tell()
        with pa.ipc.new_stream(sink, rows.schema, options=_LZ4) as writer:
            writer.write_table(rows.combine_chunks())
        ranges[receiver] = (start, sink.tell())
    data = sink.getvalue().to_pybytes()
    patiently(lambda: write_bytes(uri, data))
    return ranges


def addressed(sent: Mapping[str, Ranges], receivers: int) -> list[list[Parcel]]:
    """Each receiver's parcels, in the order of the senders.

    Args:
        sent: ranges by the senders' URIs.
        receivers: how many, from 0.
    """
    parcels: list[list[Parcel]] = [[] for _ in range(receivers)]
    for uri, ranges in sent.items():
        for receiver, (start, end) in ranges.items():
            parcels[int(receiver)].append((uri, start, end))
    return parcels


def receive(parcels: Sequence[Parcel], schema: pa.Schema) -> pa.Table:
    """The rows of some parcels, in their order; none give an empty table of the schema.

    Raises:
        StorageError: one can't be read.
    """
    if not parcels:
        return schema.empty_table()
    filesystem, _ = open_filesystem(parcels[0][0])
    paths = [open_filesystem(uri)[1] for uri, _, _ in parcels]
    starts, ends = [start for _, start, _ in parcels], [end for _, _, end in parcels]

    def read() -> list[Any]:
        with explained(parcels[0][0]):
            found: list[Any] = filesystem.cat_ranges(paths, starts, ends, on_error="raise")
            return found

    return pa.concat_tables([pa.ipc.open_stream(data).read_all() for data in patiently(read)])
