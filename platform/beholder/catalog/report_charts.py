"""Drawings of a night's page, as inline SVG: nothing is loaded from elsewhere."""

import html
from collections.abc import Mapping, Sequence

from beholder.catalog.drift import Histogram

ACCENT, PAST, BAD = "#2f6fb3", "#8a93a3", "#c0392b"
_AXIS = "#c9cdd6"


def histogram_chart(tonight: Histogram, before: Histogram | None, title: str) -> str:
    """Tonight's shares as bars, the last nights' as a line, over the scale."""
    width, height, foot = 260.0, 120.0, 16.0
    bars = _shares(tonight)
    past = _shares(before) if before is not None and before.total else []
    top = max([*bars, *past, 1e-9])
    step, room = width / len(bars), height - foot - 4
    drawn = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{height - foot - share / top * room:.1f}" '
        f'width="{step - 2:.1f}" height="{share / top * room:.1f}" fill="{ACCENT}" '
        f'fill-opacity=".75"><title>{share:.1%}</title></rect>'
        for i, share in enumerate(bars)
        if share
    )
    if past:
        places = [(i * step, height - foot - share / top * room) for i, share in enumerate(past)]
        line = " ".join(f"{x:.1f},{y:.1f} {x + step:.1f},{y:.1f}" for x, y in places)
        drawn += f'<polyline points="{line}" fill="none" stroke="#222b3a" stroke-width="1.3"/>'
    low, high = tonight.scale
    drawn += _axis(width, height - foot)
    drawn += _text(0, height - 3, f"{low:g}") + _text(width, height - 3, f"{high:g}", "end")
    return _figure(
        width, height, drawn, title, f"{tonight.total:,} scores, mean {tonight.mean:.2f}"
    )


def rate_chart(began: float, at: Sequence[float], items: Sequence[int], title: str) -> str:
    """Items a second over a run's time, in at most 60 equal parts of it.

    Args:
        began: Unix time at which the run began to score.
        at: Unix times at which chunks were committed. (N,)
        items: in each chunk. (N,)
        title: above it.
    """
    width, height, foot, left = 820.0, 170.0, 20.0, 46.0
    first, last = min(began, *at), max(at)  # another driver's clock may be a bit behind
    span = max(last - first, 1e-3)
    parts = max(1, min(60, len(at) // 2))
    counts = [0] * parts
    for moment, count in zip(at, items, strict=True):
        counts[min(parts - 1, int((moment - first) / span * parts))] += count
    rates = [count * parts / span for count in counts]
    top, room = max([*rates, 1e-9]), height - foot - 10
    step = (width - left) / parts
    tops = [(left + i * step, height - foot - rate / top * room) for i, rate in enumerate(rates)]
    line = " ".join(f"{x:.1f},{y:.1f} {x + step:.1f},{y:.1f}" for x, y in tops)
    ground = height - foot
    drawn = (
        f'<polygon points="{left},{ground} {line} {width},{ground}" fill="{ACCENT}" '
        f'fill-opacity=".18"/><polyline points="{line}" fill="none" stroke="{ACCENT}" '
        f'stroke-width="1.6"/>' + _axis(width, ground, left)
    )
    drawn += _text(left - 5, 14, f"{top:.3g}", "end") + _text(left - 5, ground, "0", "end")
    drawn += _text(left, height - 4, "0 min") + _text(width, height - 4, _minutes(span), "end")
    return _figure(width, height, drawn, title, "items a second, from the plan on")


def bar_rows(counts: Mapping[str, int], color: str = ACCENT) -> str:
    """A table of counts with a bar each, in the order given."""
    total = sum(counts.values()) or 1
    most = max([*counts.values(), 1])
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{count:,}</td>'
        f'<td class="n dim">{count / total:.1%}</td>'
        f'<td class="bar">{_bar(count / most, color) if count else ""}</td></tr>'
        for name, count in counts.items()
    )
    return f'<table class="bars">{rows}</table>'


def probability_bars(probs: Sequence[float], support: Sequence[float]) -> str:
    """A small distribution, one bar a score."""
    top = max([*probs, 1e-9])
    bars = "".join(
        f'<i style="height:{100 * p / top:.0f}%" title="{w:g}: {p:.3f}"></i>'
        for p, w in zip(probs, support, strict=True)
    )
    return f'<div class="dist">{bars}</div>'


def _bar(share: float, color: str) -> str:
    return f'<i style="width:{100 * share:.1f}%;background:{color}"></i>'


def _shares(histogram: Histogram) -> list[float]:
    return [count / max(1, histogram.total) for count in histogram.counts]


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def _axis(width: float, y: float, left: float = 0.0) -> str:
    return f'<line x1="{left}" x2="{width}" y1="{y}" y2="{y}" stroke="{_AXIS}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _figure(width: float, height: float, drawn: str, title: str, note: str) -> str:
    name = html.escape(title)
    return (
        f'<figure class="chart"><figcaption><b>{name}</b>'
        f'<br><span class="dim">{html.escape(note)}</span></figcaption>'
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">{drawn}</svg>'
        "</figure>"
    )
