"""``beholder doctor``: is this machine ready, and if not, what to do.

Every check is a function that returns one or several :class:`Check`; none raises. Ray is asked
over HTTP and through its package's metadata: importing it would take seconds.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import botocore.exceptions
import psutil
from rich.table import Table

from beholder.local_stack import HOST, s3_client

Status = Literal["ok", "warn", "fail"]
PORTS = {8265: "Ray's dashboard and job server", 6379: "Ray's GCS", 8000: "Ray Serve's HTTP"}
"""Ports that Ray takes by default; the quick start picks free ones of its own."""
_GIB = 1024**3


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``warn`` where something won't work in every case; ``fail``.
        found: what is there.
        remedy: what to do; empty where nothing is to be done.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def check_python() -> Check:
    """Python is 3.11."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "install Python 3.11 and run make install again")


def check_port(port: int, purpose: str) -> Check:
    """Nobody listens on a port of this machine."""
    name = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            remedy = f"unless that is your own Ray: `ss -ltnp | grep :{port}` shows who has it"
            return Check(name, "warn", f"taken ({error.strerror}), for {purpose}", remedy)
    return Check(name, "ok", f"free, for {purpose}")


def check_disk(path: Path, need_gib: float = 5.0) -> Check:
    """A folder's file system has room for the quick start (5 GiB)."""
    free = shutil.disk_usage(path).free / _GIB
    found = f"{free:.1f} GiB free at {path}"
    if free >= need_gib:
        return Check("disk", "ok", found)
    status: Status = "warn" if free >= need_gib / 2 else "fail"
    return Check("disk", status, found, f"free {need_gib - free:.1f} GiB more there")


def check_memory(need_gib: float = 8.0) -> Check:
    """Enough memory is to be had for the quick start (8 GiB)."""
    free = psutil.virtual_memory().available / _GIB
    limit = _container_limit_gib()
    found = f"{free:.1f} GiB available" + (f", container limit {limit:.1f}" if limit else "")
    usable = min(free, limit) if limit else free
    if usable >= need_gib:
        return Check("memory", "ok", found)
    status: Status = "warn" if usable >= need_gib / 2 else "fail"
    return Check("memory", status, found, f"close programs, or give it {need_gib:.0f} GiB")


def _container_limit_gib() -> float | None:
    """The memory limit of the control group, where there is one."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text()) / _GIB
    return None


def check_torch() -> Check:
    """torch is there, and which build."""
    try:
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        return Check("torch", "fail", f"does not import: {error}", "run make install again")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return Check("torch", "ok", f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")


def check_gpu() -> Check:
    """A GPU that large backbones can use."""
    with contextlib.suppress(ImportError, OSError):
        torch = import_module("torch")
        if torch.cuda.is_available():
            device = torch.cuda.get_device_properties(0)
            found = f"{torch.cuda.device_count()} x {device.name}, "
            found += (
                f"{device.total_memory / _GIB:.0f} GiB, capability {device.major}.{device.minor}"
            )
            if device.major >= 8:
                return Check("GPU", "ok", found)
            return Check("GPU", "warn", found, "bf16 needs capability 8.0: train in fp32")
    return Check("GPU", "ok", "none: pocket runs on CPU, mplug_owl2 wants a GPU")


def check_decoders() -> Check:
    """The libraries that decode pictures and videos import."""
    versions = []
    for module, package in (("PIL.Image", "pillow"), ("decord", "decord2")):
        try:
            import_module(module)
            versions.append(f"{package} {metadata.version(package)}")
        except (ImportError, OSError, metadata.PackageNotFoundError) as error:
            remedy = f"pip install {package}"
            if package == "decord2":
                remedy = "pip uninstall decord (it hides decord2), then pip install decord2"
            return Check("decoders", "fail", f"{package}: {error}", remedy)
    return Check("decoders", "ok", ", ".join(versions))


# --- Ray ----------------------------------------------------------------------------------------


def check_ray() -> Check:
    """Ray's version here equals that of the cluster that the environment names."""
    try:
        here = metadata.version("ray")
    except metadata.PackageNotFoundError:
        return Check("Ray", "warn", "not installed", "pip install 'beholder[cluster]' for jobs")
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    if not address:
        return Check("Ray", "ok", f"{here}, no cluster named by RAY_ADDRESS")
    if not address.startswith(("http://", "https://")):
        remedy = "set RAY_API_SERVER_ADDRESS to the dashboard, as http://HOST:8265, to compare"
        return Check("Ray", "warn", f"{here}, RAY_ADDRESS={address} can't be asked", remedy)
    try:
        there = _cluster_version(address)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token"
        else:
            remedy = "RAY_API_SERVER_ADDRESS must name Ray's dashboard"
        return Check("Ray", "fail", f"{here}, {address} answers {error.code}", remedy)
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", None) or error
        remedy = "start the cluster, or unset RAY_API_SERVER_ADDRESS and RAY_ADDRESS"
        return Check("Ray", "fail", f"{here}, {address} does not answer: {reason}", remedy)
    if there != here:
        remedy = f"pip install ray=={there} here, or give the cluster ray {here}"
        return Check("Ray", "fail", f"{here} here, {there} on {address}", remedy)
    return Check("Ray", "ok", f"{here}, the same on {address}")


def _cluster_version(address: str) -> str:
    request = urllib.request.Request(f"{address.rstrip('/')}/api/version")
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(json.load(answer)["ray_version"])


# --- S3 -----------------------------------------------------------------------------------------


def check_storage(uri: str | None) -> list[Check]:
    """The bucket takes our keys and honours conditional writes, on which publishing rests.

    Writes, reads and deletes one object of some bytes below the URI.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``; None where none is configured.
    """
    if uri is None:
        remedy = "name one to test it: beholder doctor --bucket s3://BUCKET"
        return [Check("S3", "ok", "no bucket named", remedy)]
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        return [Check("S3", "fail", f"'{uri}' names no bucket", "write it as s3://BUCKET/PREFIX")]
    where = f"{uri} at {os.environ.get('AWS_ENDPOINT_URL', 'AWS')}"
    key = "/".join(p for p in (parts.path.strip("/"), f".doctor-{secrets.token_hex(6)}") if p)
    try:
        client = s3_client(os.environ.get("AWS_ENDPOINT_URL") or None, None, None)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        return [Check("S3 access", "fail", f"{where}: {error}", "correct AWS_ENDPOINT_URL")]
    with contextlib.closing(client):
        try:
            etag = client.put_object(Bucket=parts.netloc, Key=key, Body=b"doctor")["ETag"]
        except botocore.exceptions.ClientError as error:
            return [_refused(where, parts.netloc, error)]
        except botocore.exceptions.NoCredentialsError:
            remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return [Check("S3 access", "fail", f"{where}: no keys", remedy)]
        except botocore.exceptions.BotoCoreError as error:
            remedy = "check AWS_ENDPOINT_URL, and that the store runs"
            return [Check("S3 access", "fail", f"{where}: {error}", remedy)]
        try:
            return [Check("S3 access", "ok", where), _conditions(client, parts.netloc, key, etag)]
        finally:
            with contextlib.suppress(botocore.exceptions.ClientError):
                client.delete_object(Bucket=parts.netloc, Key=key)


def _refused(where: str, bucket: str, error: botocore.exceptions.ClientError) -> Check:
    code = error.response.get("Error", {}).get("Code", "")
    remedies = {
        "NoSuchBucket": f"create bucket '{bucket}' or name another",
        "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not one of this store's: correct it",
        "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not fit the access key: correct it",
        "AccessDenied": f"let these keys write to bucket '{bucket}'",
        "RequestTimeTooSkewed": "set this machine's clock",
    }
    remedy = remedies.get(code, "see the store's log")
    return Check("S3 access", "fail", f"{where} refuses a write: {code or error}", remedy)


def _conditions(client: Any, bucket: str, key: str, etag: str) -> Check:
    """A store without conditional writes would let two runs publish over each other."""
    wrong_etag = f'"{"0" * 32}"'
    trials = {
        "If-None-Match: * on an existing object": ({"IfNoneMatch": "*"}, False),
        "If-Match with a wrong ETag": ({"IfMatch": wrong_etag}, False),
        "If-Match with the right ETag": ({"IfMatch": etag}, True),
    }
    name, remedy = "S3 conditional writes", "use a store that has them (S3, MinIO, SeaweedFS 4)"
    for trial, (condition, wanted) in trials.items():
        try:
            client.put_object(Bucket=bucket, Key=key, Body=b"again", **condition)
            status = 200
        except botocore.exceptions.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        except botocore.exceptions.BotoCoreError as error:
            return Check(name, "fail", f"{trial}: {error}", remedy)
        if status != (200 if wanted else 412):
            return Check(name, "fail", f"{trial} answers {status}", remedy)
    return Check(name, "ok", "If-None-Match and If-Match are honoured")


# --- all ----------------------------------------------------------------------------------------


def run_checks(bucket_uri: str | None = None) -> list[Check]:
    """Every check, in the order in which one would set up a machine.

    Args:
        bucket_uri: the bucket to try, ``s3://bucket[/prefix]``, reached by the AWS_* variables.
    """
    return [
        check_python(),
        check_torch(),
        check_gpu(),
        check_decoders(),
        check_disk(Path.cwd()),
        check_memory(),
        *(check_port(port, purpose) for port, purpose in PORTS.items()),
        check_ray(),
        *check_storage(bucket_uri),
    ]


def checks_table(checks: Sequence[Check]) -> Table:
    """The findings as a table to print."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table("check", "status", "found", "remedy")
    for check in checks:
        status = f"[{colours[check.status]}]{check.status}[/]"
        table.add_row(check.name, status, check.found, check.remedy)
    return table


def exit_code(checks: Sequence[Check]) -> int:
    """1 where a check failed, else 0."""
    return int(any(check.status == "fail" for check in checks))
