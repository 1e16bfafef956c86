"""The night's job as whoever schedules it sees it: a process, its exit code, and a webhook.

One catalog on a real Ray and a real S3, three nights of it; the webhook's listener is on loopback.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from beholder.catalog.config import NightlyConfig
from beholder.catalog.estimate import Rate, Rates
from beholder.catalog.head import read_head
from beholder.catalog.layout import Layout, RunId
from beholder.config import dump_config
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import exists, write_bytes
from beholder.scoring import Scorer

from .listener import Listener

EARLY, FIRST, SECOND = "2026-11-19", "2026-11-20", "2026-11-21"
STRICT = {"accept": {"panel": "an untrained scorer has none"}, "max_failed": 0.5}


def a_picture_costs_two(config: NightlyConfig, fingerprint: str) -> None:
    """Writes down as measured that scoring one takes an hour of two CPUs."""
    setting = {"fingerprint": fingerprint, "tasks": None, "device": "cpu", "threads": 1}
    setting |= {"batch": config.batch, "warm_up": config.warm_up}
    rates = Rates(
        setting=setting, load_s=0.0, kinds={"image": Rate(items=1, decode_s=0.0, score_s=3600.0)}
    )
    write_bytes(Layout(config.catalog).warm_up(RunId(config.logical_date)), rates.encode())


def test_exit_codes_and_what_the_webhook_gets(
    ray_cluster: RayCluster,
    s3: ObjectStore,
    listener: Listener,
    night: Callable[..., NightlyConfig],
    new_uploads: type,
    pictures: list[bytes],
    small_scorer: Scorer,
    project: Path,
    tmp_path: Path,
) -> None:
    uploads = new_uploads(f"s3://{s3.bucket}/job")
    for at in range(8):
        uploads.put(f"{at}.jpg", pictures[at])
    (tmp_path / "private.jpg").write_bytes(pictures[0])
    uploads.rows["1.jpg"] |= {"uri": str(tmp_path / "private.jpg"), "etag": None}
    uploads.list()
    layout = Layout(f"{uploads.root}/catalog")

    def job(config: NightlyConfig, *words: str) -> tuple[int, str, str]:
        path = tmp_path / "night.yaml"
        path.write_text(dump_config(config))
        done = subprocess.run(
            [sys.executable, str(project / "jobs/score_catalog.py"), "--config", path, *words],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def configured(date: str, answer: int, **fields: object) -> NightlyConfig:
        url = f"http://127.0.0.1:{listener.server_port}/{answer}"
        return night(uploads, date, webhook=url, audit=STRICT, **fields)

    def seen() -> str:
        head = read_head(layout)
        assert head is not None
        return head.snapshot

    accept = ("--set", "audit.accept.mass=it is untrained")
    short = configured(FIRST, 200, budget=6.0, prices={"cpu_hour": 1.0})
    a_picture_costs_two(short, small_scorer.fingerprint)
    code, said, errors = job(short, *accept)
    assert code == 4, said + errors
    [told] = listener.posted
    assert (told["snapshot"], told["outcome"], told["refused_by"]) == (f"{FIRST}.0", "partial", [])
    assert (told["looked_at"], told["plan"]["left_out"]) == (3, 5)
    assert told["failures"] == {"fetch.denied": 1}  # a file of this machine's: it wasn't opened
    assert seen() == f"{FIRST}.0"

    code, said, errors = job(configured(SECOND, 200))
    assert code == 3, said + errors
    assert f"{SECOND}.0 is REFUSED: readers see what they saw" in said
    told = listener.posted[-1]
    assert (told["snapshot"], told["outcome"]) == (f"{SECOND}.0", "refused")
    assert told["refused_by"] == ["mass"]
    assert seen() == f"{FIRST}.0"

    code, said, errors = job(configured(SECOND, 500), *accept)  # nobody takes the message
    assert code == 0, said + errors
    told = listener.posted[-1]
    assert (told["snapshot"], told["outcome"]) == (f"{SECOND}.0", "published")
    assert (told["items"]["scored"], told["items"]["failed"]) == (7, 1)
    assert seen() == f"{SECOND}.0"

    code, said, errors = job(configured(EARLY, 200))
    assert code == 3, said + errors
    assert errors.count("error: ") == 1 and f"readers of {layout.root} see {SECOND}.0" in errors
    assert not exists(layout.run(RunId(EARLY)))
    assert len(listener.posted) == 3
