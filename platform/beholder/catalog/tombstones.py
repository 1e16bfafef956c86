"""What was erased, as every reader of every snapshot applies it.

An erasure is a person's demand, so it holds for all snapshots, kept and to come, until an operator
lifts it: a manifest that still names the item doesn't bring it back, nor does a rollback.
``tombstones/index.json`` lists the erasures and names one Parquet file with all that they name; it
is moved on by If-Match, so of two erasures at once both count.

Items and owners are kept as SHA-256 of the catalog's salt and the name: readers have no key, and
DuckDB joins by the hash. The salt stands in the index. It keeps tables of known hashes and other
catalogs' tombstones from telling anything; who can read the catalog can still test a guess.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from beholder.catalog.buckets import query
from beholder.catalog.layout import Layout
from beholder.catalog.patience import patiently, trouble
from beholder.catalog.record import CatalogError, DamagedError, File, Stored
from beholder.catalog.state_files import read_file, store_file
from beholder.media.conditional import WriteConflictError, create, read_version, replace
from beholder.media.storage import StorageError, Trouble

TOMBSTONES = pa.schema(
    [
        pa.field("erasure", pa.string()),
        pa.field("what", pa.string()),  # a key of COLUMNS
        pa.field("hash", pa.string()),  # SHA-256 of salt, `what` and name, hexadecimal
        pa.field("keyed", pa.string()),  # HMAC-SHA256 of the name, see `keyed_hash`; for receipts
    ]
)
COLUMNS = {"item": "item_id", "owner": "owner"}
"""What can be erased, and the column that names it."""


class Erasure(Stored):
    """One demand."""

    id: str
    at: datetime
    """since when readers see nothing of it"""
    removed_at: datetime | None = None
    """when what it names had gone from all objects; its receipt says what went"""
    lifted_at: datetime | None = None
    """since when it doesn't hold any more"""


class Index(Stored):
    """What ``tombstones/index.json`` says."""

    salt: str
    file: File | None = None
    """of schema :data:`TOMBSTONES`, for all erasures"""
    erasures: tuple[Erasure, ...] = ()
    """oldest first"""


@dataclass(frozen=True)
class Tombstones:
    """Some erasures, held against rows.

    Attributes:
        salt: of the catalog.
        erasures: which ones.
        rows: what they name, of schema :data:`TOMBSTONES`.
    """

    salt: str
    erasures: tuple[Erasure, ...]
    rows: pa.Table

    def __bool__(self) -> bool:
        """Whether they name anything."""
        return bool(self.rows.num_rows)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the erasures."""
        return tuple(one.id for one in self.erasures)

    def hidden(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Which rows nobody may see: of an erased item, or with an erased owner; bool (rows,).

        Args:
            rows: with a column ``item_id``, and ``owner`` if that is to count.
        """
        mask = self.named(rows, "item")
        return mask | self.named(rows, "owner") if "owner" in rows.column_names else mask

    def named(self, rows: pa.Table, what: str) -> NDArray[np.bool_]:
        """Which rows have an erased ``item`` or ``owner``; bool (rows,)."""
        mask = np.zeros(rows.num_rows, bool)
        if what in self._hashes:
            names = pa.table({"name": rows[COLUMNS[what]], "place": np.arange(rows.num_rows)})
            sql = f"select place from names semi join t on t.hash = {hash_sql(self.salt, what)}"
            found = query(sql, names=names, t=pa.table({"hash": list(self._hashes[what])}))
            mask[found["place"].to_numpy()] = True
        return mask

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows that may be seen."""
        return rows.filter(pa.array(~self.hidden(rows))) if self else rows

    def find(self, item_id: str) -> Erasure | None:
        """The last erasure that names an item itself."""
        wanted = name_hash(self.salt, "item", item_id)
        if wanted not in self._hashes.get("item", ()):
            return None
        pairs = zip(self.rows["hash"].to_pylist(), self.rows["erasure"].to_pylist(), strict=True)
        ids = {erasure for found, erasure in pairs if found == wanted}
        return next((one for one in reversed(self.erasures) if one.id in ids), None)

    def in_text(self, text: str) -> bool:
        """Whether a message starts with an erased item, is one, or has one in quotes."""
        words = text.split(" ")
        names = {" ".join(words[:n]) for n in range(1, len(words) + 1)}
        names.update(re.findall("'([^']*)'", text))
        erased = self._hashes.get("item", frozenset())
        return any(name_hash(self.salt, "item", name) in erased for name in names)

    def register(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Gives a connection the table ``erased``; the SQL condition on rows that may be seen."""
        connection.register("erased_now", self.rows.select(["what", "hash"]))
        connection.execute("create table erased as from erased_now")
        connection.unregister("erased_now")
        return " and ".join(
            f"coalesce({hash_sql(self.salt, what, column)}, '') not in (select hash from erased)"
            for what, column in COLUMNS.items()
        )

    @cached_property
    def _hashes(self) -> dict[str, frozenset[str]]:
        kinds, hashes = self.rows["what"].to_pylist(), self.rows["hash"].to_pylist()
        found: dict[str, set[str]] = {}
        for what, one in zip(kinds, hashes, strict=True):
            found.setdefault(what, set()).add(one)
        return {what: frozenset(some) for what, some in found.items()}


def name_hash(salt: str, what: str, name: str) -> str:
    """What a tombstone keeps of a name."""
    return hashlib.sha256(f"{salt}{what} {name}".encode()).hexdigest()


def hash_sql(salt: str, what: str, column: str = "name") -> str:
    """The same in DuckDB, of a column."""
    return f"sha256('{salt}{what} ' || {column})"


def keyed_hash(key: bytes, name: str) -> str:
    """What a receipt keeps of a name: HMAC-SHA256 (RFC 2104), hexadecimal."""
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()


def read_tombstones(layout: Layout, erasures: Collection[str] | None = None) -> Tombstones:
    """What was erased from a catalog.

    Args:
        layout: of the catalog, or of a shadow of it.
        erasures: ids of those that count, lifted or not; None for all that hold now.

    Raises:
        DamagedError: index or file are damaged.
        StorageError: the storage can't be used.
    """
    index, _ = read_index(layout)
    if index is None or index.file is None:
        return Tombstones("", (), TOMBSTONES.empty_table())
    some = tuple(
        one
        for one in index.erasures
        if (one.lifted_at is None if erasures is None else one.id in erasures)
    )
    rows = _rows_of(layout.home, index.file)
    known = pa.table({"erasure": pa.array([one.id for one in some], pa.string())})
    kept = query("from rows semi join known using (erasure)", rows=rows, known=known)
    return Tombstones(index.salt, some, kept)


def read_index(layout: Layout) -> tuple[Index | None, str]:
    """The index and its version; None and no version where nothing was ever erased.

    Raises:
        DamagedError: it is damaged.
        StorageError: the storage can't be used.
    """
    try:
        data, version = patiently(lambda: read_version(layout.tombstones))
        return Index.model_validate_json(data), version
    except ValidationError as error:
        raise DamagedError(
            f"{layout.tombstones} is damaged ({error.errors()[0]['msg']}): restore its last "
            "version; until then nobody can tell what was erased"
        ) from None
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        return None, ""


def bury(
    layout: Layout, named: Iterable[tuple[str, str]], key: bytes, erasure: str | None = None
) -> str | None:
    """Sets tombstones; readers apply them from now on.

    Args:
        layout: of the catalog.
        named: what is erased, as ``("item", its id)`` or ``("owner", the owner)``.
        key: of the keyed hashes.
        erasure: to which they are added; None makes a new one.

    Returns:
        The erasure's id; None where all that is named has a tombstone already.

    Raises:
        DamagedError: the index is damaged.
        StorageError: the storage can't be used.
    """
    named = tuple(dict.fromkeys(named))
    while True:
        index, version = read_index(layout)
        index = index or Index(salt=secrets.token_hex(16))
        there = read_tombstones(layout).rows["hash"].to_pylist() if index.file else []
        hashes = {one: name_hash(index.salt, *one) for one in named}
        fresh = [one for one in named if hashes[one] not in set(there)]
        if not fresh:
            return None
        now = datetime.now(UTC)
        name = erasure or f"{now.date()}-{uuid4().hex[:8]}"
        rows = [
            {"erasure": name, "what": o[0], "hash": hashes[o], "keyed": keyed_hash(key, o[1])}
            for o in fresh
        ]
        file = _stored(layout, index, pa.Table.from_pylist(rows, schema=TOMBSTONES))
        new = () if erasure else (Erasure(id=name, at=now),)
        changed = index.model_copy(update={"file": file, "erasures": (*index.erasures, *new)})
        if _moved_on(layout, changed, version):
            return name


def mark(layout: Layout, times: Mapping[str, Mapping[str, datetime]]) -> None:
    """Notes times of erasures, as ``{id: {"removed_at": now}}``.

    Raises:
        CatalogError: one isn't there.
        StorageError: the storage can't be used.
    """
    while True:
        index, version = read_index(layout)
        known = {one.id: one for one in index.erasures} if index else {}
        for name in times:
            if name not in known:
                raise CatalogError(f"{layout.tombstones} has no erasure '{name}': check its id")
        assert index is not None or not times
        if index is None:
            return
        changed = index.model_copy(
            update={
                "erasures": tuple(
                    one.model_copy(update=dict(times.get(one.id, {}))) for one in index.erasures
                )
            }
        )
        if _moved_on(layout, changed, version):
            return


def _stored(layout: Layout, index: Index, fresh: pa.Table) -> File:
    home = layout.home
    before = _rows_of(home, index.file) if index.file else TOMBSTONES.empty_table()
    uri = layout.tombstone_file(f"all-{uuid4().hex[:12]}")
    return store_file(home, uri, pa.concat_tables([before, fresh]), deltas=False)


def _moved_on(layout: Layout, index: Index, version: str) -> bool:
    """Writes the index over the version that was read; False where somebody else was first."""
    uri, data = layout.tombstones, index.encode()
    try:
        patiently(lambda: replace(uri, data, version) if version else create(uri, data))
    except WriteConflictError:
        return False
    return True


@lru_cache(maxsize=2)
def _rows_of(home: Layout, file: File) -> pa.Table:
    """A file's rows; it is never written again."""
    return read_file(home, file)
