"""The local S3 and Ray: real, private, and gone afterwards."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from beholder.local_stack import (
    HOST,
    ObjectStore,
    PeakMemory,
    RayCluster,
    StackError,
    require_free,
    s3_client,
)


def listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0


def test_s3_takes_its_keys_only(s3: ObjectStore) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="stack/a", Body=b"abc")
    assert s3.client().get_object(Bucket=s3.bucket, Key="stack/a")["Body"].read() == b"abc"
    stranger = s3_client(s3.endpoint, s3.access_key, "wrong")
    with pytest.raises(stranger.exceptions.ClientError, match="SignatureDoesNotMatch"):
        stranger.get_object(Bucket=s3.bucket, Key="stack/a")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{s3.endpoint}/{s3.bucket}/stack/a")


def test_s3_makes_no_bucket_by_itself(s3: ObjectStore) -> None:
    client = s3.client()
    with pytest.raises(client.exceptions.ClientError, match="NoSuchBucket"):
        client.put_object(Bucket="nowhere", Key="a", Body=b"")


def test_the_environment_names_the_s3(s3: ObjectStore) -> None:
    assert s3.environment().items() <= os.environ.items()
    assert os.environ["AWS_ENDPOINT_URL"] == s3.endpoint


def test_s3_keys_are_private_and_nothing_stays_after_an_exception() -> None:
    with contextlib.suppress(KeyboardInterrupt), ObjectStore("mine") as store:
        process = psutil.Process(store.pid)
        folder = Path(next(a for a in process.cmdline() if a.startswith("-dir=")).partition("=")[2])
        assert stat.S_IMODE((folder / "s3.json").stat().st_mode) == 0o600
        assert [b["Name"] for b in store.client().list_buckets()["Buckets"]] == ["mine"]
        raise KeyboardInterrupt
    assert not process.is_running()
    assert not listens(store.endpoint)
    assert not folder.exists()
    store.stop()  # again does nothing


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} for S3 is taken: stop what listens"):
            ObjectStore(port=port).__enter__()
        with pytest.raises(StackError, match=f"port {port} for Ray's dashboard is taken"):
            RayCluster(1, dashboard_port=port).__enter__()
    require_free(port, "S3")


def test_a_server_that_can_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beholder.local_stack._weed", lambda: "/bin/false")
    with pytest.raises(StackError, match="SeaweedFS ended while starting: it wrote nothing"):
        ObjectStore().__enter__()


def test_a_killed_owner_takes_its_s3_along() -> None:
    code = "from beholder.local_stack import *\nwith ObjectStore() as s: print(s.pid, flush=True); "
    code += "input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        folder = next(a for a in server.cmdline() if a.startswith("-dir=")).partition("=")[2]
        owner.send_signal(signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        server.wait(10)
    subprocess.run(["rm", "-r", folder], check=True)  # the dead can't clean up


def test_ray_answers_its_token_only(ray_cluster: RayCluster) -> None:
    url = f"{ray_cluster.dashboard}/api/version"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
    token = os.environ["RAY_AUTH_TOKEN"]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["ray_version"]


def test_ray_runs_jobs_that_reach_the_s3(ray_cluster: RayCluster, s3: ObjectStore) -> None:
    code = "import os, ray; ray.init(log_to_driver=False); "
    code += "print('seen', ray.get(ray.remote(lambda: os.environ['AWS_ENDPOINT_URL']).remote()), "
    code += "ray.cluster_resources()['CPU'])"
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--", "python", "-c"]
    ended = subprocess.run([*submit, code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"seen {s3.endpoint} 4.0" in ended.stdout


def test_memory_of_a_tree_is_added_up() -> None:
    code = "b = bytearray(300 << 20); b[::4096] = b'x' * len(b[::4096]); print(flush=True); input()"
    with PeakMemory(interval_s=0.05) as memory:
        before = memory.sample()
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with PeakMemory([child.pid]) as alone:
                assert 0.28 < alone.sample() < 0.4
            grown = memory.sample() - before
            child.communicate(b"\n")
        after = memory.sample()
    assert 0.28 < grown < 0.4
    assert after < before + 0.1
    assert memory.peak_gib >= before + grown


def test_a_tree_that_is_gone_weighs_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert PeakMemory([child.pid]).sample() == 0
