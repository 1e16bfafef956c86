"""Connecting a job to Ray so that every worker finds this package."""

import json
import logging
import os
import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import ray.data

import beholder
from beholder.errors import UserError
from beholder.logs import event

log = logging.getLogger(__name__)

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


def in_blocks(rows: pa.Table, count: int) -> ray.data.Dataset:
    """Rows as a data set of at most ``count`` blocks, cut here and now.

    A repartition on the cluster would be a task that needs a CPU of its own: where actors have
    taken all of them (an endpoint beside a nightly job) it would wait for ever.
    """
    edges = np.linspace(0, rows.num_rows, max(1, min(count, rows.num_rows)) + 1).astype(int)
    return ray.data.from_arrow([rows.slice(a, b - a) for a, b in pairwise(edges.tolist())])


def say_if_short(cpus: float, gpus: float) -> None:
    """Logs that the job will wait where the cluster has less free than its actors take."""
    free, of = ray.available_resources(), ray.cluster_resources()
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        if free.get(name, 0) < needed:
            have = {"free": free.get(name, 0), "of": of.get(name, 0)}
            event(
                log,
                f"waiting for {name}s that others hold or nodes must bring",
                needs=needed,
                **have,
            )
