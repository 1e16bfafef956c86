"""Import target of the Serve config files beside it: ``serve run serve_apps/local.yaml``."""

from typing import Any

from ray import serve

from beholder.config import validate_config
from beholder.serving.app import build
from beholder.serving.config import ServeConfig


def app(args: dict[str, Any]) -> serve.Application:
    """The application, from the config file's ``args``."""
    return build(validate_config(ServeConfig, args, "serve config, args"))
