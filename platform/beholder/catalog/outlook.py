"""What ``--plan-only`` shows: items by class, hours and money, as a table and as JSON."""

from typing import Any

from rich.table import Table

from beholder.catalog.estimate import Estimate
from beholder.catalog.selection import Tally

_MEANINGS = {
    "new": "not in the catalog yet",
    "changed": "other bytes, or nothing shows that they are the same",
    "retried": "failed before for the store's sake",
    "unchanged": "stands as it is",
    "stale": "changed, keeps its older scores",
    "left_out": "wanted, not looked at, no scores to keep",
    "removed": "in the catalog, not in the manifest any more",
    "erased": "in the manifest still, though a person had it erased",
}


def outlook(tally: Tally, estimate: Estimate) -> dict[str, Any]:
    """Both as plain data, for ``--json``; ``absent`` is left out, which is for the audit."""
    return {
        "items": tally.model_dump(exclude={"absent"}),
        "estimate": estimate.model_dump(),
    }


def outlook_table(run: str, tally: Tally, estimate: Estimate) -> Table:
    """Both for a person's eyes."""
    table = Table(title=f"plan of {run}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    for name, meaning in _MEANINGS.items():
        table.add_row(name.replace("_", " "), f"{tally.counts[name]:,}", meaning)
        if name == "retried":
            _details(table, tally.retried)
            table.add_section()
    for title, counts in (("left out by", tally.left_out), ("left in", tally.left_segments)):
        if counts:
            table.add_section()
            _details(table, {f"{title} {name or '(no segment)'}": n for name, n in counts.items()})
    if tally.left_out and tally.oldest_taken:
        table.add_row("oldest taken", tally.oldest_taken[:10], "newest come first")
    table.add_section()
    kinds = ", ".join(f"{n:,} of kind {kind}" for kind, n in tally.kinds.items())
    table.add_row("to look at", f"{estimate.items:,}", kinds)
    table.add_row("time", _time(estimate.hours), f"{estimate.items_per_second:.2f} items/s")
    table.add_row("CPU-hours", _amount(estimate.cpu_hours), "decoders and scorers")
    if estimate.gpu_hours:
        table.add_row("GPU-hours", _amount(estimate.gpu_hours), "scorers")
    if estimate.cost is not None:
        table.add_row("cost", _amount(estimate.cost), "at the prices in the config")
    return table


def _time(hours: float) -> str:
    for unit, seconds in (("h", 3600), ("min", 60)):
        if 3600 * hours >= seconds:
            return f"{3600 * hours / seconds:,.1f} {unit}"
    return f"{3600 * hours:.1f} s"


def _amount(value: float) -> str:
    """With two places, or as many as show that it isn't nothing."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def _details(table: Table, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        table.add_row(f"  {name}", f"{count:,}", "")
