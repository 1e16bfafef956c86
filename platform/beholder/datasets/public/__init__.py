"""Public sets: one table that describes them, and readers of the files their owners publish."""

from beholder.datasets.public.described import LabelError, LabelFile, PublicSet
from beholder.datasets.public.reading import read_public
from beholder.datasets.public.sets import PUBLIC_SETS

__all__ = ["PUBLIC_SETS", "LabelError", "LabelFile", "PublicSet", "read_public"]
