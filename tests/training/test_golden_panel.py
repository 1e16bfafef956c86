"""Which media become a new scorer's golden panel."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from beholder.datasets import TrainingSet
from beholder.opinions import Scale
from beholder.scoring import Scorer
from beholder.training.golden_panel import SIDE, panel_of


def training_set(name: str, rows: list[dict]) -> TrainingSet:
    return TrainingSet(name, pa.Table.from_pylist(rows), "quality", Scale(1, 5))


@pytest.fixture
def uris(photos: dict[str, bytes], tmp_path: Path) -> list[str]:
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in photos]


def rows(uris: list[str], split: str, kind: str = "image") -> list[dict]:
    return [
        {"uri": uri, "kind": kind, "split": split, "mos": float(at)} for at, uri in enumerate(uris)
    ]


def sizes(data: tuple[bytes, ...]) -> list[tuple[int, int]]:
    return [Image.open(io.BytesIO(one)).size for one in data]


def test_test_pictures_of_every_set_shrunk(small_scorer: Scorer, uris: list[str]) -> None:
    sets = [
        training_set("one", rows(uris[:2], "test") + rows(uris[2:], "train")),
        training_set("two", rows(uris[2:], "test")),
    ]
    panel = panel_of(sets, small_scorer)
    assert panel is not None
    assert [item.file for item in panel.file.items] == [f"{n}-image" for n in range(4)]
    assert all(max(size) == SIDE for size in sizes(panel.data))
    assert panel.file.fingerprint == small_scorer.fingerprint
    assert set(panel.file.items[0].said) == set(small_scorer.tasks)
    assert panel_of(sets, small_scorer) == panel


def test_validation_where_there_is_no_test_and_never_training(
    small_scorer: Scorer, uris: list[str]
) -> None:
    own = training_set("one", rows(uris[:1], "val") + rows(uris[1:], "train"))
    panel = panel_of([own], small_scorer)
    assert panel is not None
    assert len(panel.data) == 1


def test_at_most_eight_from_the_worst_to_the_best(small_scorer: Scorer, tmp_path: Path) -> None:
    names = []
    for shade in range(40):  # by mos, too
        names.append(str(tmp_path / f"{shade}.png"))
        Image.new("L", (40, 40), 6 * shade).save(names[-1])
    panel = panel_of([training_set("one", rows(names, "test"))], small_scorer)
    assert panel is not None
    shades = sorted(Image.open(io.BytesIO(one)).getpixel((5, 5))[0] // 6 for one in panel.data)
    assert len(shades) == 8
    assert shades[0] <= 2
    assert shades[-1] >= 33


def test_what_cannot_be_read_is_passed_over(small_scorer: Scorer, uris: list[str]) -> None:
    listed = rows(["/nowhere/gone.jpg", *uris[:1]], "test")
    panel = panel_of([training_set("one", listed)], small_scorer)
    assert panel is not None
    assert len(panel.data) == 1
    assert panel_of([training_set("one", rows(["/nowhere"], "test"))], small_scorer) is None


def test_a_short_video_where_there_is_no_picture(small_scorer: Scorer, clip: Path) -> None:
    own = training_set("clips", rows([str(clip)], "test", "video"))
    panel = panel_of([own], small_scorer)
    assert panel is not None
    assert panel.data == (clip.read_bytes(),)
    assert panel.file.items[0].file == "0-video"
    assert set(panel.file.items[0].said) == {"quality"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of grey."""
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for shade in range(10):
            picture = Image.new("RGB", (64, 64), (20 * shade,) * 3)
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode())
    return path
