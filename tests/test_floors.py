"""Holds the layout: imports point down, Ray stays on top, and no file grows beyond reading."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "platform" / "beholder"
FLOORS = {
    "errors": 0,
    "logs": 0,
    "config": 0,
    "config_files": 0,
    "opinions": 0,
    "items": 0,
    "media": 1,
    "conversations": 1,
    "backbones": 2,
    "readouts": 2,
    "scoring": 3,
    "evaluation": 3,
    "ranking": 3,
    "datasets": 3,
    "training": 4,
    "catalog": 4,
    "serving": 4,
}
TOP = 5  # modules beside the rooms: the command line and what belongs to it
DISTRIBUTED = {"ray", "deepspeed"}
DISTRIBUTED_ROOMS = {"training", "catalog", "serving"}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NO_CPU_BUILD = {"torchvision", "timm", "torchcodec"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "src", "tools"}
SOURCE_FOLDERS = ("platform", "jobs", "configs", "serve_apps", "tests", "infra", ".ci")


def source_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    hidden = ("__pycache__", ".egg-info")
    return [p for p in found if not any(part.endswith(hidden) for part in p.parts)]


def python_files(*folders: str) -> list[Path]:
    return [path for path in source_files(*folders) if path.suffix == ".py"]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its head or inside a function."""
    inside = PACKAGE in path.parents
    own = path.relative_to(ROOT / "platform").parent.parts if inside else ()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "pickle" and {a.name for a in node.names} == {"UnpicklingError"}:
                continue  # what a refused weights-only load raises: a name, not a reader
            base = ".".join(own[: len(own) - node.level + 1]) + "." if node.level else ""
            module = f"{base}{node.module or ''}".strip(".")
            yield module
            # `from beholder import items` imports a room, not a name.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "beholder" and len(parts) > 1 else None


def room_of_file(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def floor(room: str) -> int:
    return FLOORS.get(room, TOP)


def edges() -> Iterator[tuple[Path, str, str]]:
    for path in python_files("platform"):
        for module in imported(path):
            target = room_of(module)
            if target is not None:
                yield path, room_of_file(path), target


def test_every_room_has_a_floor() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    assert rooms <= set(FLOORS), f"give {rooms - set(FLOORS)} a floor"


def test_imports_point_down() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path, room, target in edges()
        # A name of the package itself (`__version__`) is no room.
        if target in FLOORS and floor(target) > floor(room)
    ]
    assert not upward, "\n".join(upward)


def test_rooms_of_one_floor_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for _, room, target in edges():
        if room != target and floor(room) == floor(target):
            graph.setdefault(room, set()).add(target)
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the cycle


def test_ray_and_deepspeed_stay_on_the_fourth_floor() -> None:
    strays = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files("platform")
        if room_of_file(path) not in DISTRIBUTED_ROOMS
        for module in imported(path)
        if module.split(".")[0] in DISTRIBUTED
    ]
    assert not strays, "\n".join(strays)


@pytest.mark.parametrize(
    ("banned", "folders"),
    [
        # A test may make the pickle that must be refused.
        (UNSAFE, ("platform", "jobs", "serve_apps")),
        (NO_CPU_BUILD, ("platform", "jobs", "serve_apps", "tests")),
    ],
    ids=["unsafe", "no_cpu_build"],
)
def test_nothing_imports_what_is_banned(banned: set[str], folders: tuple[str, ...]) -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files(*folders)
        for module in imported(path)
        if module.split(".")[0] in banned
    ]
    assert not found, "\n".join(found)


def test_torch_load_never_unpickles() -> None:
    for path in python_files("platform", "jobs", "serve_apps"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_no_file_is_over_600_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in python_files("platform", "jobs", "serve_apps", "tests")
    }
    assert not {name: n for name, n in lengths.items() if n > 600}


def test_no_file_or_folder_is_named_for_nothing() -> None:
    for path in source_files("platform", "jobs", "serve_apps", "tests"):
        names = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
        assert not names & BANNED_NAMES, path


def test_the_package_root_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("path", ["platform", str(ROOT / "platform")], ids=["relative", "absolute"])
def test_import_platform_is_the_standard_librarys(path: str) -> None:
    code = "import platform; print(platform.__file__); platform.machine(); import beholder"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(answer.stdout.strip()).parent == Path(os.__file__).parent


def test_no_text_names_a_place_outside_the_project() -> None:
    # Put together from parts, so that this file does not name them either.
    outside = re.compile(r"(?<![\w.])/" + r"work(?![\w-])|" + re.escape("../" + "shared"))
    files = source_files(*SOURCE_FOLDERS) + [p for p in ROOT.glob("*") if p.is_file()]
    found = []
    for path in files:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in outside.finditer(text)]
    assert not found, "\n".join(found)
