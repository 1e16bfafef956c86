"""The audit's second pass: items' bytes against the scores of them, by ``sha256``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from beholder.catalog.audit_items import fault_sql
from beholder.catalog.audit_numbers import wrong_numbers
from beholder.catalog.buckets import query
from beholder.catalog.checks import OFFENDING, Example, Faults
from beholder.catalog.drift import BINS_SQL, Histograms
from beholder.catalog.record import KEYS
from beholder.catalog.snapshot import latest
from beholder.catalog.tables import SCORES

SCORE_COLUMNS = tuple(name for name in SCORES.names if name not in ("clip_means", "coverage"))
"""What is read of the files that tonight wrote; of older ones only their keys."""
EXAMPLES = 6
"""Worst and best items of a task."""
_MASS_BINS = 2000

_NAME = "sha256 || ' ' || task"
_TASKS = fault_sql(
    "tasks",
    "select a.item_id, k.task from a join k using (kind) anti join s using (sha256, task)",
    "item_id || ' ' || task",
)
_MASS = f"""
    select task, least({_MASS_BINS - 1}, floor(mass * {_MASS_BINS}))::integer as bin,
        count(*) as count
    from n where mass between 0 and 1.01 group by all
"""
# The same bytes under several items count once.
_EXTREMES = f"""
    from (
        select n.task, any_value(n.mean) as mean, any_value(n.std) as std,
            any_value(n.support) as support, any_value(n.probs) as probs,
            min(a.item_id) as item_id, min_by(a.uri, a.item_id) as uri,
            min_by(a.kind, a.item_id) as kind
        from n join a using (sha256) where a.uri is not null and isfinite(n.mean)
        group by n.sha256, n.task
    )
    qualify row_number() over (partition by task order by mean, item_id) <= {EXAMPLES}
        or row_number() over (partition by task order by mean desc, item_id) <= {EXAMPLES}
"""


@dataclass
class ScoreFigures:
    """What the scores made tonight come to.

    Attributes:
        histograms: by task and segment, an entry an item.
        examples: by task, the lowest and the highest, at least.
    """

    histograms: Histograms = field(default_factory=Histograms)
    examples: dict[str, list[Example]] = field(default_factory=lambda: defaultdict(list))
    _mass: dict[str, np.ndarray] = field(default_factory=dict)

    def add_mass(self, counted: pa.Table) -> None:
        """Counts probabilities on the readout's words."""
        for row in counted.to_pylist():
            bins = self._mass.setdefault(row["task"], np.zeros(_MASS_BINS, np.int64))
            bins[row["bin"]] += row["count"]

    def mass(self) -> dict[str, float]:
        """Median mass by task, to within 1 / 4000."""
        medians = {}
        for task, bins in sorted(self._mass.items()):
            at = int(np.searchsorted(bins.cumsum(), bins.sum() / 2))
            medians[task] = (at + 0.5) / _MASS_BINS
        return medians

    def add_examples(self, found: pa.Table) -> None:
        """Takes examples and keeps those that are still among the lowest and the highest."""
        touched = set()
        for row in found.to_pylist():
            touched.add(row["task"])
            lists = {name: tuple(row[name] or ()) for name in ("support", "probs")}
            self.examples[row["task"]].append(Example(**(row | lists)))
        for task in touched:
            ordered = sorted(self.examples[task], key=lambda one: (one.mean, one.item_id))
            if len(ordered) > 2 * EXAMPLES:
                ordered = ordered[:EXAMPLES] + ordered[-EXAMPLES:]
            self.examples[task] = ordered


def audit_scores(
    files: Sequence[tuple[pa.Table, bool]],
    pairs: pa.Table,
    run: str,
    fingerprint: str,
    tasks: Mapping[str, Sequence[str]],
    faults: Faults,
    figures: ScoreFigures,
) -> None:
    """Audits one bucket of scores.

    Args:
        files: the snapshot's files of it, a base first, and whether tonight wrote them: then in
            columns ``SCORE_COLUMNS``, else in those of the key.
        pairs: which items' bytes are in it, see :data:`~beholder.catalog.audit_items.PAIRS`.
        run: tonight's.
        fingerprint: the snapshot's.
        tasks: by kind, what a scored item must have.
        faults: takes what is wrong.
        figures: takes what there is.
    """
    keys = ", ".join(KEYS["scores"])
    for rows, new in files:
        twice = fault_sql(
            "unique_scores", f"select {keys} from f group by all having count(*) > 1", _NAME
        )
        faults.add_rows(query(twice, f=rows))
        if new:
            _check_numbers(rows, faults)
    known = pa.concat_tables([rows.select(KEYS["scores"]) for rows, _ in files])
    ours = query(f"select sha256, task from f where fingerprint = '{fingerprint}'", f=known)
    asked = [(kind, task) for kind, some in tasks.items() for task in some]
    kinds = pa.table({"kind": [kind for kind, _ in asked], "task": [task for _, task in asked]})
    faults.add_rows(query(_TASKS, a=pairs, k=kinds, s=ours))
    made = f"from f where run = '{run}' and fingerprint = '{fingerprint}'"
    written = [query(made, f=rows) for rows, new in files if new]
    if not any(table.num_rows for table in written):
        return
    tonight = latest(pa.concat_tables(written), KEYS["scores"])
    figures.add_mass(query(_MASS, n=tonight))
    scored = query(
        "select n.task, a.segment, n.mean, n.scale from n join a using (sha256) "
        "where a.uri is not null",
        n=tonight,
        a=pairs,
    )
    try:
        figures.histograms.add(query(BINS_SQL.format(rows="rows"), rows=scored))
    except ValueError as error:
        faults.add("means", 1, [str(error)])
    figures.add_examples(query(_EXTREMES, n=tonight, a=pairs))


def _check_numbers(rows: pa.Table, faults: Faults) -> None:
    for name, wrong in wrong_numbers(rows).items():
        places = np.flatnonzero(wrong)
        if len(places):
            named = rows.select(["sha256", "task"]).take(pa.array(places[:OFFENDING])).to_pylist()
            faults.add(name, len(places), [f"{row['sha256']} {row['task']}" for row in named])
