"""A decoder process: reads requests from its pipe, answers with pixels, ends with its pool."""

import math
import os
import resource
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection

from beholder.items import ItemError
from beholder.media import wire
from beholder.media.decode import decode

MEMORY_BYTES = 4 * 2**30
"""Of private memory: four copies of the largest file, or the largest picture in every form
that it passes through, with as much again to spare."""
GRACE_S = 5


def main(descriptor: int, timeout_s: float) -> None:
    """Serves the pool at the other end of a socket until that is closed.

    Args:
        descriptor: the socket's file descriptor.
        timeout_s: after this and a grace the kernel ends the process, should the pool no
            longer be there to do so; it works where code holds the interpreter, too.
    """
    pipe = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's to handle.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_pool, args=(descriptor,), daemon=True).start()
    pipe.send_bytes(wire.READY)
    # FFmpeg writes a line about every damaged file; the failure's message takes its place.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    try:
        while True:
            _serve(pipe, math.ceil(timeout_s) + GRACE_S)
    except (EOFError, OSError):
        return


def _serve(pipe: Connection, alarm_s: int) -> None:
    request = wire.receive_request(pipe)
    signal.alarm(alarm_s)
    try:
        decoded = decode(request)
    except ItemError as error:
        wire.send_failure(pipe, error.failure.code, error.failure.message)
    else:
        wire.send_decoded(pipe, decoded)
    signal.alarm(0)


def _end_with_pool(descriptor: int) -> None:
    """Waits for the other end to close, also while a decoder is busy."""
    poll = select.poll()
    poll.register(descriptor, 0)  # A hang-up is reported unasked.
    poll.poll()
    os._exit(0)
