"""The lease of a logical date: at most one driver works on it, and a later one fences an earlier.

A lease lasts for some seconds by the wall clock of the machine that wrote it and is renewed at
every third of them. Machines' clocks may differ by up to :data:`SKEW_S`. Where they differ by
more, or a driver is held up between a check and the write that it guards, two drivers may work at
a time; the catalog stays right even then, because chunks are committed by ``create`` and HEAD
moves by If-Match: work is done twice, and one of the two is told so.
"""

import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from uuid import uuid4

from beholder.catalog.patience import patiently, trouble
from beholder.errors import UserError
from beholder.logs import event
from beholder.media.conditional import WriteConflictError, create, read_version, replace
from beholder.media.storage import StorageError, Trouble

log = logging.getLogger(__name__)

POLL_S = 5.0
SKEW_S = 5.0
"""How far the clocks of two drivers' machines may be apart, in seconds."""


class LeaseTakenError(UserError):
    """Another driver works on the date."""


class LeaseLostError(UserError):
    """Another driver has taken the date over: this one must stop."""


@dataclass(frozen=True)
class _Record:
    epoch: int
    holder: str
    expires: float  # Unix time; 0 once it was given back

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, data: bytes, uri: str) -> "_Record":
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{uri} is no lease ({error}): make sure that no driver works on the date, remove "
                "it, and run the date again"
            ) from error


def holder(uri: str) -> str | None:
    """Who holds a lease now; None where nobody does.

    Raises:
        StorageError: the storage can't be used.
    """
    try:
        there = _Record.read(patiently(lambda: read_version(uri))[0], uri)
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        return None
    return there.holder if there.expires + SKEW_S > time.time() else None


def wait_until_free(uri: str) -> None:
    """Returns when nobody holds a lease, as that of an erasure, which takes minutes. Who is to make
    a snapshot holds its date's lease first, so that no later erasure begins before it has ended.

    Raises:
        StorageError: the storage can't be used.
    """
    while at_work := holder(uri):
        event(log, "waiting for a lease", uri=uri, holder=at_work)
        time.sleep(POLL_S)


class Lease:
    """A date's lease, held and renewed while the context lasts, then given back.

    Args:
        uri: of the lease's object, :meth:`beholder.catalog.layout.Layout.lease`.
        seconds: how long it lasts without being renewed, and so how long others wait for a
            driver that died.
        take_over: take it although another driver holds it.
        holder: who takes it; unique. By default the machine, the process and some letters.

    Attributes:
        epoch: 1 for the first driver of the date, one more for each that follows.
        holder: as above.

    Raises:
        LeaseTakenError: another driver holds it.
        StorageError: the storage can't be used.
    """

    def __init__(
        self, uri: str, seconds: float = 60.0, take_over: bool = False, holder: str | None = None
    ) -> None:
        self.uri = uri
        self.holder = holder or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self._seconds = seconds
        self._lost: LeaseLostError | None = None
        self._turn = threading.Lock()
        self._done = threading.Event()
        self._record, self._version = patiently(lambda: self._take(take_over))
        self.epoch = self._record.epoch
        self._renewing = threading.Thread(target=self._keep, name=f"lease {uri}", daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Returns while the lease is held; to be called before whatever others will see.

        One that has run out, because this process was held up, is renewed if nobody else has
        taken it.

        Raises:
            LeaseLostError: another driver has taken it.
            StorageError: it has run out and can't be renewed.
        """
        with self._turn:
            if self._lost is None and time.time() >= self._record.expires:
                patiently(self._renew)
            if self._lost is not None:
                raise self._lost

    def release(self) -> None:
        """Gives it back, so that nobody waits for it; one that was lost stays the other's."""
        self._done.set()
        self._renewing.join()
        with self._turn:
            if self._lost is None:
                patiently(lambda: self._write(_Record(self.epoch, self.holder, 0.0)))

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except StorageError:
            if error is None:  # else what ended the context matters more: the lease runs out
                raise

    def _take(self, take_over: bool) -> tuple[_Record, str]:
        expires = time.time() + self._seconds
        try:
            data, version = read_version(self.uri)
        except StorageError as error:
            if trouble(error) is not Trouble.OBJECT_MISSING:
                raise
            return self._first_to(None, _Record(1, self.holder, expires))
        there = _Record.read(data, self.uri)
        left = there.expires + SKEW_S - time.time()
        ours = there.holder == self.holder  # an earlier try's, whose answer was lost
        if left > 0 and not take_over and not ours:
            raise LeaseTakenError(
                f"{self.uri}: driver {there.holder} works on this date and holds it for another "
                f"{left:.0f} s: wait for it, or, if it is dead, add --set take_over=true"
            )
        epoch = there.epoch if ours else there.epoch + 1
        return self._first_to(version, _Record(epoch, self.holder, expires))

    def _first_to(self, version: str | None, record: _Record) -> tuple[_Record, str]:
        data = record.encode()
        try:
            if version is None:
                return record, create(self.uri, data)
            return record, replace(self.uri, data, version)
        except WriteConflictError as error:
            raise LeaseTakenError(
                f"{self.uri}: another driver took this date at the same moment: let it work"
            ) from error

    def _keep(self) -> None:
        while not self._done.wait(self._seconds / 3):
            with self._turn:
                if self._lost is not None:
                    return
                try:
                    self._renew()
                except StorageError:
                    continue  # the next turn may go better; :meth:`check` says it if none does

    def _renew(self) -> None:
        self._write(_Record(self.epoch, self.holder, time.time() + self._seconds))

    def _write(self, record: _Record) -> None:
        while True:
            try:
                self._version = replace(self.uri, record.encode(), self._version)
            except WriteConflictError:
                if not self._ours():
                    return
            else:
                self._record = record
                return

    def _ours(self) -> bool:
        """Whether what stands there is an earlier write of ours, whose answer was lost."""
        taker = "another driver"
        try:
            data, version = read_version(self.uri)
        except StorageError as error:
            if trouble(error) is not Trouble.OBJECT_MISSING:
                raise
        else:
            there = _Record.read(data, self.uri)
            if there.holder == self.holder:
                self._version = version
                return True
            taker = f"driver {there.holder} (epoch {there.epoch})"
        self._lost = LeaseLostError(
            f"{self.uri}: {taker} has taken this date over from {self.holder}, which stops here: "
            "what it had committed stands"
        )
        return False
