"""The command ``beholder``: score files, serve a scorer, look into a catalog, check a machine."""

import json
import os
import shlex
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beholder.doctor import checks_table, exit_code, run_checks
from beholder.errors import UserError
from beholder.items import Score
from beholder.logs import progress
from beholder.opinions import Point
from beholder.scoring import Scorer, check_tasks, load_scorer, outline_scorer

app = typer.Typer(
    help="Rates pictures and videos as people do.", no_args_is_help=True, add_completion=False
)

DEFAULT_SCORER = "quickstart/scorer"


@app.command()
def score(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="pictures or videos: paths, s3:// URIs")
    ],
    scorer: Annotated[
        str, typer.Option(envvar="BEHOLDER_SCORER", help="scorer's folder: path or s3:// URI")
    ] = DEFAULT_SCORER,
    task: Annotated[
        list[str] | None, typer.Option(help="quality or aesthetics; all by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line an item")] = False,
) -> None:
    """Scores files and prints a table; exits with 1 if one could not be scored."""
    judge = load_scorer(scorer)
    check_tasks(judge.tasks, task)
    scores = [judge.score([photo], task)[0] for photo in progress(photos, len(photos), "score")]
    if as_json:
        for one in scores:
            print(json.dumps(one.as_dict()))
    else:
        _print(scores, judge)
    raise typer.Exit(1 if any(one.failure for one in scores) else 0)


def _print(scores: list[Score], judge: Scorer) -> None:
    # A pipe has no width: leave names whole.
    console = Console(width=None if sys.stdout.isatty() else 160)
    readout, scale = judge.readout, judge.readout.scale
    told = len(readout.words()) == len(readout.support)  # not the thousand numbers of three digits
    shares = " · ".join(readout.words()) if told else "shares: --json has them"
    title = f"scorer {judge.fingerprint}, {scale.minimum:g} worst to {scale.maximum:g} best"
    table = Table(title=title, title_justify="left")
    for column in ("item", "task", "mean", "std", escape(shares or "no shares")):
        right = column in ("mean", "std")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one in scores:
        if one.failure is not None:
            said = f"{one.failure.code}: {one.failure.message}"
            table.add_row(escape(one.item_id), "", "", "", escape(said))
        for task, rating in one.tasks.items():
            std, probs = "none", ""
            if not isinstance(rating, Point):
                std = f"{float(rating.std):.2f}"
                probs = " · ".join(f"{100 * p:2.0f}%" for p in rating.probs) if told else ""
            table.add_row(escape(one.item_id), task, f"{float(rating.mean):.2f}", std, probs)
    console.print(table)


@app.command()
def explain(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="an item_id")],
    catalog: Annotated[str, typer.Option(help="URI of the catalog's folder")],
    as_json: Annotated[bool, typer.Option("--json", help="everything, as JSON")] = False,
) -> None:
    """Says what a catalog knows of one item, and which nights made it so."""
    from beholder.catalog.history import explain_item
    from beholder.catalog.tables import ITEMS

    found = explain_item(catalog, item)
    if as_json:
        print(json.dumps(asdict(found), default=str))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    now = found.item or {"state": "not there any more"}
    title = f"{item}: {now['state']} in {found.snapshot}, scorer {found.fingerprint}"
    scores = Table(title=escape(title), title_justify="left")
    for column in ("task", "mean", "std", "scored by run"):
        scores.add_column(column)
    for one in found.scores:
        std = "" if one["std"] is None else f"{one['std']:.2f}"
        scores.add_row(one["task"], f"{one['mean']:.2f}", std, one["run"])
    nights = Table(title="made by", title_justify="left")
    columns = ("run", "state", "attempts", "failure", "sha256", "uri", "scorer", "kept snapshots")
    for column in columns:
        nights.add_column(column, overflow="fold")
    for event in found.history:
        row = event.row or dict.fromkeys(ITEMS.names) | {"state": "removed"}
        code, attempts = row["failure_code"], row["attempts"]
        failure = f"{code}: {row['failure_message']}" if code else None
        sha256 = row["sha256"] and row["sha256"][:12]
        about = (row["state"], attempts and str(attempts), failure, sha256, row["uri"])
        words = (*about, event.fingerprint[:12])
        nights.add_row(event.run, *(escape(word or "") for word in words), ", ".join(event.seen_in))
    console.print(scores, nights)


@app.command()
def serve(
    scorer: Annotated[
        str, typer.Option(envvar="BEHOLDER_SCORER", help="scorer's folder: path or s3:// URI")
    ] = DEFAULT_SCORER,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="of the endpoint and its page")
    ] = 8000,
) -> None:
    """Serves a scorer and its web page on this machine until Ctrl-C, on a Ray of its own."""
    from beholder.kept_logs import logs_folder
    from beholder.local_stack import RayCluster, require_free

    outline_scorer(scorer)  # a wrong folder is said before anything starts
    require_free(port, "the endpoint")
    _end_on_sigterm()
    logs = logs_folder(port)
    print(f"starting Ray and loading {scorer} ...", file=sys.stderr)
    print(f"when it ends, the last of its logs are in {logs}", file=sys.stderr)
    with RayCluster(num_cpus=4, object_store_gib=0.5, logs=logs) as ray:
        os.environ.update(ray.environment())
        from beholder.serving.config import ServeConfig
        from beholder.serving.local import serving  # Ray reads the environment when imported

        folder = scorer if "://" in scorer else str(Path(scorer).resolve())
        try:
            with suppress(KeyboardInterrupt), serving(ServeConfig(scorer=folder), port) as url:
                _end_on_sigterm()  # Ray has put its own handler there
                print(f"open {url} (Ctrl-C here ends it)", flush=True)
                signal.pause()
        except RuntimeError as error:
            raise UserError(f"the endpoint did not start, {logs} says why: {error}") from error


@app.command()
def stack(
    cpus: Annotated[int, typer.Option(help="CPUs that Ray may hand out")] = 4,
) -> None:
    """Runs S3 and Ray with the demo set on this machine until Ctrl-C; prints how to reach them."""
    from beholder.datasets.demo import build_demo
    from beholder.local_stack import ObjectStore, RayCluster

    _end_on_sigterm()
    with ObjectStore(bucket="beholder") as store:
        os.environ.update(store.environment())
        with RayCluster(num_cpus=cpus, object_store_gib=0.5) as ray:
            print("building the demo set ...", file=sys.stderr)
            build_demo("s3://beholder/demo", workers=2)
            for name, value in (store.environment() | ray.environment()).items():
                print(f"export {name}={shlex.quote(value)}")
            print("# paste these lines into another shell; Ctrl-C here ends it", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()


def _end_on_sigterm() -> None:
    """Has a SIGTERM leave every ``with``, which ends what was started there."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@app.command()
def doctor(
    bucket: Annotated[
        str | None, typer.Option(help="s3://BUCKET to check for keys and conditional writes")
    ] = None,
) -> None:
    """Checks this machine and what it is configured to reach; each finding has its remedy."""
    checks = run_checks(bucket)
    Console().print(checks_table(checks))
    raise typer.Exit(exit_code(checks))


def main() -> None:
    """Entry point: a user's error is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        if os.environ.get("BEHOLDER_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
