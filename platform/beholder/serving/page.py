"""The page at ``/``: a few files without a build step, which load nothing from elsewhere."""

import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response

FOLDER = Path(__file__).with_name("page")

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

PATHS = {
    "/" if path.name == "index.html" else f"/page/{path.name}": path
    for path in sorted(FOLDER.iterdir())
    if path.suffix in TYPES
}
"""What the page consists of: it is shown before a key is asked for, which is typed into it."""

HEADERS = {
    # Scripts and styles from here only, none inline; previews are blobs; no string becomes markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Kept by the browser, but asked for again: a new version of the endpoint has its own page.
    "Cache-Control": "no-cache",
}


def add_page(api: FastAPI) -> None:
    """Adds the page's files, which the API's schema does not show."""
    for route, path in PATHS.items():
        api.get(route, include_in_schema=False)(_File(path))


class _File:
    """One file, read when the application is made."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._etag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
        self._headers = {**HEADERS, "ETag": self._etag, "Content-Type": TYPES[path.suffix]}

    async def __call__(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        known = request.headers.get("If-None-Match", "")
        if self._etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)
