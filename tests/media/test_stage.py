import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import beholder.media.stage as subject
from beholder.items import Failure, FailureCode, Item, ItemError
from beholder.media import DecoderPool, Limits, PixelSpec, Stage, Staged
from beholder.media.fetch import Fetched
from beholder.media.preprocess import to_pixels

Encode = Callable[..., bytes]


@pytest.fixture(params=["here", "pool"])
def stage(request: pytest.FixtureRequest, spec: PixelSpec, limits: Limits) -> Stage:
    pool = request.getfixturevalue("pool") if request.param == "pool" else None
    return Stage(spec, limits, pool)


def staged(stage: Stage, source: object, **fields: str) -> Staged:
    found = stage.stage(Item("x", source, **fields))
    assert isinstance(found, Staged), found
    return found


def failed(stage: Stage, source: object, **fields: str) -> Failure:
    found = stage.stage(Item("x", source, **fields))
    assert isinstance(found, Failure)
    return found


def test_all_sources_of_a_picture_give_the_same_pixels(
    stage: Stage, photo: Image.Image, encode: Encode, spec: PixelSpec, tmp_path: Path
) -> None:
    data = encode(photo, "PNG")
    path = tmp_path / "photo.txt"  # The extension says nothing.
    path.write_bytes(data)
    for source in (data, path, str(path), path.as_uri(), photo):
        found = staged(stage, source)
        assert (found.item_id, found.kind, found.seconds, found.coverage) == (
            "x",
            "image",
            (0.0,),
            1.0,
        )
        assert (found.clips[0] == to_pixels(photo, spec)[None]).all()
        encoded = source is not photo
        assert found.sha256 == (hashlib.sha256(data).hexdigest() if encoded else None)
        assert found.bytes_read == (len(data) if encoded else 0)


def test_a_video_and_its_frames(stage: Stage, video: Encode, spec: PixelSpec) -> None:
    found = staged(stage, video([k / 10 for k in range(35)]))
    assert found.kind == "video" and found.clips[0].shape == (3, 56, 56, 3)
    assert found.clips[0].dtype == np.uint8 and found.seconds == pytest.approx((3.5,), abs=0.1)
    frames = [Image.new("RGB", (8, 8), (3 * k, 0, 0)) for k in range(70)]
    found = Stage(spec, Limits(max_clips=2)).stage(Item("f", frames))
    assert isinstance(found, Staged)
    assert [len(clip) for clip in found.clips] == [30, 10]
    assert [clip[0, 0, 0, 0] for clip in found.clips] == [0, 180]
    assert found.seconds == (30.0, 10.0) and found.coverage == pytest.approx(40 / 70)


def test_hostile_corpus(
    stage: Stage,
    photo: Image.Image,
    encode: Encode,
    video: Encode,
    png_header: Encode,
    tmp_path: Path,
) -> None:
    """Bad items between good ones: each its code, and the good ones' pixels as ever."""
    good = encode(photo, "JPEG")
    html = tmp_path / "picture.jpg"
    html.write_bytes(b"<!doctype html><html><body>404</body></html>")
    clip = video([0, 0.5, 1], options={"movflags": "faststart"})
    corpus: list[tuple[object, str | None]] = [
        (b"", "decode.empty"),
        (good, None),
        (good[: len(good) // 2], "decode.truncated"),
        (png_header(50_000, 50_000), "limit.pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "decode.unsupported"),
        (html, "decode.unsupported"),
        (good, None),
        (np.random.default_rng(0).bytes(4000), "decode.unsupported"),
        (b"\xff\xd8\xff" + np.random.default_rng(0).bytes(4000), "decode.truncated"),
        (clip[: len(clip) - 9], "decode.truncated"),
        (tmp_path / "nothing.png", "fetch.not_found"),
        ("http://127.0.0.1/a.png", "fetch.unsupported"),
        ([], "video.no_frames"),
        (7, "fetch.unsupported"),
        (encode(Image.new("RGB", (1, 1)), "PNG"), None),
        (good, None),
    ]
    items = [Item(str(k), source) for k, (source, _) in enumerate(corpus)]
    found = list(stage.many(items, threads=3))
    codes = [str(f.code) if isinstance(f, Failure) else None for f in found]
    assert codes == [code for _, code in corpus]
    clips = [f.clips[0] for f, (source, _) in zip(found, corpus, strict=True) if source is good]
    alone = staged(stage, good).clips[0]
    assert len(clips) == 3 and all((c == alone).all() for c in clips)
    cut = found[2]
    assert isinstance(cut, Failure)
    assert cut.bytes_read == len(good) // 2 and cut.attempts == 1


def test_a_kind_that_is_not_the_content_s(
    stage: Stage, photo: Image.Image, encode: Encode, video: Encode
) -> None:
    gif, clip = encode(photo, "GIF"), video([0, 1])
    for source, kind in ((gif, "video"), (clip, "image"), (photo, "video"), ([photo], "image")):
        failure = failed(stage, source, kind=kind)
        assert failure.code is FailureCode.DECODE_UNSUPPORTED
        assert "'image'" in failure.message and "'video'" in failure.message
    assert staged(stage, gif, kind="image").kind == "image"


def test_the_etag_is_checked(stage: Stage, photo: Image.Image, encode: Encode) -> None:
    assert failed(stage, encode(photo, "PNG"), etag="0" * 32).code is FailureCode.FETCH_CHANGED


def test_opened_pictures_are_read_with_care(
    stage: Stage, photo: Image.Image, encode: Encode, tmp_path: Path
) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(encode(photo, "JPEG")[:900])
    with Image.open(path) as image:
        assert failed(stage, image).code is FailureCode.DECODE_TRUNCATED
    assert failed(stage, Image.new("L", (70_000, 1))).code is FailureCode.LIMIT_PIXELS


@pytest.mark.parametrize(("failures", "attempts"), [(1, None), (2, None), (3, 3)])
def test_transient_failures_are_tried_again(
    failures: int,
    attempts: int | None,
    photo: Image.Image,
    encode: Encode,
    spec: PixelSpec,
    limits: Limits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    waits: list[float] = []
    data = encode(photo, "PNG")

    def flaky(*_: object) -> Fetched:
        calls.append(1)
        if len(calls) <= failures:
            raise ItemError(FailureCode.FETCH_TIMEOUT, "no answer")
        return Fetched(data, "hash")

    monkeypatch.setattr(subject, "fetch", flaky)
    monkeypatch.setattr(subject.time, "sleep", waits.append)
    found = Stage(spec, limits).stage(Item("x", "s3://bucket/x"))
    assert waits == [0.5, 1.0][: min(failures, 2)]
    if attempts is None:
        assert isinstance(found, Staged)
    else:
        assert isinstance(found, Failure)
        assert (found.code, found.attempts) == (FailureCode.FETCH_TIMEOUT, attempts)


def test_many_fetches_side_by_side_and_holds_few(
    spec: PixelSpec, limits: Limits, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3, timeout=10)
    taken: list[int] = []

    def items() -> Iterator[Item]:
        for k in range(12):
            taken.append(k)
            yield Item(str(k), photo)

    alone = Stage.stage

    def meet(self: Stage, item: Item) -> Staged | Failure:
        together.wait()  # Passes only when three are in progress at a time.
        return alone(self, item)

    monkeypatch.setattr(Stage, "stage", meet)
    found = Stage(spec, limits).many(items(), threads=3)
    first = next(found)
    assert isinstance(first, Staged) and len(taken) <= 6
    ids = [first.item_id] + [f.item_id for f in found if isinstance(f, Staged)]
    assert ids == [str(k) for k in range(12)]


def test_a_stage_can_be_sent_to_another_process(
    pool: DecoderPool, spec: PixelSpec, limits: Limits, photo: Image.Image, encode: Encode
) -> None:
    copy = pickle.loads(pickle.dumps(Stage(spec, limits, pool)))
    assert copy.pool is not None
    with copy.pool:
        assert isinstance(copy.stage(Item("x", encode(photo, "PNG"))), Staged)
