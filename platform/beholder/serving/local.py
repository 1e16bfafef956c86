"""The endpoint on this machine's Ray, for as long as a block lasts."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from beholder.serving.app import build
from beholder.serving.config import ServeConfig

HOST = "127.0.0.1"
PROXIES = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "beholder.serving.proxy:middlewares"}
"""Environment of Serve's proxies."""


@contextmanager
def serving(config: ServeConfig, port: int) -> Iterator[str]:
    """Serves a scorer on the Ray that RAY_ADDRESS names; gives the endpoint's URL.

    When the block begins the scorer is loaded and answers; when it ends this process leaves Ray.
    The endpoint ends with that Ray, whose stop follows: shutting Serve down before would take
    seconds and complain of the controller's own end.

    Args:
        config: ``scorer`` must be a URI or an absolute path: replicas have folders of their own.
        port: on 127.0.0.1.

    Raises:
        ScorerError: the scorer's folder is not usable.
        ConfigError: an environment variable of the endpoint can't be used.
        RuntimeError: a replica did not come up; Serve's message says why.
    """
    application = build(config)
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    try:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(
            http_options={"host": HOST, "port": port},
            controller_options={"runtime_env": {"env_vars": PROXIES}},
        )
        serve.run(application, name="score", route_prefix="/")
        yield f"http://{HOST}:{port}/"
    finally:
        ray.shutdown()
