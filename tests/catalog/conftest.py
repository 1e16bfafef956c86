"""What tests of a night share: pictures, plans written by hand, and an S3 that has bad moments."""

import asyncio
import functools
import hashlib
import io
import random
import struct
import subprocess
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import aiohttp
import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from PIL import Image
from yarl import URL

from beholder.catalog.config import NightlyConfig
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.scoring_pass import Assignment, Chunk
from beholder.catalog.snapshot import open_snapshot
from beholder.catalog.tables import PLANNED
from beholder.media.storage import write_bytes
from beholder.scoring import Scorer

from .listener import Listener

RUN = RunId("2026-11-20")
ACCEPT = {"panel": "an untrained scorer has none", "mass": "it is untrained"}
FAULTS = ("500", "503", "hang", "short", "reset", "lost answer")


@pytest.fixture(scope="session")
def pictures(photos: dict[str, bytes]) -> list[bytes]:
    """60 small JPEGs, no two alike."""
    made = []
    for at in range(60):
        name = sorted(photos)[at % len(photos)]
        with Image.open(io.BytesIO(photos[name])) as photo:
            part = photo.convert("RGB").crop((2 * at, at, 2 * at + 160, at + 120))
        file = io.BytesIO()
        part.save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


@pytest.fixture(scope="session")
def scorer_folder(small_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small scorer where the actors of a Ray on this machine find it."""
    folder = tmp_path_factory.mktemp("scorer") / "scorer"
    small_scorer.save(folder)
    return str(folder)


@pytest.fixture(scope="session")
def plan() -> Callable[..., list[Chunk]]:
    """``plan(layout, items, size)`` writes a plan's file as a planner would, by hand."""

    def write(layout: Layout, items: Sequence[Mapping], size: int) -> list[Chunk]:
        uri = f"{layout.run(RUN)}/plan-hand/0.parquet"
        sink = pa.BufferOutputStream()
        chunks = []
        with pq.ParquetWriter(sink, PLANNED) as writer:
            for number, start in enumerate(range(0, len(items), size)):
                rows = [
                    {"kind": "image", "change": "new", "attempts": 0, "chunk": number, **item}
                    for item in items[start : start + size]
                ]
                writer.write_table(pa.Table.from_pylist(rows, schema=PLANNED))
                chunks.append(Chunk(number, layout.relative(uri), number, len(rows)))
        write_bytes(uri, sink.getvalue().to_pybytes())
        return chunks

    return write


@pytest.fixture(scope="session")
def assign(small_scorer: Scorer, scorer_folder: str) -> Callable[..., Assignment]:
    """``assign(layout)`` is the small scorer's work on a catalog."""

    def made(layout: Layout, **fields: object) -> Assignment:
        pixels = small_scorer.backbone.spec.pixels
        return Assignment(layout, RUN, scorer_folder, small_scorer.fingerprint, pixels, **fields)

    return made


@pytest.fixture(scope="session")
def hostile(
    pictures: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, bytes, str, str | None]]:
    """Bad uploads and odd but good ones: name, bytes, kind, and the failure's code or None."""
    with Image.open(io.BytesIO(pictures[0])) as opened:
        photo = opened.convert("RGB")
    clip = functools.partial(_clip, tmp_path_factory.mktemp("clips"))
    second = [k / 10 for k in range(15)]
    sideways = Image.Exif()
    sideways[0x0112] = 6
    frames = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    return [
        ("empty.jpg", b"", "image", "decode.empty"),
        ("cut.jpg", pictures[1][: len(pictures[1]) // 2], "image", "decode.truncated"),
        ("bomb.png", _png_header(50_000, 50_000), "image", "limit.pixels"),
        ("png.jpg", _encoded(photo, "PNG"), "image", None),
        ("moving.gif", _encoded(photo, "GIF", **frames), "image", None),
        ("ink.jpg", _encoded(photo.convert("CMYK"), "JPEG"), "image", None),
        ("deep.png", _encoded(photo.convert("I;16"), "PNG"), "image", None),
        ("sideways.jpg", _encoded(photo, "JPEG", exif=sideways), "image", None),
        ("clear.png", _encoded(photo.convert("RGBA"), "PNG"), "image", None),
        ("dot.png", _encoded(photo.resize((1, 1)), "PNG"), "image", None),
        (
            "drawing.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "image",
            "decode.unsupported",
        ),
        (
            "page.jpg",
            b"<!doctype html><html><body>404</body></html>",
            "image",
            "decode.unsupported",
        ),
        ("picture.mp4", pictures[2], "video", "decode.unsupported"),
        ("good.mp4", clip(second), "video", None),
        # It states no duration, and decord opens no such one.
        ("endless.mkv", clip(second, "mkv", live="1"), "video", "decode.unsupported"),
        ("uneven.mp4", clip([0, 0.04, 0.5, 1.3, 2.05, 2.5, 3.4]), "video", None),
        ("sound.mp4", _sound(tmp_path_factory.mktemp("sound")), "video", "video.no_frames"),
        ("ten hours.mp4", clip([0, 1, 36_000]), "video", "limit.duration"),
        ("cut.mp4", clip(second)[:-900], "video", "decode.truncated"),
    ]


@pytest.fixture(scope="session")
def slow_picture() -> bytes:
    """A progressive JPEG of 0.8 MB and 98 megapixels that says the same 8,000 times.

    Each scan is 60 bytes and takes a decoder a walk over the whole picture: minutes in all.
    """
    grey = _encoded(Image.new("L", (9900, 9900), 128), "JPEG", progressive=True, quality=50)
    scans = [at for at in range(len(grey)) if grey.startswith(b"\xff\xda", at)]
    return grey[: scans[1]] + 8000 * grey[scans[1] : scans[2]] + grey[scans[1] :]


def _encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _clip(folder: Path, stamps: Sequence[float], suffix: str = "mp4", **options: str) -> bytes:
    """A grey clip with a frame at each of these seconds."""
    base = Fraction(1, 1000)
    path = folder / f"clip.{suffix}"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for at, stamp in enumerate(stamps):
            pixels = np.full((48, 64, 3), 9 * at % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(stamp) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def _sound(folder: Path) -> bytes:
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path.read_bytes()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no pixels."""

    def part(name: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + part(b"IDAT", zlib.compress(bytes(100)))
        + part(b"IEND", b"")
    )


class Uploads:
    """What a platform has in its bucket, and the manifest that lists it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest = f"{root}/manifest.parquet"
        self.rows: dict[str, dict] = {}

    def put(self, name: str, data: bytes, kind: str = "image") -> None:
        uri = f"{self.root}/media/{name}"
        write_bytes(uri, data)
        about = {"kind": kind, "owner": f"user-{len(self.rows) % 3}", "segment": "phone"}
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.rows[name] = about | {"item_id": name, "uri": uri, "etag": etag, "size": len(data)}

    def list(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(self.rows.values())), sink)
        write_bytes(self.manifest, sink.getvalue().to_pybytes())


@pytest.fixture(scope="session")
def new_uploads() -> type[Uploads]:
    """The class: other files can't import this one."""
    return Uploads


@dataclass(frozen=True)
class Content:
    """What readers of a catalog see.

    Attributes:
        scores: probabilities by item and task.
        states: state, failure's code and sha256 by item.
    """

    scores: dict[tuple[str, str], list[float]]
    states: dict[str, tuple[str, str | None, str | None]]


@pytest.fixture(scope="session")
def look() -> Callable[[str], Content]:
    """``look(catalog)`` is what readers see."""

    def seen(catalog: str) -> Content:
        rows = pa.concat_tables(open_snapshot(catalog).rows()).to_pylist()
        scores = {(r["item_id"], r["task"]): r["probs"] for r in rows if r["task"] is not None}
        about = ("state", "failure_code", "sha256")
        return Content(scores, {r["item_id"]: tuple(r[name] for name in about) for r in rows})

    return seen


@pytest.fixture(scope="session")
def night(scorer_folder: str) -> Callable[..., NightlyConfig]:
    """``night(uploads, date)`` is the config of a night with chunks of four."""

    def made(uploads: Uploads, date: str, **fields: object) -> NightlyConfig:
        given = {
            "catalog": f"{uploads.root}/catalog",
            "manifest": uploads.manifest,
            "scorer": scorer_folder,
            "logical_date": date,
            "buckets": 4,
            "chunk": 4,
            "lease_seconds": 2.0,
            "audit": {"accept": ACCEPT},
        }
        return NightlyConfig.model_validate(given | fields)

    return made


class Stop:
    """A request at which a proxy waits until the test says how it goes on.

    Args:
        part: of the path, by which it is known; only PUT requests are.
        count: how many of them pass before it.
        after: whether it is held when the store has done it, and before its answer.
    """

    def __init__(self, part: str, count: int = 0, after: bool = False) -> None:
        self.after = after
        self._part, self._left = part, count
        self._reached, self._decided = threading.Event(), threading.Event()
        self._goes_on = True

    def meets(self, request: web.Request) -> bool:
        """Whether this is the one; called once a request."""
        if request.method != "PUT" or self._part not in request.path:
            return False
        self._left -= 1
        return self._left == -1

    async def hold(self) -> bool:
        """Returns when the test has spoken: whether the request goes on."""
        self._reached.set()
        assert await asyncio.to_thread(self._decided.wait, 300)
        return self._goes_on

    def reached(self, process: subprocess.Popen) -> None:
        """Returns when the request has come, which a process is to make."""
        while not self._reached.wait(1):
            assert process.poll() is None, process.communicate()[0][-6000:]

    def decide(self, goes_on: bool) -> None:
        """Lets the request go on, or cuts its connection."""
        self._goes_on = goes_on
        self._decided.set()


class FaultProxy:
    """An S3 on loopback that hands requests on to another, and spoils some of them.

    Args:
        upstream: endpoint of the S3 behind it.
        share: of the requests that are spoiled, 0..1.
        faults: which of :data:`FAULTS` happen, in turn at random.
        hang_s: how long a hanging request gets no answer.
        seed: of the choice.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        gets: GET requests that were answered in full, by path.
        spoiled: by fault.
        stops: requests that are held.
        always: a fault by a part of the paths at which all requests meet it.
    """

    def __init__(
        self,
        upstream: str,
        share: float = 0.0,
        faults: Sequence[str] = FAULTS,
        hang_s: float = 3.0,
        seed: int = 0,
    ) -> None:
        self.share, self.faults, self.hang_s = share, faults, hang_s
        self.gets: Counter[str] = Counter()
        self.spoiled: Counter[str] = Counter()
        self.stops: list[Stop] = []
        self.always: dict[str, str] = {}
        self.endpoint = ""
        self._upstream = upstream
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.endpoint = f"http://{host}:{port}"
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fault = self._random.choice(self.faults) if self._random.random() < self.share else None
        if fault is not None:
            self.spoiled[fault] += 1
        assert request.transport is not None
        met = [stop for stop in self.stops if stop.meets(request)]  # all of them count
        stop = met[0] if met else None
        if stop is not None and not stop.after and not await stop.hold():
            fault = "reset"
        fault = next((f for part, f in self.always.items() if part in request.path), fault)
        if fault in ("403", "500", "503"):
            code = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}[fault]
            text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
            return web.Response(status=int(fault), text=text, content_type="application/xml")
        if fault == "hang":
            await asyncio.sleep(self.hang_s)
        if fault in ("hang", "reset"):
            request.transport.abort()
            return web.Response()
        body = await request.read()
        url = URL(self._upstream + request.raw_path, encoded=True)
        skip = ("Expect", "Connection", "Content-Length", "Transfer-Encoding")
        headers = {k: v for k, v in request.headers.items() if k not in skip}  # Host is signed
        async with self._client.request(request.method, url, headers=headers, data=body) as got:
            data = await got.read()
            if stop is not None and stop.after and not await stop.hold():
                fault = "lost answer"
            if fault == "lost answer":
                request.transport.abort()
                return web.Response()
            head = {k: v for k, v in got.headers.items() if k not in skip}
            answer = web.StreamResponse(status=got.status, headers=head)
        length = got.headers.get("Content-Length")
        answer.content_length = int(length) if length else len(data)
        await answer.prepare(request)
        await answer.write(data[: len(data) // 2] if fault == "short" else data)
        if fault == "short":
            request.transport.abort()
        elif request.method == "GET":
            self.gets[request.path] += 1
        return answer


@pytest.fixture(scope="session")
def fault_proxy() -> type[FaultProxy]:
    """The class: other files can't import this one."""
    return FaultProxy


@pytest.fixture(scope="session")
def stop_at() -> type[Stop]:
    """The class."""
    return Stop


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield serving
        serving.shutdown()
