"""Objects that are read piece by piece while the store has bad moments."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import patience
from beholder.catalog.manifest_files import ManifestFiles
from beholder.catalog.patience import PatientFile, patiently
from beholder.local_stack import ObjectStore
from beholder.media.storage import StorageError, write_bytes


@pytest.fixture
def proxied(s3: ObjectStore, fault_proxy: type, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """This process sees the S3 through a proxy that spoils requests, half of them when told so."""
    with fault_proxy(s3.endpoint, hang_s=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setattr(patience, "WAITS_S", (0.01,) * 20)
        yield proxy
        proxy.share = 0.0


def test_what_is_wrong_for_good_is_said_at_once(s3: ObjectStore) -> None:
    calls = []

    def gone() -> None:
        calls.append(1)
        raise StorageError("gone") from FileNotFoundError()

    with pytest.raises(StorageError, match="gone"):
        patiently(gone)
    assert len(calls) == 1
    with pytest.raises(StorageError, match="does not exist"):
        PatientFile(f"s3://{s3.bucket}/nothing")


def test_every_piece_comes(proxied, s3: ObjectStore) -> None:
    uri = f"s3://{s3.bucket}/patience/table.parquet"
    table = pa.table({"n": range(50_000), "text": [f"{n:x}" * 9 for n in range(50_000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=5_000)
    write_bytes(uri, sink.getvalue().to_pybytes())
    proxied.share = 0.5
    with PatientFile(uri) as file, pq.ParquetFile(file) as parquet:
        groups = [parquet.read_row_group(at) for at in range(parquet.num_row_groups)]
    assert pa.concat_tables(groups).equals(table)
    with PatientFile(uri) as file:
        assert file.seek(-4, io.SEEK_END) == file.tell()
        assert (file.read(), file.read(1)) == (b"PAR1", b"")


def test_a_manifest_is_read(proxied, s3: ObjectStore) -> None:
    folder = f"s3://{s3.bucket}/patience/lists"
    for part in range(3):
        rows = [{"item_id": f"{part}-{n}", "uri": "s3://b/x", "kind": "image"} for n in range(100)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        write_bytes(f"{folder}/{part}.parquet", sink.getvalue().to_pybytes())
    proxied.share = 0.5
    found = ManifestFiles.find(folder)
    assert pa.concat_tables(found.batches()).num_rows == found.rows == 300
    found.check_unmoved()
