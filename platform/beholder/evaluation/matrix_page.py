"""An evaluation as a person reads it: Markdown tables."""

from collections.abc import Iterable, Sequence

from beholder.evaluation.bootstrap import Interval
from beholder.evaluation.comparison import Difference
from beholder.evaluation.matrix_run import Evaluation
from beholder.evaluation.scorecard import LevelRow, Measured, task_means
from beholder.evaluation.table import OnScale
from beholder.opinions import LEVEL_WORDS

ZERO_SHOT = "°"


def as_markdown(evaluation: Evaluation) -> str:
    """All tables, aligned so that they can be read as they are."""
    cells = evaluation.cells
    parts = ["# Evaluation", _scorers(evaluation)]
    parts += ["## SRCC by scorer and test set", _matrix(evaluation), _MATRIX_NOTE]
    parts += ["## Mean over the sets of a task", _TASKS_NOTE, _tasks(cells)]
    parts += ["## Agreement in order", _ORDER_NOTE, _order(cells)]
    parts += ["## Errors on the set's own scale", _MAPS_NOTE, _errors(cells)]
    parts += _optional("## Distributions", _DISTRIBUTIONS_NOTE, _distributions(cells))
    parts += _optional("## Spread", _SPREAD_NOTE, _spread(cells))
    parts += _optional("## Digits as one number", _DIGITS_NOTE, _digits(cells))
    parts += ["## By level", _LEVELS_NOTE, _levels(cells)]
    parts += _optional("## Likeliest level against expectation", _MODE_NOTE, _mode(cells))
    parts += _optional("## Paired comparisons", _PAIRS_NOTE, _pairs(evaluation))
    parts += ["## Items without a score", _LEFT_OUT_NOTE, _failures(cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


_MATRIX_NOTE = (
    f"{ZERO_SHOT} zero-shot: the scorer did not learn from this set. **Bold**: the highest of "
    "the set, which says nothing about chance. A dash: not scored."
)
_TASKS_NOTE = "Each set counts once. Only rows of the same sets can be compared."
_ORDER_NOTE = (
    "In brackets: 95% intervals, drawn by source. PLCC fitted: after the 4-parameter logistic, "
    "its curve held fixed in the draws."
)
_MAPS_NOTE = (
    "Map: how a score of 1..K comes to the set's scale. `centres` undoes one-hot labels, `ends` "
    "undoes soft ones; `given` maps the ends of any other scale. Errors are in the unit of mos."
)
_DISTRIBUTIONS_NOTE = (
    "Between Gaussians of people's mean and std and of the predicted ones. KL(people || "
    "predicted) and JS in nats; JS released: with DeQA-Score's midpoint; W2 in the unit of mos."
)
_SPREAD_NOTE = (
    "Covered: part of people's opinions inside the predicted central 50, 80 and 95% intervals. "
    "Std ratio: predicted / people's, 1 is right. Std slope: 1 where differences in predicted "
    "std are real, 0 where they say nothing. Mass: probability on the level words."
)
_DIGITS_NOTE = (
    "NCM and NCM* of RealQA (Eq. 5 to 7; NCM* renormalised), in squared units of 0..10, lower is "
    "better. Behind: each digit is read behind the true ones, as in a training run's validations, "
    "or behind the written ones (reading: eq4); the two are not to be compared. Followed: part of "
    "the items whose digits were all looked at behind the true ones; of the others the last are "
    "taken as even. Items: of one clip."
)
_LEVELS_NOTE = (
    "Level: the word that an item's mos falls in. Bias: predicted less true, in the unit of mos. "
    "n: items. SRCC inside one level is lower than over all, as its range is narrow."
)
_MODE_NOTE = (
    "Expectation: the score is the mean of the distribution (Q-Align, Eq. 4). Likeliest: the "
    "index of the likeliest level alone. Gain: SRCC of the first less that of the second, paired. "
    "KRCC (tau-b) takes ties out, which favours the few values of the likeliest level."
)
_PAIRS_NOTE = (
    "First less second, on common items, drawn by source. p: two-sided, 0.002 at least with "
    "1,000 draws, not corrected for the number of pairs."
)

_LEFT_OUT_NOTE = (
    "Left out: the pass has no row of the item, or a member of the ensemble has no score of it."
)


def _optional(title: str, note: str, table: str) -> list[str]:
    return [title, note, table] if table else []


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose columns are padded; "" without rows.

    Args:
        head: names of the columns.
        rows: cells as text; a ``|`` in them is escaped.
        left: so many columns are aligned to the left, the others to the right.
    """
    table = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    if not table:
        return ""
    # A rule needs two characters for its colon.
    widths = [max(2, *(len(row[at]) for row in [head, *table])) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * w if at < left else "-" * (w - 1) + ":" for at, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, table)])


def _scorers(evaluation: Evaluation) -> str:
    prints = {cell.scorer: cell.fingerprint for cell in evaluation.cells}
    rows = [
        (name, text, prints[name][:16] or "ensemble") for name, text in evaluation.scorers.items()
    ]
    return markdown_table(("scorer", "learned from", "fingerprint"), rows, left=3)


def _matrix(evaluation: Evaluation) -> str:
    found = {(cell.scorer, cell.set): cell for cell in evaluation.cells}
    best = {
        name: max(cell.metrics.srcc for cell in evaluation.cells if cell.set == name)
        for name in {cell.set for cell in evaluation.cells}
    }

    def cell(scorer: str, name: str) -> str:
        if (one := found.get((scorer, name))) is None:
            return "-"
        text = _number(one.metrics.srcc)
        text = f"**{text}**" if text == _number(best[name]) else text
        return text + (ZERO_SHOT if one.zero_shot else "")

    rows = [[scorer, *(cell(scorer, s) for s in evaluation.sets)] for scorer in evaluation.scorers]
    return markdown_table(("scorer", *evaluation.sets), rows)


def _tasks(cells: Sequence[Measured]) -> str:
    rows = [
        (task, scorer, ", ".join(sets), _number(srcc), _number(plcc))
        for task, means in task_means(cells).items()
        for scorer, (srcc, plcc, sets) in means.items()
    ]
    return markdown_table(("task", "scorer", "sets", "mean SRCC", "mean PLCC"), rows, left=3)


def _order(cells: Sequence[Measured]) -> str:
    rows = []
    for cell in _by_set(cells):
        m, more = cell.metrics, cell.intervals
        rows.append(
            (
                cell.set,
                cell.scorer,
                str(m.rows),
                str(m.clusters),
                _with(m.srcc, m.srcc_interval),
                _with(m.krcc, more.get("krcc")),
                _with(m.plcc, m.plcc_interval),
                _with(m.plcc_fitted, more.get("plcc_fitted")),
            )
        )
    head = ("set", "scorer", "items", "sources", "SRCC", "KRCC", "PLCC", "PLCC fitted")
    return markdown_table(head, rows, left=2)


def _errors(cells: Sequence[Measured]) -> str:
    rows = []
    for cell, through, on in _maps(cells):
        more = cell.intervals
        mae, rmse = more.get(f"{through}.mae"), more.get(f"{through}.rmse")
        rows.append((cell.set, cell.scorer, through, _with(on.mae, mae), _with(on.rmse, rmse)))
    return markdown_table(("set", "scorer", "map", "MAE", "RMSE"), rows, left=3)


def _distributions(cells: Sequence[Measured]) -> str:
    rows = []
    for cell, through, on in _maps(cells):
        if (d := on.distances) is not None:
            kl, w2 = (cell.intervals.get(f"{through}.{name}") for name in ("kl", "wasserstein"))
            rows.append(
                (
                    cell.set,
                    cell.scorer,
                    through,
                    str(d.rows),
                    _with(d.kl, kl),
                    _number(d.js_true),
                    _number(d.js),
                    _with(d.wasserstein, w2),
                )
            )
    head = ("set", "scorer", "map", "items with std", "KL", "JS", "JS released", "W2")
    return "\n\n".join(
        part for part in (markdown_table(head, rows, left=3), _without(cells)) if part
    )


def _without(cells: Sequence[Measured]) -> str:
    """A line for each scorer and set that has no distances nor calibration, and why."""
    lines = {
        f"- {cell.scorer} on {cell.set}: {on.without}."
        for cell, _, on in _maps(cells)
        if on.without is not None
    }
    return "\n".join(["Neither distances nor calibration:\n", *sorted(lines)]) if lines else ""


def _spread(cells: Sequence[Measured]) -> str:
    rows, head = [], ("covered of 50%", "of 80%", "of 95%", "std ratio", "std slope", "mass")
    for cell, through, on in _maps(cells):
        mass = "-" if cell.metrics.mass is None else f"{cell.metrics.mass:.4f}"
        c = on.calibration
        found = ["-"] * 5
        if c is not None:
            found = [f"{observed:.1%}" for _, observed in c.coverage]
            found += [_number(c.std_ratio), _number(c.std_slope)]
        if c is not None or cell.metrics.mass is not None:
            rows.append([cell.set, cell.scorer, through, *found, mass])
    return markdown_table(("set", "scorer", "map", *head), rows, left=3)


def _digits(cells: Sequence[Measured]) -> str:
    """NCM and NCM*, and a line for each scorer of numbers that has neither."""
    rows, lines = [], []
    for cell in _by_set(cells):
        if cell.without_continuity is not None:
            rows.append([cell.set, cell.scorer, "-", "-", "-", "", ""])
            lines.append(f"- {cell.scorer} on {cell.set}: {cell.without_continuity}.")
        if (c := cell.continuity) is not None:
            measured = (_with(c.ncm, c.ncm_interval), _with(c.ncm_star, c.ncm_star_interval))
            followed = f"{c.followed:.1%}" if c.behind == "true" else "-"
            rows.append([cell.set, cell.scorer, c.behind, str(c.items), followed, *measured])
    head = ("set", "scorer", "behind", "items", "followed", "NCM", "NCM*")
    why = "\n".join(["Neither NCM nor NCM*:\n", *lines]) if lines else ""
    return "\n\n".join(part for part in (markdown_table(head, rows, left=3), why) if part)


def _levels(cells: Sequence[Measured]) -> str:
    """A table a figure, the levels from left to right, so that a row is a scorer's profile."""
    orders: list[list[str]] = []
    errors: dict[str, list[list[str]]] = {"Bias": [], "MAE": []}
    for cell in _by_set(cells):
        levels = {level.word: level for level in cell.levels}
        orders.append([cell.set, cell.scorer, *(_inside(levels.get(w)) for w in LEVEL_WORDS)])
    for cell, through, _ in _maps(cells):
        levels = {level.word: level for level in cell.levels}
        known = [levels.get(word) for word in LEVEL_WORDS]
        name = [cell.set, cell.scorer, through]
        errors["Bias"].append([*name, *(f"{o.bias[through]:+.3f}" if o else "-" for o in known)])
        errors["MAE"].append([*name, *(f"{o.mae[through]:.3f}" if o else "-" for o in known)])
    head = ("set", "scorer", "map", *LEVEL_WORDS)
    titled = [f"{n}:\n\n{markdown_table(head, rows, left=3)}" for n, rows in errors.items() if rows]
    first = markdown_table(("set", "scorer", *LEVEL_WORDS), orders, left=2)
    return "\n\n".join([f"SRCC inside the level:\n\n{first}", *titled])


def _inside(level: LevelRow | None) -> str:
    if level is None:
        return "-"
    srcc = "-" if level.srcc is None else _with(level.srcc, level.srcc_interval)
    return f"{srcc} n={level.rows}"


def _mode(cells: Sequence[Measured]) -> str:
    rows = []
    for cell in _by_set(cells):
        if (only := cell.levels_only) is not None:
            m = cell.metrics
            gain = [""] * 2 if only.gain is None else _difference(only.gain)
            figures = (m.srcc, only.srcc, m.plcc, only.plcc, m.krcc, only.krcc)
            rows.append([cell.set, cell.scorer, *map(_number, figures), *gain])
    head = ["set", "scorer"]
    head += [f"{name} {which}" for name in ("SRCC", "PLCC", "KRCC") for which in ("exp.", "likel.")]
    return markdown_table([*head, "gain in SRCC", "p"], rows, left=2)


def _pairs(evaluation: Evaluation) -> str:
    rows = [
        [p.first, p.second, p.set, str(p.items), *_difference(p.srcc), *_difference(p.plcc)]
        for p in evaluation.pairs
    ]
    head = ("first", "second", "set", "items", "SRCC", "p", "PLCC", "p")
    return markdown_table(head, rows, left=3)


def _failures(cells: Sequence[Measured]) -> str:
    rows = []
    for cell in _by_set(cells):
        failed = sum(cell.failures.values())
        if failed or cell.unscored:
            codes = ", ".join(f"{count} {code}" for code, count in sorted(cell.failures.items()))
            counts = (str(count) for count in (cell.items, cell.unscored, failed))
            rows.append((cell.set, cell.scorer, *counts, codes or "-"))
    head = ("set", "scorer", "items", "left out", "failed", "by code")
    return markdown_table(head, rows, left=2) or "None: every item has a score by every scorer."


def _by_set(cells: Sequence[Measured]) -> list[Measured]:
    names = list(dict.fromkeys(cell.set for cell in cells))
    return sorted(cells, key=lambda cell: names.index(cell.set))


def _maps(cells: Sequence[Measured]) -> list[tuple[Measured, str, OnScale]]:
    return [(c, through, on) for c in _by_set(cells) for through, on in c.metrics.on_scale.items()]


def _number(value: float) -> str:
    return f"{value:.3f}"


def _with(value: float, interval: Interval | None) -> str:
    shown = _number(value)
    return shown if interval is None else f"{shown} [{interval.low:.3f}, {interval.high:.3f}]"


def _difference(d: Difference) -> list[str]:
    return [f"{d.value:+.3f} [{d.interval.low:+.3f}, {d.interval.high:+.3f}]", f"{d.p:.3f}"]
