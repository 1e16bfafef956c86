"""The whole path on this machine: data, training, evaluation, a catalog in S3, an endpoint.

``make quickstart`` runs it. It starts a SeaweedFS (real S3, with keys) and a Ray of its own,
builds the demo set into S3, submits the training job, scores a catalog of held-out pictures,
serves the scorer, asks it over HTTP, and stops what it started. It leaves ``quickstart/``:
``report.html``, ``summary.json``, ``scorer/`` and the logs.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))

import httpx
import pyarrow.compute as pc

from beholder.catalog.manifest_pass import read_scores
from beholder.config import run_job
from beholder.datasets.demo.build import ABOUT, build_demo
from beholder.errors import UserError
from beholder.evaluation.report import Shown, report_page
from beholder.local_stack import ObjectStore, PeakMemory, RayCluster, require_free
from beholder.logs import Progress
from beholder.media.storage import fetch_tree, read_bytes
from beholder.scoring import Scorer

BUCKET = "s3://beholder"
RUN = f"{BUCKET}/runs/onealign-pocket"
SERVE_PORT = 8000
SERVE_WAIT_S = 180


def main(argv: list[str]) -> None:
    """Runs every step, then prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "quickstart", help="folder to fill")
    output: Path = parser.parse_args(argv).output.resolve()
    require_free(SERVE_PORT, "the endpoint")
    clear(output)
    began = time.monotonic()
    summary: dict[str, Any] = {}
    with ExitStack() as stack:
        memory = stack.enter_context(PeakMemory())
        with step("start S3 and Ray"):
            store = stack.enter_context(ObjectStore(bucket="beholder"))
            os.environ.update(store.environment())
            ray = stack.enter_context(RayCluster(num_cpus=4, object_store_gib=0.5))
            os.environ.update(ray.environment())
        with (
            step("build the demo set from real photographs into S3"),
            Progress(None, "sources") as bar,
        ):
            demo = build_demo(f"{BUCKET}/demo", workers=2, progress=lambda *_: bar.advance())
            print(f"  rows by split: {demo.counts}")
        with step("train One-Align (quality, aesthetics, video) and evaluate it"):
            submit(
                "train",
                output,
                "train_onealign.py",
                "--config",
                "configs/train/onealign_pocket.yaml",
            )
        trained = json.loads(read_bytes(f"{RUN}/summary.json"))
        with step("score a catalog from S3"):
            scores = f"{BUCKET}/scores/quickstart"
            sets = (
                "--set",
                f"manifest={demo.manifests['catalog']}",
                "--set",
                f"scorer={RUN}/scorer",
            )
            submit("score", output, "score_manifest.py", *sets, "--set", f"output={scores}")
        scored = json.loads(read_bytes(f"{scores}/scores.json"))
        fetch_tree(f"{RUN}/scorer", output / "scorer")
        shown = held_out_pictures()
        with step("serve the scorer and ask it over HTTP"), serving(output):
            served = ask(shown[0].picture)
        check_same(output / "scorer", shown[0].picture, served)
        summary |= figures(trained, scored) | {"serve_mean": served["quality"]["mean"]}
        summary["total_seconds"] = round(time.monotonic() - began, 1)
        summary["peak_rss_gib"] = round(memory.peak_gib, 2)
        write_report(output, summary, trained, shown)
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    print_summary(summary, output)


def clear(output: Path) -> None:
    """Makes room for this run: removes what an earlier one left, and refuses anything else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file: name an empty or a new folder")
    there = {path.name for path in output.iterdir()} if output.exists() else set()
    if foreign := sorted(there - {"logs", "scorer", "report.html", "summary.json"}):
        raise UserError(f"{output} holds other files ({foreign[0]}): name an empty or a new folder")
    if output.exists():
        shutil.rmtree(output)
    (output / "logs").mkdir(parents=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Says what begins, and how long it took."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    yield
    print(f"   {time.monotonic() - began:.0f} s", flush=True)


def submit(name: str, output: Path, job: str, *arguments: str) -> None:
    """Submits a job as its user types it, shows its lines, and keeps them in ``logs/``."""
    command = [
        str(Path(sys.executable).with_name("ray")),
        *("job", "submit", "--working-dir", str(ROOT), "--", "python", f"jobs/{job}", *arguments),
    ]
    log = output / "logs" / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if shown := _shown(line):
                print(f"   {shown}", flush=True)
    if process.wait():
        last = log.read_text().splitlines()[-15:]
        raise UserError(f"job {job} failed, its log is {log}:\n" + "\n".join(last))


_EVENT = re.compile(r'event="?(step [^"]*)')
_SHOWN = ("look at pictures", "score ", "quality:", "aesthetics:", "video:", "scorer ", "error:")


def _shown(line: str) -> str | None:
    """What a watcher wants of a job's line: progress and results, without the workers' prefixes."""
    if found := _EVENT.search(line):
        return found.group(1)
    return line.rstrip() if line.startswith(_SHOWN) or " items scored" in line else None


@contextmanager
def serving(output: Path) -> Iterator[None]:
    """Runs ``serve run`` as the README shows it until the block ends."""
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "run", "--working-dir", str(ROOT), "serve_apps/local.yaml"]
    with (output / "logs" / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            deadline = time.monotonic() + SERVE_WAIT_S
            while not _answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise UserError(f"the endpoint did not come up: see {log.name}")
                time.sleep(0.5)
            yield
        finally:
            process.terminate()  # the endpoint ends with the Ray, which is stopped next
            process.wait(60)


def _answers() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{SERVE_PORT}/v1/ready", timeout=30).is_success
    except httpx.HTTPError:
        return False


def ask(picture: bytes) -> dict[str, Any]:
    """One picture over HTTP; its scores by task."""
    url = f"http://127.0.0.1:{SERVE_PORT}/v1/score"
    answer = httpx.post(url, files={"files": ("photo.png", picture)}, timeout=60)
    if not answer.is_success:
        raise UserError(f"{url} answered {answer.status_code}: {answer.text}")
    scores: dict[str, Any] = answer.json()["items"][0]["scores"]
    return scores


def check_same(folder: Path, picture: bytes, served: dict[str, Any]) -> None:
    """The endpoint's answer is the one that the same scorer gives here."""
    direct = float(Scorer.load(folder).score([picture])[0].tasks["quality"].mean)
    if abs(direct - served["quality"]["mean"]) > 1e-5:
        raise UserError(f"HTTP gives {served['quality']['mean']} and the scorer here {direct}")


def held_out_pictures() -> list[Shown]:
    """The quality set's test pictures with what the scorer said of them."""
    rows = read_scores(f"{RUN}/test/quality/scores")
    good = rows.filter(pc.is_null(rows["failure_code"])).to_pylist()
    return [
        Shown(
            picture=read_bytes(row["uri"]),
            caption=f"{row['source']}, {row['distortion']} {row['strength']:.2f}",
            mean=row["mean"],
            std=row["std"],
            true=row["latent"],
            probs=row["probs"],
        )
        for row in good
    ]


def figures(trained: dict[str, Any], scored: dict[str, Any]) -> dict[str, Any]:
    """The summary's figures, all against latent quality on photos never trained on."""
    metrics = trained["metrics"]
    return {
        "quality_srcc": round(metrics["quality"]["latent"]["srcc"], 4),
        "quality_interval": metrics["quality"]["latent"]["srcc_interval"],
        "quality_pictures": metrics["quality"]["items"],
        "quality_photos": metrics["quality"]["sources"],
        "aesthetics_srcc": round(metrics["aesthetics"]["latent"]["srcc"], 4),
        "video_srcc": round(metrics["video"]["latent"]["srcc"], 4),
        "train_seconds": trained["seconds"]["train"],
        "scored": scored["scored"],
        "failed": scored["failed"],
        "fingerprint": trained["fingerprint"],
    }


def write_report(
    output: Path, summary: dict[str, Any], trained: dict[str, Any], shown: list[Shown]
) -> None:
    """``report.html``."""
    scatters = {}
    for name in ("quality", "aesthetics", "video"):
        rows = read_scores(f"{RUN}/test/{name}/scores")
        good = rows.filter(pc.is_null(rows["failure_code"]))
        label = f"{name}, SRCC {summary[f'{name}_srcc']:.2f}"
        scatters[label] = (good["mean"].to_numpy(), good["latent"].to_numpy())
    text = {name: _text(value) for name, value in summary.items()}
    page = report_page("Beholder quick start", ABOUT, text, trained["curve"], scatters, shown)
    (output / "report.html").write_text(page, "utf-8")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_text(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_summary(summary: dict[str, Any], output: Path) -> None:
    """What a newcomer reads last."""
    print()
    for name, value in summary.items():
        print(f"{name:<18} {_text(value)}")
    shown = output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output
    print(f"\nOpen {shown}/report.html. Score your own: .venv/bin/beholder score PHOTO...")


if __name__ == "__main__":
    run_job(main)
