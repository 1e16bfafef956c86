"""Wrong variants of the equations, each of which a test must notice.

A mutant is a copy of the package in which one line is wrong as people get it wrong. The tests of
its room run against the copy and must fail; against an untouched copy they must pass.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.e2e


class Mutant(NamedTuple):
    """One wrong line.

    Attributes:
        name: what is wrong.
        file: below the package.
        right: what stands there, once.
        wrong: what stands there instead.
        tests: that must notice, below tests/.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: str


OBJECTIVES = "training/objectives"
MUTANTS = (
    Mutant(
        "reversed KL",
        f"{OBJECTIVES}/soft_label.py",
        "(torch.xlogy(targets, targets) - targets * predicted)",
        "(predicted.exp() * (predicted - targets.clamp_min(1e-9).log()))",
        f"{OBJECTIVES}/test_soft_label.py",
    ),
    Mutant(
        "reversed level weights",
        "readouts/levels.py",
        "np.arange(1, len(words) + 1, dtype=np.float64)",
        "np.arange(1, len(words) + 1, dtype=np.float64)[::-1]",
        "readouts/test_levels.py",
    ),
    Mutant(
        "slot off by one",
        "backbones/vicuna.py",
        "row.slots.append(first + at - 1)",
        "row.slots.append(first + at)",
        "backbones/test_vicuna.py",
    ),
    Mutant(
        "std for variance",
        f"{OBJECTIVES}/fidelity.py",
        "std_a**2 + std_b**2",
        "std_a + std_b",
        f"{OBJECTIVES}/test_fidelity.py",
    ),
    Mutant(
        "ends for centres",
        "readouts/levels.py",
        '"centres" if self._labels == "one_hot" else "ends"',
        '"ends"',
        "readouts/test_levels.py",
    ),
    Mutant(
        "open for closed softmax",
        "readouts/levels.py",
        "probs = torch.softmax(closed, dim=-1)",
        "probs = torch.softmax(logits, dim=-1)[:, token_ids]\n"
        "        probs = probs + (1 - probs.sum(1, keepdim=True)) / len(token_ids)",
        "readouts/test_levels.py",
    ),
    Mutant(
        "CE including the level",
        "training/objective.py",
        "at[rows, encoded.slots[:, 0] + 1] = False",
        "pass",
        "training/test_objective.py",
    ),
    Mutant(
        "std not detached",
        f"{OBJECTIVES}/fidelity.py",
        "fixed = std.detach()",
        "fixed = std",
        f"{OBJECTIVES}/test_fidelity.py",
    ),
    Mutant(
        "pairs across sets",
        f"{OBJECTIVES}/fidelity.py",
        "(sets[pairs[:, 0]] == sets[pairs[:, 1]]) & (weights[pairs] > 0).all(dim=1)",
        "(weights[pairs] > 0).all(dim=1)",
        f"{OBJECTIVES}/test_fidelity.py",
    ),
)


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the package and its tests, under tmp_path."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("platform", "tests"):
        shutil.copytree(project / name, tmp_path / name, ignore=ignored)
    shutil.copy(project / "pyproject.toml", tmp_path)
    return tmp_path


def _run(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", f"tests/{tests}"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "platform")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_untouched_copy_passes(copy: Path) -> None:
    """Or else every mutant would seem noticed."""
    for tests in sorted({mutant.tests for mutant in MUTANTS}):
        done = _run(copy, tests)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_is_noticed(copy: Path, mutant: Mutant) -> None:
    path = copy / "platform/beholder" / mutant.file
    text = path.read_text("utf-8")
    assert text.count(mutant.right) == 1, f"{mutant.file} has changed: state the mutant anew"
    path.write_text(text.replace(mutant.right, mutant.wrong), "utf-8")
    done = _run(copy, mutant.tests)
    assert done.returncode == 1, f"nobody noticed: {done.stdout}"
