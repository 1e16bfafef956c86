"""The doctor's findings, on a real S3 and a real Ray."""

import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from beholder import doctor
from beholder.doctor import Check, check_storage, checks_table, exit_code, run_checks
from beholder.local_stack import HOST, ObjectStore, RayCluster


def test_storage_that_works(s3: ObjectStore) -> None:
    access, conditions = check_storage(f"s3://{s3.bucket}/doctor")
    assert (access.status, conditions.status) == ("ok", "ok"), (access, conditions)
    left = s3.client().list_objects_v2(Bucket=s3.bucket, Prefix="doctor")
    assert left.get("Contents", []) == []


@pytest.mark.parametrize(
    ("variable", "code", "remedy"),
    [
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID is not one of"),
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY does not fit"),
    ],
)
def test_wrong_keys(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, variable: str, code: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, "wrong")
    (check,) = check_storage(f"s3://{s3.bucket}")
    assert check.status == "fail"
    assert code in check.found
    assert check.remedy.startswith(remedy)


def test_missing_bucket(s3: ObjectStore) -> None:
    (check,) = check_storage("s3://nowhere/x")
    assert check.status == "fail"
    assert check.remedy == "create bucket 'nowhere' or name another"


def test_no_store(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))  # bound but not listening: connections are refused
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{closed.getsockname()[1]}")
        (check,) = check_storage("s3://bucket")
    assert check.status == "fail"
    assert "check AWS_ENDPOINT_URL" in check.remedy


@pytest.mark.parametrize("uri", ["bucket", "gs://bucket", "s3://"])
def test_what_names_no_bucket(uri: str) -> None:
    (check,) = check_storage(uri)
    assert check.status == "fail"
    assert check.remedy == "write it as s3://BUCKET/PREFIX"


def test_a_store_without_conditions_fails(s3: ObjectStore) -> None:
    class Careless:
        """Takes every write, as stores do that don't know the headers."""

        def put_object(self, **request: object) -> None:
            keep = {k: v for k, v in request.items() if not k.startswith("If")}
            s3.client().put_object(**keep)

    check = doctor._conditions(Careless(), s3.bucket, "doctor/x", '"etag"')
    assert check.status == "fail"
    assert check.found == "If-None-Match: * on an existing object answers 200"


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = doctor.check_port(port, "a test")
        assert check.status == "warn"
        assert f":{port}" in check.remedy
    assert doctor.check_port(port, "a test").status == "ok"


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().status == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    assert doctor.check_python() == Check(
        "Python", "fail", "3.12.1", "install Python 3.11 and run make install again"
    )


def test_disk_and_memory(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path, need_gib=0).status == "ok"
    assert doctor.check_disk(tmp_path, need_gib=1e9).status == "fail"
    assert doctor.check_memory(need_gib=0).status == "ok"
    assert doctor.check_memory(need_gib=1e9).status == "fail"


def test_libraries() -> None:
    assert doctor.check_torch().status == "ok"
    assert "decord2 3" in doctor.check_decoders().found
    assert doctor.check_gpu().found


def test_a_missing_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # what makes an import fail
    check = doctor.check_decoders()
    assert check.status == "fail"
    assert "decord2" in check.remedy


class TestRay:
    """Version skew against a cluster that answers, refuses, or is not there."""

    @pytest.fixture(autouse=True)
    def _address(self, ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", ray_cluster.dashboard)

    def test_same(self) -> None:
        assert doctor.check_ray().status == "ok"
        assert "the same on http://" in doctor.check_ray().found

    def test_skew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = doctor.metadata.version("ray")
        monkeypatch.setattr(doctor.metadata, "version", lambda name: "2.1.0")
        check = doctor.check_ray()
        assert check.status == "fail"
        assert check.remedy == f"pip install ray=={there} here, or give the cluster ray 2.1.0"

    def test_wrong_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        check = doctor.check_ray()
        assert check.status == "fail"
        assert "RAY_AUTH_TOKEN" in check.remedy

    def test_only_the_gcs_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
        assert doctor.check_ray().status == "warn"

    def test_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:
            closed.bind((HOST, 0))
            url = f"http://{HOST}:{closed.getsockname()[1]}"
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", url)
            check = doctor.check_ray()
        assert check.status == "fail"
        assert "start the cluster" in check.remedy


def test_everything_at_once(s3: ObjectStore) -> None:
    checks = run_checks(f"s3://{s3.bucket}")
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    assert {"Python", "torch", "GPU", "decoders", "disk", "memory", "port 8265", "Ray"} <= set(
        names
    )
    assert {"S3 access", "S3 conditional writes"} <= set(names)
    assert all(check.remedy for check in checks if check.status != "ok")


def test_table_and_exit_code() -> None:
    console = Console(width=120, color_system=None)
    checks = [Check("disk", "warn", "1 GiB", "free 4 GiB"), Check("Python", "ok", "3.11.7")]
    with console.capture() as shown:
        console.print(checks_table(checks))
    assert "free 4 GiB" in shown.get()
    assert exit_code(checks) == 0
    assert exit_code([*checks, Check("S3", "fail", "no", "yes")]) == 1
