"""The page's files over HTTP; a browser works them in tests/e2e."""

import hashlib
import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from beholder.serving.page import FOLDER, PATHS

Ask = Callable[..., httpx.Response]
Endpoint = Callable[..., FastAPI]
KEY = "a-key-for-tests"


def test_the_page_is_all_of_its_folder() -> None:
    assert {path.name for path in PATHS.values()} == {path.name for path in FOLDER.iterdir()}
    assert PATHS["/"].name == "index.html"


@pytest.mark.parametrize("path", PATHS)
def test_every_file_is_guarded_and_kept_by_the_browser(
    ask: Ask, endpoint: Endpoint, path: str
) -> None:
    answer = ask(endpoint(), "GET", path)
    assert answer.status_code == 200 and answer.content == PATHS[path].read_bytes()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    known = {"If-None-Match": f'"other", W/{answer.headers["ETag"]}'}
    again = ask(endpoint(), "GET", path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    other = ask(endpoint(), "GET", path, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_the_page_comes_without_a_key_and_nothing_else_does(ask: Ask, endpoint: Endpoint) -> None:
    app = endpoint(key_hashes=[hashlib.sha256(KEY.encode()).hexdigest()])
    for path in PATHS:
        assert ask(app, "GET", path).status_code == 200
    for path in ("/page", "/page/", "/page/../v1/scorers", "/v1/scorers", "/docs/files/x"):
        assert ask(app, "GET", path).status_code == 401, path


def test_the_schema_is_of_the_api_alone(ask: Ask, endpoint: Endpoint) -> None:
    assert not set(PATHS) & set(ask(endpoint(), "GET", "/openapi.json").json()["paths"])


def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup() -> None:
    for path in PATHS.values():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[\w.-]+\.\w", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    page = PATHS["/"].read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded and all(f"/{name}" in PATHS for name in loaded)
