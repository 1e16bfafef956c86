"""API keys: known by their hashes only, asked for before anything of a request is read.

A key is a long random text (``python -c "import secrets; print(secrets.token_urlsafe(32))"``);
its hash is what ``printf %s "$KEY" | sha256sum`` prints. Hashes need no salt and no slow function
because nobody guesses a random key.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from beholder.config import ConfigError

ENVIRONMENT = "BEHOLDER_KEY_HASHES"
"""The variable with further hashes, separated by commas or spaces."""

_HASH = re.compile(r"[0-9a-f]{64}")


def check_hashes(hashes: object) -> None:
    """Refuses what is no list of hashes, without repeating it: it may be a key.

    Raises:
        ConfigError: it is none.
    """
    listed = hashes if isinstance(hashes, list | tuple) else [None]
    for position, text in enumerate(listed):
        if not isinstance(text, str) or not _HASH.fullmatch(text):
            raise ConfigError(
                f"key_hashes, number {position + 1}, is no SHA-256 in 64 small hexadecimal "
                "digits: list what `printf %s KEY | sha256sum` prints, never a key"
            )


def known_hashes(configured: Sequence[str], environment: str) -> tuple[str, ...]:
    """The hashes of a config and of the environment variable's text together.

    Raises:
        ConfigError: the variable holds something else than hashes.
    """
    further = environment.replace(",", " ").split()
    try:
        check_hashes(further)
    except ConfigError as error:
        raise ConfigError(f"{ENVIRONMENT}: {error}") from None
    return tuple(dict.fromkeys([*configured, *further]))


def is_known(key: bytes, hashes: Iterable[str]) -> bool:
    """Whether a key's hash is among some, in a time that tells nothing of which or how near."""
    digest = hashlib.sha256(key).hexdigest()
    known = False
    for one in hashes:
        known |= hmac.compare_digest(digest, one)
    return known


class KeyGate:
    """ASGI middleware: 401 for a request without a known key, before its body is read.

    Args:
        app: what it guards.
        hashes: SHA-256 of the known keys, in hex.
        open_paths: paths that need none.
    """

    def __init__(
        self, app: ASGIApp, hashes: Sequence[str], open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hashes = tuple(hashes)
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in whose one Authorization header holds ``Bearer`` and a known key."""
        if scope["type"] == "lifespan" or scope.get("path") in self._open:
            await self._app(scope, receive, send)
            return
        said = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = said[0].partition(b" ") if len(said) == 1 else (b"", b"", b"")
        if scheme.lower() == b"bearer" and is_known(key.strip(), self._hashes):
            await self._app(scope, receive, send)
            return
        challenge = 'Bearer realm="beholder"' + (', error="invalid_token"' if said else "")
        refusal = JSONResponse(
            {"error": "the request has no valid API key: send 'Authorization: Bearer KEY'"},
            401,
            {"WWW-Authenticate": challenge},
        )
        await refusal(scope, receive, send)
