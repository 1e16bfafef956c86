"""Items are fetched from allowed places, and nothing is opened elsewhere."""

import pickle
from pathlib import Path

import pytest

from beholder.items import FailureCode, ItemError
from beholder.media.limits import Limits
from beholder.media.places import Places


def code(places: Places, uri: str) -> FailureCode:
    with pytest.raises(ItemError) as caught:
        pickle.loads(pickle.dumps(places)).fetch(uri, Limits())
    assert uri in caught.value.failure.message
    return caught.value.failure.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    for name in ("media/a.jpg", "media/b c.jpg", "secret.jpg", "media-of-others.jpg"):
        (tmp_path / name).write_bytes(b"bytes")
    (tmp_path / "media" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "media" / "circle").symlink_to(tmp_path / "media" / "circle")
    return tmp_path


def test_files_are_denied_unless_their_folder_is_listed(folder: Path) -> None:
    own = f"{folder}/media/a.jpg"
    for uri in (own, f"file://{own}", "media/a.jpg", f"file://localhost{own}"):
        assert code(Places(), uri) is FailureCode.FETCH_DENIED
        assert code(Places(["s3://uploads"]), uri) is FailureCode.FETCH_DENIED
    for listed in (f"{folder}/media", f"file://{folder}/media/"):
        places = Places(["s3://uploads", listed])
        for uri in (own, f"file://{own}", f"file://{folder}/media/b%20c.jpg"):
            assert places.fetch(uri, Limits()).data == b"bytes"
        assert places.fetch(b"sent", Limits()).data == b"sent"


@pytest.mark.parametrize(
    "name",
    [
        "secret.jpg",
        "media/../secret.jpg",
        "media/link.jpg",
        "media/circle",
        "media-of-others.jpg",
        "media/a\0.jpg",
    ],
)
def test_nothing_leads_out_of_a_folder(name: str, folder: Path) -> None:
    places = Places([f"{folder}/media"])
    assert code(places, f"{folder}/{name}") is FailureCode.FETCH_DENIED
    assert code(places, f"file://{folder}/{name}") is FailureCode.FETCH_DENIED


def test_buckets_and_folders_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("beholder.media.places.fetch", lambda uri, *_: asked.append(uri))
    allowed = ["s3://uploads/2026/a.jpg", "s3://shared/media/x//y.jpg"]
    denied = [
        "s3://uploads-2/a.jpg",
        "s3://shared/mediation/a.jpg",
        "s3://shared/media/../keys/a.jpg",
        "s3://shared/media/%2e%2e/keys/a.jpg",
    ]
    for uri in allowed:
        Places(["s3://uploads", "s3://shared/media/"]).fetch(uri, Limits())
    for uri in denied:
        places = Places(["s3://uploads", "s3://shared/media/"])
        assert code(places, uri) is FailureCode.FETCH_DENIED
    assert asked == allowed
    for uri in allowed + denied:  # the keys decide
        Places().fetch(uri, Limits())
    assert asked == 2 * allowed + denied


def test_other_schemes_are_nothing_that_is_opened() -> None:
    uri = "http://169.254.169.254/latest"
    assert code(Places(), uri) is FailureCode.FETCH_UNSUPPORTED
    assert code(Places(["s3://uploads"]), uri) is FailureCode.FETCH_UNSUPPORTED
