"""Where a catalog keeps what: every URI below its root is made here.

::

    HEAD                                 which snapshot readers see; one conditional write moves it
    snapshots/2026-11-20.0.json          a snapshot: its files by bucket, counts, audit
    items/0007/2026-11-20.0-….parquet    state by item_id, bases and nightly deltas
    scores/0007/2026-11-20.0-….parquet   state by the bytes' sha256
    leases/2026-11-20.json               which driver may work on a date, by epoch
    leases/erasure.json                  which job removes what was erased
    tombstones/index.json                the erasures, and the file of what they name
    tombstones/all-….parquet             salted hashes of erased items and owners
    tombstones/2026-11-20-….json         an erasure's receipt
    runs/2026-11-20.0/plan.json          what the run will do; names its plan's files
    runs/2026-11-20.0/plan-…/…parquet    a row group a chunk
    runs/2026-11-20.0/warm-up.json       the scorer's speed, for estimates
    runs/2026-11-20.0/data/…parquet      chunk and attempt; nothing until a commit names it
    runs/2026-11-20.0/commits/….json     a chunk's commit record, written once
    runs/2026-11-20.0/report.html        and report.json, metrics.prom
    ranks/2026-11-20.0.json              names a snapshot's ranks and look-up files, written last
    ranks/2026-11-20.0/4f1c…/…           these files, a folder an attempt
    scorers/current                      which scorer's scores readers see, and since when
    shadows/<fingerprint>/…              a catalog of its own that another scorer fills, as above,
                                         but for tombstones, which are here only
    promotions/2026-11-20.1/report.md    two scorers compared; and report.json, calibration.json
"""

import datetime
import re
from dataclasses import dataclass

from beholder.errors import UserError

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHADOW = re.compile(r"(.+)/shadows/[0-9a-f]{16}")


@dataclass(frozen=True)
class RunId:
    """A logical date and its revision: 0 for the night itself, more for replays.

    A run's snapshot has the same name.
    """

    date: str
    revision: int = 0

    def __post_init__(self) -> None:
        try:
            known = _DATE.fullmatch(self.date) and datetime.date.fromisoformat(self.date)
        except ValueError:
            known = None
        if not known:
            raise UserError(f"logical date '{self.date}' is none: write it as 2026-11-20")

    def __str__(self) -> str:
        return f"{self.date}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> "RunId":
        """The id that was printed.

        Raises:
            UserError: it is none.
        """
        date, _, revision = text.partition(".")
        if not revision.isdecimal():
            raise UserError(f"'{text}' is no snapshot: write it as 2026-11-20.0")
        return cls(date, int(revision))


@dataclass(frozen=True)
class Layout:
    """URIs below a catalog's root.

    Attributes:
        root: URI of the catalog's folder, without a slash at its end.
    """

    root: str

    @property
    def head(self) -> str:
        """The one object that is ever overwritten by a publication."""
        return f"{self.root}/HEAD"

    def snapshot(self, snapshot: RunId) -> str:
        """A snapshot's record."""
        return f"{self.root}/snapshots/{snapshot}.json"

    def lease(self, date: str) -> str:
        """The lease of a logical date."""
        return f"{self.root}/leases/{date}.json"

    @property
    def home(self) -> "Layout":
        """The catalog that this one is a shadow of; itself, where it is none."""
        shadow = _SHADOW.fullmatch(self.root)
        return Layout(shadow[1]) if shadow else self

    @property
    def erasing(self) -> str:
        """The lease of whoever removes erased items; shadows share it."""
        return f"{self.home.root}/leases/erasure.json"

    @property
    def tombstones(self) -> str:
        """The index of what was erased; shadows share it."""
        return f"{self.home.root}/tombstones/index.json"

    def tombstone_file(self, name: str) -> str:
        """A file of tombstones; nothing until the index names it."""
        return f"{self.home.root}/tombstones/{name}.parquet"

    def receipt(self, erasure: str) -> str:
        """What an erasure has removed, written once."""
        return f"{self.home.root}/tombstones/{erasure}.json"

    def run(self, run: RunId) -> str:
        """The folder of a run."""
        return f"{self.root}/runs/{run}"

    def plan(self, run: RunId) -> str:
        """A run's plan, written once."""
        return f"{self.run(run)}/plan.json"

    def plan_file(self, run: RunId, attempt: str, name: str) -> str:
        """A file of a plan; nothing until a plan names it."""
        return f"{self.run(run)}/plan-{attempt}/{name}.parquet"

    def warm_up(self, run: RunId) -> str:
        """How fast the scorer was when it was tried for a run's estimate."""
        return f"{self.run(run)}/warm-up.json"

    def data(self, run: RunId, chunk: int, attempt: str) -> str:
        """A chunk's rows as one attempt made them; attempts never share a file."""
        return f"{self.run(run)}/data/{chunk:08d}-{attempt}.parquet"

    def commit(self, run: RunId, chunk: int) -> str:
        """The record that makes one attempt the chunk's."""
        return f"{self.run(run)}/commits/{chunk:08d}.json"

    def state(self, table: str, bucket: int, name: str) -> str:
        """A file of one bucket of ``items`` or ``scores``."""
        return f"{self.root}/{table}/{bucket:04d}/{name}.parquet"

    @property
    def current_scorer(self) -> str:
        """Which scorer's scores readers see; written by conditional writes alone."""
        return f"{self.root}/scorers/current"

    def shadow(self, fingerprint: str) -> "Layout":
        """The catalog that another scorer fills until it is promoted or given up.

        Raises:
            UserError: it is no fingerprint.
        """
        if not fingerprint.isalnum():  # it is read from a folder, and names one
            raise UserError(f"'{fingerprint}' is no fingerprint: export the scorer again")
        return Layout(f"{self.root}/shadows/{fingerprint}")

    def promotion(self, run: RunId, name: str) -> str:
        """A file about the promotion whose snapshot is ``run``."""
        return f"{self.root}/promotions/{run}/{name}"

    def ranks(self, snapshot: RunId) -> str:
        """The record of a snapshot's ranks and look-up files."""
        return f"{self.root}/ranks/{snapshot}.json"

    def ranks_file(self, snapshot: RunId, attempt: str, name: str) -> str:
        """A file of one attempt to rank a snapshot; nothing until the record names it."""
        return f"{self.root}/ranks/{snapshot}/{attempt}/{name}"

    def relative(self, uri: str) -> str:
        """A URI below the root as records keep it, so that a catalog can be moved."""
        assert uri.startswith(f"{self.root}/"), uri
        return uri.removeprefix(f"{self.root}/")

    def absolute(self, path: str) -> str:
        """The URI of what :meth:`relative` gave."""
        return f"{self.root}/{path}"
