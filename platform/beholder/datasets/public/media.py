"""Where the media of annotated items lie: each folder is listed once, only if an item needs it."""

import os
from collections.abc import Sequence
from pathlib import Path

from beholder.media.storage import explained, open_filesystem


class Listings:
    """The names in folders, listed when they are first asked for."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}

    def names(self, place: str) -> dict[str, str]:
        """A folder's names by themselves and by their lower-case form; none if it isn't there.

        Raises:
            StorageError: the storage can't be used.
        """
        if place not in self._names:
            names = _list(place)
            self._names[place] = {n.lower(): n for n in names} | {n: n for n in names}
        return self._names[place]

    def has(self, uri: str) -> bool:
        """Whether there is an object of exactly this name."""
        place, _, name = uri.rpartition("/")
        return self.names(place).get(name) == name


class MediaFolders:
    """Finds items below a base, in several folders, in any case of letters.

    Args:
        base: a folder, or an ``s3://`` or ``file://`` prefix.
        folders: below it, to look in by turns; ``""`` is the base itself.
    """

    def __init__(self, base: str, folders: Sequence[str]) -> None:
        self._base = absolute(base).rstrip("/")
        self._folders = tuple(folders)
        self._listings = Listings()

    def find(self, item: str) -> tuple[str, bool]:
        """An item's URI and whether it is there; one that is not gets the first folder's.

        TID2013's annotations and file names differ in case, hence the tolerance.

        Raises:
            StorageError: the storage can't be used.
        """
        parent, _, name = item.rpartition("/")
        for folder in self._folders:
            place = "/".join(part for part in (self._base, folder, parent) if part)
            names = self._listings.names(place)
            real = names.get(name) or names.get(name.lower())
            if real is not None:
                return f"{place}/{real}", True
        return "/".join(part for part in (self._base, self._folders[0], item) if part), False


def absolute(place: str) -> str:
    """A URI as it is, a path as an absolute one."""
    return place if "://" in place else str(Path(place).absolute())


def _list(place: str) -> list[str]:
    with explained(place):
        try:
            if "://" in place:
                fs, path = open_filesystem(place)
                return [str(found).rpartition("/")[2] for found in fs.ls(path, detail=False)]
            with os.scandir(place) as entries:
                return sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
