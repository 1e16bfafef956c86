"""A snapshot as views in DuckDB, over its Parquet files where they are."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from beholder.catalog.layout import Layout
from beholder.catalog.record import KEYS, File, Record
from beholder.catalog.tables import ITEMS, SCORES
from beholder.catalog.tombstones import Tombstones
from beholder.media.storage import is_s3, open_filesystem


def create_views(
    connection: duckdb.DuckDBPyConnection, layout: Layout, record: Record, erased: Tombstones
) -> None:
    """Gives a connection the views ``items`` and ``scores`` of a snapshot, without erased items.

    Deltas are at most a fifth of their bases: their keys are what a query has to keep in memory,
    and DuckDB puts even these on disk where they are too many.
    """
    if is_s3(layout.root):
        connection.register_filesystem(open_filesystem(layout.root)[0])
    fingerprint = _quoted(record.fingerprint)
    seen = f"not removed and {erased.register(connection)}" if erased else "not removed"
    for table, schema, condition in (
        ("items", ITEMS, seen),
        ("scores", SCORES, f"fingerprint = {fingerprint}"),
    ):
        files = [file for bucket in record.files(table).values() for file in bucket]
        state = _state_sql(connection, layout, table, files, schema)
        columns = ", ".join(name for name in schema.names if name != "removed")
        connection.execute(
            f"create view {table} as select {columns} from ({state}) where {condition}"
        )


def _state_sql(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    table: str,
    files: Sequence[File],
    schema: pa.Schema,
) -> str:
    """The last row of each key; see :mod:`beholder.catalog.record`."""
    bases = [layout.absolute(file.path) for file in files if not file.deltas]
    deltas = [layout.absolute(file.path) for file in files if file.deltas]
    if not bases:
        connection.register(f"no_{table}", schema.empty_table())
        return f"from no_{table}"
    if not deltas:
        return f"from {_parquet(bases)}"
    keys = ", ".join(KEYS[table])
    order = pa.table({"path": deltas, "place": range(len(deltas))})
    connection.register("order_now", order)
    connection.execute(f"create table {table}_order as from order_now")
    connection.unregister("order_now")
    return f"""
        from {_parquet(bases)} anti join (select {keys} from {_parquet(deltas)}) using ({keys})
        union all by name
        select * exclude (path, place)
        from {_parquet(deltas, ", filename = 'path'")} join {table}_order using (path)
        qualify row_number() over (partition by {keys} order by place desc) = 1
    """


def _parquet(uris: Sequence[str], options: str = "") -> str:
    return f"read_parquet([{', '.join(map(_quoted, uris))}]{options})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
