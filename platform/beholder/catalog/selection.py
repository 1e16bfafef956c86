"""How much of what is wanted a night takes, and what it says of the rest."""

from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from beholder.catalog.config import NightlyConfig
from beholder.catalog.estimate import Estimate, Rates, estimate
from beholder.catalog.record import Stored
from beholder.catalog.survey import Cut, Survey
from beholder.catalog.tables import KEPT, WORK


class Tally(Stored):
    """Every item of the manifest and of the state, by what becomes of it."""

    counts: dict[str, int]
    """items by class, ``tables.WORK`` and ``tables.KEPT``; all but ``removed`` add up to the
    manifest"""
    kinds: dict[str, int]
    """items that are looked at by media kind"""
    relabelled: int
    """of the kept ones, how many change owner, segment or date"""
    retried: dict[str, int]
    """of the retried ones, how many by the code with which they failed"""
    left_out: dict[str, int]
    """of those that are wanted, how many aren't taken, by the reason: ``sample``, ``limit``,
    ``deadline`` or ``budget``"""
    left_segments: dict[str, int]
    """the same by segment; ``(others)`` beyond the largest ones"""
    oldest_taken: str | None
    """``created_at`` of the oldest item taken that has one, in ISO form"""
    absent: tuple[int, ...]
    """by bucket, items of the manifest that have no row in the new state"""


def select(
    found: Survey, config: NightlyConfig, rates: Rates | None, buckets: int
) -> tuple[Cut, Tally]:
    """The items that a night takes.

    Args:
        found: what is wanted.
        config: limits.
        rates: the scorer's speed; needed where there is a deadline or a budget.
        buckets: of the catalog.
    """
    wanted = sum(found.kinds(found.cut(None)).values())
    most, reason = wanted, "limit"
    if config.limit is not None:
        most = min(wanted, config.limit)
    if config.deadline_hours is not None or config.budget is not None:
        assert rates is not None
        most, reason = _fitting(found, config, rates, most)
    cut = found.cut(None if most == wanted else most)
    return cut, _tally(found, cut, {reason: wanted - most}, buckets)


def _fitting(found: Survey, config: NightlyConfig, rates: Rates, most: int) -> tuple[int, str]:
    """How many of the first ``most`` items fit into the deadline and the budget, and which binds.

    All videos may stand first or last, so what some items take is said of just those.
    """
    video = found.videos()

    def takes(items: int) -> Estimate:
        videos = int(np.count_nonzero(video[:items]))
        return estimate({"image": items - videos, "video": videos}, rates, config)

    bounds: list[tuple[str, float | None, Callable[[int], float]]] = [
        ("deadline", config.deadline_hours, lambda items: takes(items).hours),
        ("budget", config.budget, lambda items: takes(items).cost or 0.0),
    ]
    reason = "limit"
    for name, bound, spent in bounds:
        if bound is not None and spent(most) > bound:
            most, reason = bisect_right(range(most), bound, key=spent) - 1, name
    return most, reason


def _tally(found: Survey, cut: Cut, left_out: dict[str, int], buckets: int) -> Tally:
    classes, retried, oldest = found.taken(cut)
    left = found.left(cut, buckets)
    counts = dict.fromkeys((*WORK, *KEPT), 0) | classes
    counts |= {name: found.counts[name] for name in ("unchanged", "removed", "erased")}
    counts |= {"stale": found.counts["stale"] + left.stale, "left_out": left.left_out}
    assert sum(counts.values()) - counts["removed"] == found.items, (counts, found.items)
    reasons = {"sample": left.unsampled, **left_out}
    assert sum(reasons.values()) == left.stale + left.left_out, (reasons, left)
    return Tally(
        counts=counts,
        kinds=found.kinds(cut),
        relabelled=found.counts["relabelled"],
        retried=retried,
        left_out={reason: count for reason, count in reasons.items() if count},
        left_segments=left.segments,
        oldest_taken=oldest,
        absent=left.absent,
    )
