"""A pool of decoder processes that can be killed.

Each calling thread drives one process through its own socket, so a decoder that is killed,
wherever it stands, takes nothing of its neighbours with it. Pools of the standard library and of
Pebble share one queue among workers and run the main script again in each of them; here
only ``beholder.media.decoder`` is imported, which takes about half a second.
"""

import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from multiprocessing import ProcessError
from pathlib import Path
from types import TracebackType

import beholder
from beholder.items import FailureCode, ItemError
from beholder.media import wire
from beholder.media.clips import Decoded
from beholder.media.decode import Request
from beholder.media.sniff import sniff

BOOT = """
import sys
sys.path.append(sys.argv[3])
from beholder.media.decoder import main
main(int(sys.argv[1]), float(sys.argv[2]))
"""
START_S = 60
STOP_S = 2


class DecoderPool:
    """Decodes in processes of its own; thread-safe, and a context manager.

    Processes start when they are first needed. Pickling a pool gives a new, empty one of the
    same size at the other end.

    Args:
        workers: how many items are decoded side by side.
        timeout_s: seconds that one item may take, pipes included.

    Raises:
        ValueError: an argument is not positive.
    """

    def __init__(self, workers: int, timeout_s: float = 60.0) -> None:
        if workers < 1 or timeout_s <= 0:
            raise ValueError(
                f"a decoder pool of {workers} workers and {timeout_s} s a decode can't work: "
                "give positive numbers"
            )
        self.workers = workers
        self.timeout_s = timeout_s
        self._closed = False
        # The last one in is the first one out, so that few processes serve a light load.
        self._free: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)

    def decode(self, request: Request, timeout_s: float | None = None) -> Decoded:
        """Decodes one item in a process; waits for one to be free.

        Args:
            request: what to decode.
            timeout_s: seconds that it may take, where that is less than others may.

        Raises:
            ItemError: whatever :func:`beholder.media.decode.decode` raises; ``decode.timeout``
                or ``video.timeout`` for a decoder that was killed at its time limit;
                ``decode.crashed`` for one that died.
            RuntimeError: the pool is closed, or no decoder process can be started.
        """
        is_video = sniff(request.data).kind == "video"
        limit = min(self.timeout_s, timeout_s or self.timeout_s)
        decoder = self._free.get()
        try:
            if self._closed:
                raise RuntimeError("the decoder pool is closed: make a new one")
            if decoder is None or not decoder.alive():
                decoder = _Decoder(self.timeout_s)
            return decoder.run(request, limit)
        except _ExpiredError:
            raise ItemError(
                FailureCode.VIDEO_TIMEOUT if is_video else FailureCode.DECODE_TIMEOUT,
                f"decoding took longer than {limit:.3g} s and was stopped",
            ) from None
        finally:
            self._free.put(decoder if decoder is not None and decoder.alive() else None)

    def close(self) -> None:
        """Waits for running decodes and ends all processes."""
        self._closed = True
        for decoder in [self._free.get() for _ in range(self.workers)]:
            if decoder is not None:
                decoder.stop()
        for _ in range(self.workers):
            self._free.put(None)

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["DecoderPool"], tuple[int, float]]:
        return DecoderPool, (self.workers, self.timeout_s)


class _ExpiredError(Exception):
    """A decoder was killed at its time limit."""


class _Decoder:
    """One process and the socket to it."""

    def __init__(self, timeout_s: float) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        root = str(Path(beholder.__file__).parents[1])
        descriptor = theirs.fileno()
        # -P: a file in the working directory must not pass for a module.
        command = [sys.executable, "-P", "-c", BOOT, str(descriptor), str(timeout_s), root]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self._state = threading.Lock()
        self._running = self._expired = False
        try:
            ready = self._pipe.poll(START_S) and self._pipe.recv_bytes() == wire.READY
        except (EOFError, OSError):
            ready = False
        if not ready:
            self.kill()
            raise RuntimeError(
                f"no decoder process starts with {sys.executable} (exit code "
                f"{self._process.returncode}): see its error output above"
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, request: Request, timeout_s: float) -> Decoded:
        timer = threading.Timer(timeout_s, self._expire)
        timer.daemon = True
        self._running = True
        timer.start()
        try:
            wire.send_request(self._pipe, request)
            return wire.receive_decoded(self._pipe, request)
        except (EOFError, OSError, ValueError, LookupError, TypeError, ProcessError) as error:
            self.kill()  # It is dead, or what it sends makes no sense.
            if self._expired:
                raise _ExpiredError from error
            raise ItemError(
                FailureCode.DECODE_CRASHED,
                f"the decoder died (exit code {self._process.returncode})",
            ) from error
        finally:
            timer.cancel()
            with self._state:
                self._running = False

    def _expire(self) -> None:
        with self._state:  # A timer that comes too late must not kill the next item's decoder.
            if self._running:
                self._expired = True
                self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Closes the socket, upon which the process ends."""
        self._pipe.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
