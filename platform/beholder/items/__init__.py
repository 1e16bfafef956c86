"""What goes through the house: items, the manifest that lists them, scores and failures."""

from beholder.items.failure import RETRY, Failure, FailureCode, ItemError, Retry
from beholder.items.item import Item, Kind
from beholder.items.manifest import ManifestError, check_manifest, check_rows, read_manifest
from beholder.items.score import Score

__all__ = [
    "RETRY",
    "Failure",
    "FailureCode",
    "Item",
    "ItemError",
    "Kind",
    "ManifestError",
    "Retry",
    "Score",
    "check_manifest",
    "check_rows",
    "read_manifest",
]
