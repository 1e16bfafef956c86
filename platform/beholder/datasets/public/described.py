"""How a public set is described: which files, which columns, what they mean, who owns them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from beholder.errors import UserError
from beholder.opinions import Scale

Cells = dict[str, str]
"""One row's cells by column, as text."""

ASK = "not stated in its files: ask the owners at the source"
"""The terms of a set whose files carry none."""
IN_USE = "columns as many public readers of the original files use them"
"""The certainty about a set of which neither a copy nor a readme was seen."""


class LabelError(UserError, ValueError):
    """Label files that can't be used: the message names file, row and remedy."""


@dataclass(frozen=True)
class LabelFile:
    """One annotation file of a set.

    Attributes:
        path: below the set's folder; ``*`` matches several files, read in order of name.
        form: ``csv``; ``words``, separated by white space; ``xlsx``; ``mat``, one variable that
            is named as the only column; ``chat``, a JSON list of conversations as LLaMA-Factory
            takes them, with cells ``media`` and ``answer``, of each its first one and the last.
        columns: names of the columns where the file has no header. In ``words``, further words
            of a line are not read.
        split: of all its rows, where the file itself is a split.
        sheet: of an ``xlsx``.
        skip: rows at its start that belong to no item.
        only: keeps the rows with this text in this column.
        says: of ``chat``: keeps the conversations whose answer has this in it, a regular expression
            whose named groups become cells.
        derive: cells to add: each one's column, and what makes it of that column's text.
        beside: files with other columns of the same rows: joined by the columns that both have,
            or line by line where they have none in common.
    """

    path: str
    form: Literal["csv", "words", "xlsx", "mat", "chat"] = "csv"
    columns: tuple[str, ...] = ()
    split: str | None = None
    sheet: str | None = None
    skip: int = 0
    only: tuple[str, str] | None = None
    says: str = ""
    derive: Mapping[str, tuple[str, Callable[[str], str]]] = field(default_factory=dict)
    beside: tuple["LabelFile", ...] = ()


@dataclass(frozen=True)
class PublicSet:
    """A row of the table of sets.

    Attributes:
        name: its key.
        title: as its owners write it.
        task: what its ``mos`` rates.
        kind: of its media.
        scale: declared, in the unit of ``mos``: higher is better.
        meaning: what ``mos``, ``std`` and ``votes`` are.
        files: its annotation files.
        rows: how many the owners state, all files together.
        item: an item's path below a media folder, as a format string over the cells.
        media: folders to look in, in this order.
        source_url: where its owners publish it.
        terms: of use, as far as known.
        citation: the paper.
        certainty: how the form of the files is known.
        mos: its column; empty where the mean is taken over ``votes``.
        lower_is_better: ``mos`` is turned around within the scale.
        std: its column; empty where there is none, or where it is taken over ``votes``.
        votes: columns that count answers, worst to best, at equal steps over the scale.
        vote_total: column with the number of answers, where ``votes`` are fractions of it.
        attributes: columns with further mean opinions, by name.
        texts: columns with words about an item, by name.
        origin: the reference that a distorted item was made from, as a format string.
        split: column with the official split.
        split_names: our name of each of its values, in lower case.
        members: files that list the items of a split in a cell ``item``; all others are for
            training.
        member: what those lists call an item, as a format string.
    """

    name: str
    title: str
    task: Literal["quality", "aesthetics"]
    kind: Literal["image", "video"]
    scale: Scale
    meaning: str
    files: tuple[LabelFile, ...]
    rows: int
    item: str
    media: tuple[str, ...]
    source_url: str
    terms: str
    citation: str
    certainty: str
    mos: str = ""
    lower_is_better: bool = False
    std: str = ""
    votes: tuple[str, ...] = ()
    vote_total: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    split: str = ""
    split_names: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, LabelFile] = field(default_factory=dict)
    member: str = ""

    def __post_init__(self) -> None:
        assert self.mos or self.votes, "a mean comes from a column or from votes"
        assert bool(self.members) == bool(self.member)

    @property
    def expected(self) -> list[str]:
        """The paths of all files that are read, below the set's folder."""
        main = [path for one in self.files for path in (one, *one.beside)]
        return [one.path for one in (*main, *self.members.values())]
