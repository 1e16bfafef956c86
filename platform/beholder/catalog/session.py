"""Connecting a job to Ray so that every worker finds this package."""

import json
import logging
import os
import socket
from pathlib import Path

import ray
import ray.data

import beholder
from beholder.errors import UserError

_ANSWER_S = 10


def connect() -> None:
    """Joins the running Ray of ``RAY_ADDRESS``, or the one on this machine, unless it has.

    A job that was submitted with ``--working-dir`` finds the package in the uploaded folder on
    every node, so that beholder itself need not be installed on the cluster. Credentials are
    never sent along: nodes have their own.

    Raises:
        UserError: no Ray answers.
    """
    if ray.is_initialized():
        return
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    uploaded = submitted.get("runtime_env", {}).get("working_dir")
    source = "platform" if uploaded else str(Path(beholder.__file__).parents[1])
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit() and "//" not in address:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        ray.init(
            address=address,
            runtime_env={"env_vars": {"PYTHONPATH": source}},
            logging_level=logging.WARNING,
        )
    except OSError as error:  # a ConnectionError is one
        raise UserError(
            f"no Ray answers at '{address}': start one with `ray start --head`, or set "
            "RAY_ADDRESS to the cluster's"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
