"""Manifests in object storage."""

import pyarrow as pa

from beholder.items import read_manifest
from beholder.media.storage import read_bytes


def load_manifest(uri: str, need: tuple[str, ...] = ()) -> pa.Table:
    """Reads and checks a manifest from a URI or path.

    Args:
        uri: of one Parquet file.
        need: optional columns that this use can't do without.

    Raises:
        StorageError: it can't be read.
        ManifestError: it is not a manifest, see :func:`beholder.items.check_manifest`.
    """
    return read_manifest(pa.BufferReader(read_bytes(uri)), uri, need)
