"""An evaluation as one picture: a dot and an interval for every scorer on every test set."""

import html
from collections.abc import Callable

from beholder.evaluation.matrix_run import Evaluation
from beholder.evaluation.scorecard import Measured

COLOURS = ("#3f6ea8", "#c1622d", "#4b8a4f", "#8a4b86", "#8a7a2d", "#4b8a8a")

_LEFT, _WIDTH, _LINE, _RIGHT = 230, 520, 22, 60


def forest_svg(evaluation: Evaluation) -> str:
    """SRCC of every scorer on every set with its 95% interval, a line each; SVG text.

    A hollow dot is zero-shot. The axis reaches from the lowest interval, rounded down, to 1.
    """
    cells = evaluation.cells
    ends = [(i.low if (i := c.metrics.srcc_interval) else c.metrics.srcc) for c in cells]
    tenths = max(-10, min(9, int(10 * min(ends) // 1)))  # the axis' low end
    names = list(evaluation.scorers)

    def x(value: float) -> float:
        return _LEFT + _WIDTH * (value - tenths / 10) / (1 - tenths / 10)

    drawn, y = [], 40
    for name in dict.fromkeys(s for s in evaluation.sets for c in cells if c.set == s):
        y += _LINE + 6
        drawn.append(f'<text x="8" y="{y + 4}" font-weight="600">{html.escape(name)}</text>')
        for cell in (c for c in cells if c.set == name):
            y += _LINE
            colour = COLOURS[names.index(cell.scorer) % len(COLOURS)]
            drawn.append(_line(cell, y, colour, x))
    step = 1 if tenths >= 0 else 2
    marks = [
        f'<line x1="{x(t / 10):.1f}" x2="{x(t / 10):.1f}" y1="48" y2="{y + 14}" stroke="#e3e3de"/>'
        f'<text x="{x(t / 10):.1f}" y="{y + 32}" text-anchor="middle">{t / 10:.1f}</text>'
        for t in range(10, tenths - 1, -step)
    ]
    title = "SRCC with 95% intervals by source; hollow: zero-shot"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _RIGHT}" '
        f'height="{y + 46}" font-family="system-ui, sans-serif" font-size="13" fill="#1c2330">'
        '<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="24" font-size="15" font-weight="600">{title}</text>'
        f"{''.join(marks)}{''.join(drawn)}</svg>\n"
    )


def _line(cell: Measured, y: int, colour: str, x: Callable[[float], float]) -> str:
    """A scorer's name, interval, dot and figure."""
    m = cell.metrics
    at, fill = x(m.srcc), "#fff" if cell.zero_shot else colour
    bar = ""
    if (i := m.srcc_interval) is not None:
        bar = (
            f'<line x1="{x(i.low):.1f}" x2="{x(i.high):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
    return (
        f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{_short(cell.scorer)}</text>{bar}'
        f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{_LEFT + _WIDTH + 14}" y="{y + 4}">{m.srcc:.3f}</text>'
    )


def _short(name: str) -> str:
    """A name that fits beside the axis."""
    return html.escape(name if len(name) <= 28 else f"{name[:27]}…")
