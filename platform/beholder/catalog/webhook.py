"""One message to whoever wants to know how a night ended."""

import http.client
import json
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from beholder.logs import event

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Sends the summary nowhere but to the configured address."""


_opener = urllib.request.build_opener(_NoRedirect)


def notify(url: str, summary: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> bool:
    """Posts a summary as JSON, once. A night never fails for it: what goes wrong is logged.

    Args:
        url: http or https. It may hold a secret, so only its host is logged.
        summary: what is posted.
        timeout_s: seconds to wait for a connection, and for each part of the answer.

    Returns:
        Whether it was taken with a 2xx status.
    """
    host = urllib.parse.urlsplit(url).hostname
    try:
        request = urllib.request.Request(
            url,
            json.dumps(summary, default=str).encode(),
            {"Content-Type": "application/json", "User-Agent": "beholder"},
            method="POST",
        )
        if request.type not in ("http", "https"):
            raise ValueError(f"'{request.type}' is no scheme to post to: use http or https")
        with _opener.open(request, timeout=timeout_s) as answer:
            event(log, "webhook taken", host=host, status=answer.status)
        return True
    except (OSError, ValueError, http.client.HTTPException) as error:
        status = error.code if isinstance(error, urllib.error.HTTPError) else None
        reason = f"status {status}" if status else f"{type(error).__name__}: {error}"
        event(log, "webhook failed", host=host, reason=reason.replace(url, "the address"))
        return False
