"""What an erasure leaves behind: a receipt that only the holder of a key can hold against a name.

A receipt shows an auditor that a named item was erased, and when, and shows nobody else any name:
it holds HMAC-SHA256 of the names under the key in ``BEHOLDER_ERASURE_KEY``, which is written
nowhere. Without the key a receipt can't be searched, not even by guessing.
"""

import hmac
import os
from datetime import datetime

from pydantic import ValidationError

from beholder.catalog.layout import Layout
from beholder.catalog.record import Stored, read_if_there
from beholder.catalog.tombstones import keyed_hash, read_tombstones
from beholder.errors import UserError

KEY = "BEHOLDER_ERASURE_KEY"
KEY_BYTES = 32


class Receipt(Stored):
    """What became of one erasure."""

    erasure: str
    """its id"""
    at: datetime
    """since when readers see nothing of it"""
    removed_at: datetime
    """when nothing of it was left in any object of the catalog and its shadows"""
    items: tuple[str, ...]
    """keyed hashes of their ids, see :func:`verify`"""
    owners: tuple[str, ...]
    """the same of owners"""
    snapshots: tuple[str, ...]
    """those that were there, all of which were covered; a shadow's with its folder"""
    item_rows: int
    """taken out of the state; like the next ones those of the pass that finished, which may have
    done other erasures too, and not what a pass that died before had done"""
    score_rows: int
    """scores of bytes that no other item has"""
    replaced: tuple[str, ...]
    """objects written anew without what was erased"""
    removed: tuple[str, ...]
    """objects that went whole, replaced ones included"""


def erasure_key() -> bytes:
    """The key of keyed hashes.

    Raises:
        UserError: the environment variable is not set, or too short; the message doesn't hold it.
    """
    key = os.environ.get(KEY, "").encode()
    if len(key) < KEY_BYTES:
        what = f"has {len(key)} bytes" if key else "is not set"
        raise UserError(
            f"{KEY} {what}: set it to at least {KEY_BYTES} secret bytes, as `openssl rand -hex 32` "
            "prints them, and keep it: receipts are verified by it"
        )
    return key


def verify(receipt: Receipt, item_id: str, key: bytes) -> bool:
    """Whether a receipt is of an item, under the key that it was made with."""
    wanted = keyed_hash(key, item_id)
    return any(hmac.compare_digest(wanted, one) for one in receipt.items)


def read_receipt(layout: Layout, erasure: str) -> Receipt | None:
    """An erasure's receipt; None while something is left to remove.

    Raises:
        UserError: what is there is none.
        StorageError: the storage can't be used.
    """
    uri = layout.receipt(erasure)
    data = read_if_there(uri)
    try:
        return None if data is None else Receipt.model_validate_json(data)
    except ValidationError as error:
        raise UserError(
            f"{uri} is no receipt of this version ({error.errors()[0]['msg']}): read it with the "
            "version that wrote it"
        ) from None


def said_of_erased(layout: Layout, item_id: str) -> str | None:
    """A sentence on an erased item for whoever has the key; None for others.

    Raises:
        StorageError: the storage can't be used.
    """
    erasure = read_tombstones(layout).find(item_id)
    receipt = read_receipt(layout, erasure.id) if erasure else None
    try:
        if erasure is None or receipt is None or not verify(receipt, item_id, erasure_key()):
            return None
    except UserError:  # no key
        return None
    return (
        f"item '{item_id}' was erased at {erasure.at:%Y-%m-%d %H:%M} UTC, its rows are gone since "
        f"{receipt.removed_at:%Y-%m-%d %H:%M} UTC: see {layout.receipt(erasure.id)}"
    )
