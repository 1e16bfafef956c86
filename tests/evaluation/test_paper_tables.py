import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from beholder.datasets.public import LabelError
from beholder.evaluation.paper_figures import (
    DEQA_1,
    DEQA_2,
    DEQA_A1,
    FIGURES,
    HEADER,
    Q_ALIGN,
    RELEASED,
    Figure,
    report,
)
from beholder.evaluation.paper_labels import FILES
from beholder.evaluation.paper_tables import measure

# Made up, in the published forms; the first line of each is its header.
LABELS = {
    "koniq10k_distributions_sets.csv": """image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set
        a.jpg,0.0,0.8,0.2,0.0,0.0,100,20,0.5,training
        b.jpg,0.0,0.0,1.0,0.0,0.0,100,50,0.6,training
        c.jpg,0.0,0.0,0.0,1.0,0.0,100,81,0.7,training
        d.jpg,1.0,0.0,0.0,0.0,0.0,100,0,0.0,test
        e.jpg,0.0,0.0,0.0,0.0,1.0,100,100,0.0,validation""",
    "qalign_koniq.csv": """name,score,level,split,question
        a.jpg,20,bad,train,How?
        b.jpg,50,fair,train,How?
        d.jpg,0,poor,test,How?""",
    "vqr1_SPAQ.csv": """c0,c1,c2
        1.jpg,1.0,10
        2.jpg,2.2,20
        3.jpg,4.0,30
        4.jpg,5.0,40
        5.jpg,3.0,20""",
    "qalign_spaq.csv": """name,score,level,split,question
        1.jpg,37.6,fair,train,How?
        2.jpg,56.4,fair,train,How?
        3.jpg,75.2,excellent,train,How?
        4.jpg,18.7,bad,test,How?""",
    "kadid10k_dmos_std.csv": """ref,dist,dmos,std
        I01.png,I01_01_01.png,1,0.0
        I01.png,I01_01_02.png,2.2,0.1
        I01.png,I01_01_03.png,3.4,0.1
        I01.png,I01_01_04.png,5,0.1""",
    "qalign_kadid.csv": """name,score,level,split,question
        I01_01_01.png,1.2,excellent,train,How?
        I01_01_02.png,2.2,excellent,train,How?
        I01_01_03.png,3.2,bad,test,How?
        I01_01_04.png,3.2,good,test,How?""",
    "fastvqa_lsvq_train.csv": """name,duration,fps,mos
        a.mp4,-1,-1,10
        b.mp4,-1,-1,20
        c.mp4,-1,-1,90""",
    "qalign_test_lsvq.csv": """name,score,level
        a.mp4,30,bad
        b.mp4,39,fair
        c.mp4,50,excellent""",
    "qalign_test_lsvq_1080p.csv": """name,score,level
        a.mp4,60,bad
        b.mp4,70,bad
        c.mp4,80,excellent""",
    "ava_idealo_test.csv": """image_id,n1,n2,n3,n4,n5,n6,n7,n8,n9,n10
        1,1,0,0,0,0,0,0,0,0,0
        2,0,0,1,0,1,0,0,0,0,0
        3,0,0,0,0,0,0,0,0,0,3""",
}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    for name, text in LABELS.items():
        lines = [line.strip() for line in text.splitlines()]
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def run(project: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/paper_tables.py", *map(str, arguments)],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("paper", "inside", "outside"),
    [
        ("0.302", (0.3015001, 0.3024999), (0.30149, 0.30251, float("nan"))),
        ("-0.005", (-0.0054, -0.0046), (-0.0056, -0.0044, 0.005)),
        ("19.73%", (0.19727, 0.19733), (0.1974, 0.1972, 19.73)),
        ("7046", (7046.0,), (7045.0, 7047.0)),
        ("0", (0.0,), (1.0,)),
    ],
)
def test_a_figure_holds_if_it_rounds_to_the_printed_number(
    paper: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    figure = Figure("T", "r", paper)
    assert all(figure.holds(value) for value in inside)
    assert not any(figure.holds(value) for value in outside)


@pytest.mark.parametrize(
    ("got", "status", "verdict"),
    [
        ({"held": 0.5, "missed": 0.25}, 0, "known"),
        ({"held": 0.5, "missed": 0.75}, 0, "ok"),
        ({"held": 0.51, "missed": 0.25}, 1, "known"),
    ],
)
def test_only_a_known_figure_may_miss(got: dict[str, float], status: int, verdict: str) -> None:
    figures = (Figure("T", "held", "0.50"), Figure("T", "missed", "0.75", known=True))
    lines: list[str] = []
    assert report(figures, {("T", row): v for row, v in got.items()}, lines.append) == status
    assert lines[0] == HEADER
    assert lines[1].endswith("0.50 | ok" if status == 0 else "0.50 | FAILED")
    assert lines[2].startswith(f"T | missed | {got['missed']:.4f} | 0.75 | {verdict}")
    assert lines[3].endswith(f"{status} should and do not")


def test_every_figure_is_measured_once(labels: Path) -> None:
    keys = [figure.key for figure in FIGURES]
    assert len(set(keys)) == len(keys)
    assert set(measure(labels)) == set(keys)


def test_made_up_labels_give_what_a_hand_computes(labels: Path) -> None:
    got = measure(labels)
    expected = {
        # Over [0, 100], right-closed: 20 is bad, 81 excellent.
        (Q_ALIGN, "KonIQ rows"): 3,
        (Q_ALIGN, "KonIQ SRCC"): 1,
        (Q_ALIGN, "KonIQ PLCC"): np.corrcoef([0, 2, 4], [20, 50, 81])[0, 1],
        (RELEASED, "KonIQ words"): 3,
        (RELEASED, "KonIQ words that differ"): 1,
        # Raw means 2.2, 3 and 4; the range is 1..5 by the other splits' rows.
        (DEQA_A1, "KonIQ rows"): 3,
        (DEQA_A1, "KonIQ range"): 1.8,
        (DEQA_A1, "KonIQ mean std"): 0.6,
        (DEQA_A1, "KonIQ mean std / range"): 1 / 3,
        (DEQA_1, "KonIQ one-hot L1"): 0.2 / 3,
        # Scores on edges go up, but for 56.4.
        (RELEASED, "SPAQ words that differ"): 0,
        (Q_ALIGN, "SPAQ PLCC"): np.corrcoef([2, 2, 4], [37.6, 56.4, 75.2])[0, 1],
        # Training rows 1 to 3 of the MOS; those with words, 1 to 4, for the labels.
        (DEQA_A1, "SPAQ rows"): 3,
        (DEQA_A1, "SPAQ range"): 0.75 * 94,
        (DEQA_A1, "SPAQ mean std"): 20,
        (DEQA_1, "SPAQ one-hot L1"): 0.2 / 4,
        (Q_ALIGN, "KADID SRCC"): 1,
        (RELEASED, "KADID test words"): 2,
        (RELEASED, "KADID test words that differ"): 1,
        (DEQA_A1, "KADID rows"): 4,
        (DEQA_A1, "KADID range"): 4,
        (DEQA_A1, "KADID mean std"): 0.075,
        # 2.2 is poor, 3.4 on the edge fair.
        (DEQA_1, "KADID one-hot L1"): 0.6 / 4,
        (DEQA_1, "KADID one-hot RMSE"): np.sqrt(0.2 / 4),
        # Stds below .2 are interpolated: the mean stays, alpha counts as 1.
        (DEQA_1, "KADID soft L1"): 0,
        (DEQA_1, "KADID soft W"): np.mean([0, 0.4 - 0.1, np.sqrt(0.24) - 0.1, 0.1]),
        (DEQA_2, "KADID alpha"): 1,
        (DEQA_2, "KADID std of alpha"): 0,
        (DEQA_2, "KADID beta"): 0,
        # Each file by its own range: 39 is fair within [30, 50].
        (RELEASED, "LSVQ test words"): 3,
        (RELEASED, "LSVQ test words that differ"): 0,
        (RELEASED, "LSVQ 1080p words that differ"): 1,
        (Q_ALIGN, "LSVQ PLCC"): np.corrcoef([0, 0, 4], [10, 20, 90])[0, 1],
        # Mean votes 1, 4 and 10.
        (Q_ALIGN, "AVA PLCC"): np.corrcoef([0, 1, 4], [1, 4, 10])[0, 1],
    }
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=2e-4)


def test_the_mean_of_alpha_takes_interpolated_rows_as_one(labels: Path) -> None:
    before = measure(labels)[DEQA_2, "KonIQ alpha"]
    change(labels / "koniq10k_distributions_sets.csv", "50,0.6,", "50,0.1,")  # row b, at mos 3
    after = measure(labels)[DEQA_2, "KonIQ alpha"]
    # The release's alpha at mos 3 is 0.
    assert after - before == pytest.approx(1 / 3, abs=1e-6)


ENDS = [(1.0, 0.0), (5.0, 0.0)]
"""What makes 1..5 the range: interpolated, so alpha counts as 1."""


def alphas(folder: Path, mos: float, std: float) -> dict[str, float]:
    """Each set's mean alpha where it holds this row and ENDS; KonIQ trains on the upper one."""
    rows = [(mos, std), *ENDS]
    path = folder / "koniq10k_distributions_sets.csv"
    lines = path.read_text("utf-8").splitlines()[:1]
    for i, (mean, spread) in enumerate([(mos, std), *reversed(ENDS)]):
        below, part = min(int(mean), 4), mean - min(int(mean), 4)
        votes = [0.0] * 5
        votes[below - 1], votes[below] = 1 - part, part
        cells = [f"{i}.jpg", *votes, 100, 50 + i, spread, "training" if i < 2 else "test"]
        lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    pairs = [f"{i}.jpg,{m},{s}" for i, (m, s) in enumerate(rows, 1)]
    (folder / "kadid10k_dmos_std.csv").write_text("\n".join(["dist,dmos,std", *pairs]) + "\n")
    # A level is 23.5 wide between MOS of 2 and 96.
    pairs = [f"{i}.jpg,{m},{23.5 * s}" for i, (m, s) in enumerate(rows, 1)]
    (folder / "vqr1_SPAQ.csv").write_text("\n".join(["c0,c1,c2", *pairs]) + "\n")
    got = measure(folder)
    return {name: got[DEQA_2, f"{name} alpha"] for name in ("KonIQ", "SPAQ", "KADID")}


def alpha_of_mass(mos: float, std: float) -> float:
    """DeQA-Score Eq. 1 and 2."""
    normal, levels = NormalDist(mos, std), range(1, 6)
    mass = [normal.cdf(level + 0.5) - normal.cdf(level - 0.5) for level in levels]
    first = sum(p * level for p, level in zip(mass, levels, strict=True))
    return (mos - 3) / (first - 3 * sum(mass))


def test_densities_and_thresholds_are_each_sets_own(labels: Path) -> None:
    # N(3.8, .6) by its density has alpha .99809.
    assert alphas(labels, 3.8, 0.6) == pytest.approx(
        {
            "KonIQ": (0.99809 + 1) / 2,
            "KADID": (0.99809 + 2) / 3,
            "SPAQ": (alpha_of_mass(3.8, 0.6) + 2) / 3,
        },
        abs=6e-6,
    )
    # Means miss 1.2 by .14 (density) and .19 (mass), 1.3 by .18 and .23.
    near = alphas(labels, 1.2, 0.6)
    assert near["KADID"] == 1
    assert near["SPAQ"] == pytest.approx((alpha_of_mass(1.2, 0.6) + 2) / 3, abs=1e-6)
    assert near["KonIQ"] > 1.01
    far = alphas(labels, 1.3, 0.7)
    assert (far["KADID"], far["SPAQ"]) == (1, 1)
    assert far["KonIQ"] > 1.01


def test_a_thousand_rows_are_trimmed(labels: Path) -> None:
    mos = np.arange(1000.0)
    path = labels / "koniq10k_distributions_sets.csv"
    rows = [f"{i}.jpg,{1 - i / 999},{i / 999},0,0,0,100,{i},0.2,training" for i in range(1000)]
    path.write_text("\n".join([path.read_text("utf-8").splitlines()[0], *rows]) + "\n", "utf-8")
    path = labels / "fastvqa_lsvq_train.csv"
    path.write_text("\n".join(["mos", *map(str, mos)]) + "\n", "utf-8")
    got = measure(labels)
    # z[1] = 1 to z[-1] = 999, which is outside; LSVQ keeps what is.
    assert got[Q_ALIGN, "KonIQ rows"] == 998
    levels = np.clip(np.ceil((mos - 1) / (998 / 5)) - 1, 0, 4)
    assert got[Q_ALIGN, "LSVQ PLCC"] == pytest.approx(np.corrcoef(levels, mos)[0, 1], abs=1e-9)
    kept = slice(1, 999)
    assert got[Q_ALIGN, "KonIQ PLCC"] == pytest.approx(
        np.corrcoef(levels[kept], mos[kept])[0, 1], abs=1e-9
    )


def test_the_tables_hold_or_not_on_made_up_labels(labels: Path) -> None:
    got = measure(labels)
    true = [Figure(f.table, f.row, f.printed(got[f.key]), f.known) for f in FIGURES]

    def status(figures: list[Figure]) -> int:
        return report(figures, got, lambda line: None)

    def altered(known: bool) -> list[Figure]:
        """With the first figure that is known not to hold, or that must, made another."""
        at = next(i for i, figure in enumerate(true) if figure.known is known)
        return [replace(f, paper="77.777") if i == at else f for i, f in enumerate(true)]

    assert [status(true), status(altered(known=True)), status(altered(known=False))] == [0, 0, 1]


def test_the_job_exits_1_where_a_row_does_not_hold(project: Path, labels: Path) -> None:
    done = run(project, "--labels", labels)
    assert done.returncode == 1, done.stderr
    header, *lines, total = done.stdout.splitlines()
    assert header == HEADER
    assert len(lines) == len(FIGURES)
    assert "Q-Align Table 2 | KonIQ rows | 3 | 7046 | FAILED" in lines
    assert "Q-Align released words | SPAQ words that differ | 0 | 0 | ok" in lines
    (ava,) = [line for line in lines if "AVA SRCC" in line]
    assert ava.endswith("| 0.920 | known")
    assert total.startswith(f"{len(FIGURES)} figures: ")


def test_the_job_exits_2_with_one_sentence(project: Path, labels: Path) -> None:
    (labels / "ava_idealo_test.csv").unlink()
    done = run(project, "--labels", labels)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip() == (
        f"error: {labels} has no file 'ava_idealo_test.csv': see --help for where to get it"
    )
    (labels / "ava_idealo_test.csv").write_text("image_id,votes\n1,5\n", "utf-8")
    done = run(project, "--labels", labels)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {labels}/ava_idealo_test.csv has no column 'n1'")


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_needed_with_all_its_columns(labels: Path, name: str) -> None:
    path = labels / name
    text = path.read_text("utf-8")
    carried = {"c_total", "question", "ref", "duration", "fps", "image_id"}
    if name == "fastvqa_lsvq_train.csv":
        carried.add("name")
    for column in next(csv.reader([text.splitlines()[0]])):
        change(path, text.splitlines()[0], text.splitlines()[0].replace(column, "other", 1))
        if column in carried:
            measure(labels)
        else:
            with pytest.raises(LabelError, match=f"{name} has no column '{column}'"):
                measure(labels)
        path.write_text(text, "utf-8")
    path.write_text(text.splitlines()[0] + "\n", "utf-8")
    with pytest.raises(LabelError, match=f"{name} has no rows"):
        measure(labels)
    path.unlink()
    with pytest.raises(LabelError, match=f"has no file '{name}'"):
        measure(labels)


def test_labels_that_are_none_are_one_sentence(labels: Path) -> None:
    change(labels / "kadid10k_dmos_std.csv", "3.4,", "n/a,")
    with pytest.raises(LabelError, match=r"kadid10k_dmos_std\.csv, row 4: dmos is 'n/a'"):
        measure(labels)
    change(labels / "kadid10k_dmos_std.csv", "n/a,", "3.4,")
    change(labels / "ava_idealo_test.csv", "0,3", "0,-3")
    with pytest.raises(LabelError, match=r"AVA labels in .* can't be measured, row 2 has -3 votes"):
        measure(labels)
    change(labels / "ava_idealo_test.csv", "0,-3", "0,3")
    change(labels / "koniq10k_distributions_sets.csv", "c.jpg,0.0,0.0,0.0,1.0", "c.jpg,0,1,0,0")
    change(labels / "koniq10k_distributions_sets.csv", "0.8,0.2,0.0", "1.0,0.0,0.0")
    change(labels / "koniq10k_distributions_sets.csv", "0.0,0.0,1.0,0.0", "0.0,1.0,0.0,0.0")
    with pytest.raises(LabelError, match=r"KonIQ labels .*, all 3 mos are 2, which has no range"):
        measure(labels)
    with pytest.raises(LabelError, match="nowhere is no folder"):
        measure(labels / "nowhere")
