"""From what an audit counted to its checks, each with one sentence for a person."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from beholder.catalog.audit_items import ItemCounts
from beholder.catalog.audit_numbers import SUM_TOLERANCE
from beholder.catalog.checks import OFFENDING, PROOFS, AuditConfig, Check, Faults
from beholder.catalog.drift import Drift, beyond
from beholder.catalog.selection import Tally
from beholder.catalog.tables import WORK
from beholder.scoring import PanelCheck

_PROVED = {
    "manifest": ("the manifest is the one that was planned", "the manifest is another one now"),
    "files": ("every file is as it was written", "files are missing or not as written"),
    "complete": (
        "every item of the manifest is accounted for, and nothing else",
        "items are lost, foreign, or not settled",
    ),
    "counts": ("the snapshot counts as the audit does", "the snapshot's counts are wrong"),
    "states": ("every row's state fits its hash and failure", "rows contradict their own state"),
    "unique_items": ("every item has one row in a file", "items have several rows in one file"),
    "unique_scores": ("every score has one row in a file", "scores have several rows in one file"),
    "tasks": (
        "every scored item has a score of each task of its kind",
        "scores are missing of items that are said to be scored",
    ),
    "finite": ("all numbers are finite", "scores hold NaN, infinity, nothing or a misfit"),
    "sums": (
        f"probabilities sum to 1 within {SUM_TOLERANCE:g}",
        f"probabilities don't sum to 1 within {SUM_TOLERANCE:g}",
    ),
    "means": (
        "every mean is that of its distribution",
        "means lie outside of their support, or are not their distribution's",
    ),
}


def proofs(faults: Faults) -> list[Check]:
    """The checks of ``PROOFS``: each holds where nothing breaks it."""
    found = []
    for name in PROOFS:
        count = faults.counts[name]
        good, bad = _PROVED[name]
        sentence = f"{bad}: {count} found" if count else good
        keys = tuple(faults.keys.get(name, ()))
        found.append(Check(name, not count, float(count), 0.0, sentence, keys))
    return found


def failed_share(settled: Mapping[str, Mapping[str, int]], config: AuditConfig) -> Check:
    """Failures among new and changed items; those that are tried again have failed before."""
    looked = [settled.get(change, {}) for change in ("new", "changed")]
    total = sum(sum(states.values()) for states in looked)
    bad = total - sum(states.get("scored", 0) for states in looked)
    if total < config.failed_minimum:
        sentence = f"{bad} of {total} new and changed items failed: too few to judge"
        return Check("failed", True, None, config.max_failed, sentence)
    share = bad / total
    sentence = f"{bad} of {total} new and changed items failed ({share:.1%})"
    return Check("failed", share <= config.max_failed, share, config.max_failed, sentence)


def removed_share(classes: Mapping[str, int], config: AuditConfig) -> Check:
    """Items that the manifest names no more: a list that was cut short looks like that."""
    gone = classes.get("removed", 0)
    before = gone + sum(classes.get(c, 0) for c in ("changed", "retried", "unchanged", "stale"))
    share = gone / before if before else 0.0
    many = gone >= config.removed_minimum or gone == before > 0
    sentence = f"{gone} of {before} items are gone from the manifest ({share:.1%})"
    ok = not many or share <= config.max_removed
    return Check("removed", ok, share, config.max_removed, sentence)


def mass_held(
    mass: Mapping[str, float], nights: Sequence[Mapping[str, float]], config: AuditConfig
) -> Check:
    """Median probability on the readout's words: above a floor, and not far below the last
    nights' median (DeQA-Score, Table A2: it falls when a model stops answering with a level).
    """
    wrong, said = [], []
    for task, value in mass.items():
        past = [night[task] for night in nights if task in night]
        usual = float(np.median(past)) if past else None
        said.append(f"{task} {value:.3f}" + (f" (before {usual:.3f})" if usual else ""))
        low = max(config.min_mass, (usual or 0.0) - config.max_mass_drop)
        if value < low:
            wrong.append(f"{task}: {value:.3f} is below {low:.3f}")
    if not mass:
        sentence = "nothing was scored tonight, or by a readout without words"
        return Check("mass", True, None, config.min_mass, sentence)
    sentence = "median probability on the readout's words: " + ", ".join(said)
    worst = min(mass.values())
    return Check("mass", not wrong, worst, config.min_mass, sentence, tuple(wrong[:OFFENDING]))


def panel_same(panel: PanelCheck, config: AuditConfig) -> Check:
    """The golden panel, under another tolerance where one is configured."""
    ok, allowed = panel.ok, panel.tolerance
    if config.panel_tolerance is not None and panel.difference is not None:
        allowed = config.panel_tolerance
        ok = panel.difference <= allowed
    keys = () if ok or not panel.where else (panel.where,)
    return Check("panel", ok, panel.difference, allowed, panel.reason, keys)


def drift_small(found: Sequence[Drift], config: AuditConfig) -> Check:
    """Tonight's scores against the last nights', by task and segment."""
    if not found:
        sentence = "nothing to compare: too few scores, tonight or before, or another scorer's"
        return Check("drift", True, None, config.psi, sentence)
    far = beyond(found, config.psi, config.ks)
    keys = tuple(
        f"{d.task} {d.segment}: PSI {d.psi:.3f}, KS {d.ks:.3f}, mean {d.mean_before:.2f} to "
        f"{d.mean:.2f}"
        for d in far[:OFFENDING]
    )
    sentence = (
        f"{len(far)} of {len(found)} segments have drifted beyond PSI {config.psi:g} or KS "
        f"{config.ks:g}"
    )
    return Check("drift", not far, found[0].psi, config.psi, sentence, keys)


def compare_counts(
    recorded: Mapping[str, int], tally: Tally, counts: ItemCounts, faults: Faults
) -> None:
    """Holds the plan's counts and the record's against what was counted.

    An item that was neither looked at nor has a row is left out by the plan, bucket by bucket:
    one that the state has lost is one too many.
    """
    for bucket, (planned, found) in enumerate(zip(tally.absent, counts.absent, strict=True)):
        if planned != found:
            text = f"bucket {bucket}: {found} items without a row, {planned} planned"
            faults.add("counts", 1, [text])
    became: Counter[str] = Counter()
    for change in WORK:
        states = counts.settled.get(change, Counter[str]())
        for state, count in states.items():
            became["failed_stale" if state == "stale" else state] += count
        planned, found = tally.counts[change], sum(states.values())
        if planned != found:
            faults.add("counts", 1, [f"{change}: {found} found, {planned} planned"])
    if (planned := tally.counts.get("erased", 0)) != (found := counts.items["erased"]):
        faults.add("counts", 1, [f"erased: {found} found, {planned} planned"])
    for name in ("scored", "failed", "failed_stale"):
        if (said := recorded.get(name, 0)) != became[name]:
            faults.add("counts", 1, [f"{name}: {became[name]} found, {said} recorded"])
