import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

import beholder.media.pool as subject
from beholder.items import FailureCode, ItemError
from beholder.media import DecoderPool, Limits, PixelSpec, Request
from beholder.media.decode import decode

Encode = Callable[..., bytes]

FAULTY = """
import ctypes, os, sys, threading
sys.path.append(sys.argv[3])
from beholder.media import decoder, wire

healthy = decoder.decode

def faulty(request):
    fault = request.data.rpartition(b"fault:")[2] if b"fault:" in request.data else b""
    if fault == b"hang":
        print(os.getpid(), flush=True)
        threading.Event().wait()
    if fault == b"exit":
        os._exit(7)
    if fault == b"segfault":
        ctypes.string_at(0)
    if fault == b"error":
        raise KeyError("a defect")
    return healthy(request)

def lying(pipe, decoded):
    pipe.send_bytes(b'{"kind": "image", "frames": [900000], "seconds": [0], "coverage": 1}')

decoder.decode = faulty
if "lying" in os.environ:
    wire.send_decoded = lying
decoder.main(int(sys.argv[1]), float(sys.argv[2]))
"""


@pytest.fixture
def request_of(spec: PixelSpec, limits: Limits) -> Callable[[bytes], Request]:
    return lambda data: Request(data, spec, limits)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    """A pool whose decoders do what a picture's last bytes say."""
    monkeypatch.setattr(subject, "BOOT", FAULTY)
    with DecoderPool(2, timeout_s=1.0) as pool:
        yield pool


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]


def test_the_pool_gives_what_this_process_gives(
    pool: DecoderPool,
    photo: Image.Image,
    encode: Encode,
    video: Encode,
    request_of: Callable[[bytes], Request],
) -> None:
    for data in (encode(photo, "JPEG"), encode(photo, "PNG"), video([k / 2 for k in range(9)])):
        here, there = decode(request_of(data)), pool.decode(request_of(data))
        assert (there.kind, there.seconds, there.coverage) == (
            here.kind,
            here.seconds,
            here.coverage,
        )
        assert all((a == b).all() for a, b in zip(here.clips, there.clips, strict=True))
        assert there.clips[0].flags.writeable


def test_many_clips_cross(pool: DecoderPool, video: Encode, spec: PixelSpec) -> None:
    request = Request(video(list(range(20))), spec, Limits(clip_frames=3, max_clips=4))
    there, here = pool.decode(request), decode(request)
    assert len(there.clips) == 4
    assert all((a == b).all() for a, b in zip(here.clips, there.clips, strict=True))


def test_failures_cross(pool: DecoderPool, request_of: Callable[[bytes], Request]) -> None:
    with pytest.raises(ItemError, match="cut off or damaged") as caught:
        pool.decode(request_of(b"\xff\xd8\xff\xe0"))
    assert caught.value.failure.code is FailureCode.DECODE_TRUNCATED


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (b"hang", FailureCode.DECODE_TIMEOUT, "longer than 1 s"),
        (b"exit", FailureCode.DECODE_CRASHED, "exit code 7"),
        (b"segfault", FailureCode.DECODE_CRASHED, f"exit code -{int(signal.SIGSEGV)}"),
        (b"error", FailureCode.DECODE_CRASHED, "exit code"),
    ],
)
def test_a_bad_decoder_harms_no_neighbour(
    fault: bytes,
    code: FailureCode,
    text: str,
    faulty: DecoderPool,
    photo: Image.Image,
    encode: Encode,
    request_of: Callable[[bytes], Request],
) -> None:
    before = len(children())
    data = encode(photo, "JPEG")
    expected = decode(request_of(data)).clips[0]
    with ThreadPoolExecutor(4) as threads:
        bad = threads.submit(faulty.decode, request_of(data + b"fault:" + fault))
        good = [threads.submit(faulty.decode, request_of(data)) for _ in range(8)]
        with pytest.raises(ItemError, match=text) as caught:
            bad.result()
        assert caught.value.failure.code is code
        assert all((g.result().clips[0] == expected).all() for g in good)
    assert len(children()) <= before + 2, "a pool of two replaces, it does not add"


def test_a_hanging_video_is_a_video_timeout(
    faulty: DecoderPool, video: Encode, request_of: Callable[[bytes], Request]
) -> None:
    with pytest.raises(ItemError) as caught:
        faulty.decode(request_of(video([0, 1]) + b"fault:hang"))
    assert caught.value.failure.code is FailureCode.VIDEO_TIMEOUT


def test_a_decoder_that_sends_nonsense_is_replaced(
    faulty: DecoderPool,
    photo: Image.Image,
    encode: Encode,
    request_of: Callable[[bytes], Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("lying", "1")
    data = encode(photo, "JPEG")
    with pytest.raises(ItemError, match=r"decode\.crashed"):
        faulty.decode(request_of(data))
    monkeypatch.delenv("lying")
    assert faulty.decode(request_of(data)).kind == "image"


def test_a_decoder_killed_while_idle_is_replaced(
    photo: Image.Image, encode: Encode, request_of: Callable[[bytes], Request]
) -> None:
    before = {p.pid for p in children()}
    with DecoderPool(1) as pool:
        data = encode(photo, "JPEG")
        pool.decode(request_of(data))
        (decoder,) = [p for p in children() if p.pid not in before]
        decoder.kill()
        os.waitid(os.P_PID, decoder.pid, os.WEXITED | os.WNOWAIT)  # The pool collects it.
        assert pool.decode(request_of(data)).kind == "image"


def test_memory_is_bounded(spec: PixelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = subject.BOOT.replace(
        "main(int", "import beholder.media.decoder as d; d.MEMORY_BYTES = 2**28\nmain(int"
    )
    monkeypatch.setattr(subject, "BOOT", boot)
    bmp = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bmp += (9_000).to_bytes(4, "little") * 2 + b"\x01\0\x18\0" + bytes(24)
    with DecoderPool(1) as pool, pytest.raises(ItemError, match="memory") as caught:
        pool.decode(Request(bmp + bytes(3 * 9_000 * 9_000 // 20), spec, Limits()))
    assert caught.value.failure.code is FailureCode.DECODE_CRASHED


def test_closing_ends_all_processes(
    photo: Image.Image, encode: Encode, request_of: Callable[[bytes], Request]
) -> None:
    before = {p.pid for p in children()}
    pool = DecoderPool(2)
    with pool:
        pool.decode(request_of(encode(photo, "JPEG")))
        assert {p.pid for p in children()} > before
    assert {p.pid for p in children()} == before
    with pytest.raises(RuntimeError, match="closed"):
        pool.decode(request_of(encode(photo, "JPEG")))


def test_no_orphan_stays_when_the_pool_is_killed_in_the_middle(
    photo: Image.Image, encode: Encode
) -> None:
    data = encode(photo, "JPEG") + b"fault:hang"
    script = f"""
import beholder.media.pool as subject
from beholder.media import DecoderPool, Limits, PixelSpec, Request
subject.BOOT = {FAULTY!r}
request = Request({data!r}, PixelSpec(8, (0, 0, 0), (0, 0, 0), (1, 1, 1)), Limits())
DecoderPool(1).decode(request)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))  # It hangs by now.
    parent.kill()
    parent.wait()
    psutil.wait_procs([orphan], timeout=10)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_pickled_pool_is_a_new_one(pool: DecoderPool) -> None:
    copy = pickle.loads(pickle.dumps(pool))
    assert (copy.workers, copy.timeout_s) == (pool.workers, pool.timeout_s)
    copy.close()


def test_a_pool_that_can_start_nothing_says_so(
    photo: Image.Image,
    encode: Encode,
    request_of: Callable[[bytes], Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subject, "BOOT", "raise SystemExit(3)")
    with DecoderPool(1) as pool, pytest.raises(RuntimeError, match="exit code 3"):
        pool.decode(request_of(encode(photo, "JPEG")))


@pytest.mark.parametrize(("workers", "timeout_s"), [(0, 1.0), (1, 0.0)])
def test_sizes_are_checked(workers: int, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        DecoderPool(workers, timeout_s)


def test_decoders_do_not_load_torch() -> None:
    code = "import sys, beholder.media.decoder, beholder.media.video; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_threads_wait_for_a_free_decoder(
    pool: DecoderPool, photo: Image.Image, encode: Encode, request_of: Callable[[bytes], Request]
) -> None:
    data = encode(photo, "PNG")
    barrier = threading.Barrier(6)

    def work(_: int) -> np.ndarray:
        barrier.wait()
        return pool.decode(request_of(data)).clips[0]

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(work, range(6)))
    assert all((clip == found[0]).all() for clip in found)
