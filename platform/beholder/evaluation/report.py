"""A page that shows how a scorer does: loss curve, scatter, pictures from worst to best."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_THUMBNAIL = 132

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;
overflow-wrap:anywhere;
color:#1c2330;background:#fbfbf9} h1{margin-bottom:.2rem} h2{margin-top:2.4rem}
table{border-collapse:collapse} td,th{padding:.25rem .9rem .25rem 0;text-align:left}
th{font-weight:600;border-bottom:1px solid #ccc} .charts{display:flex;flex-wrap:wrap;gap:1rem}
.charts svg{width:23%;min-width:260px;height:auto} .note{color:#596273;max-width:60rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:.8rem}
figure{margin:0;background:#fff;border:1px solid #e3e3de;border-radius:6px;padding:4px}
figure img{width:100%;height:110px;object-fit:contain;background:#f0f0ec;border-radius:4px}
figcaption{font-size:12px;line-height:1.35} .bars{display:flex;align-items:flex-end;gap:2px;
height:30px;margin-top:3px} .bars i{flex:1;background:#3f6ea8;min-height:1px;border-radius:1px}
"""


@dataclass(frozen=True)
class Shown:
    """One picture on the page.

    Attributes:
        picture: encoded bytes.
        caption: what was done to it.
        mean: predicted score, std its spread, on the levels' scale.
        true: the score it should have.
        probs: the predicted distribution, worst level first.
    """

    picture: bytes
    caption: str
    mean: float
    std: float
    true: float
    probs: Sequence[float]


def report_page(
    title: str,
    note: str,
    summary: Mapping[str, str],
    curve: Sequence[Mapping[str, float]],
    scatters: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    shown: Sequence[Shown],
) -> str:
    """The page as one HTML file that loads nothing from elsewhere.

    Args:
        title: the heading.
        note: what a reader must know about the data.
        summary: figures by name, as text.
        curve: ``step`` and ``loss`` by optimizer step.
        scatters: by name, predicted and true scores. (N,) each.
        shown: pictures; they are sorted by predicted mean.
    """
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in summary.items()
    )
    charts = _loss_chart(curve) + "".join(
        _scatter_chart(name, predicted, true) for name, (predicted, true) in scatters.items()
    )
    ordered = sorted(shown, key=lambda one: one.mean)
    figures = "".join(_figure(one) for one in ordered)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f'<p class="note">{html.escape(note)}</p><table>{rows}</table>'
        f'<h2>Training and held-out photos</h2><div class="charts">{charts}</div>'
        f"<h2>{len(ordered)} held-out pictures, worst to best</h2>"
        '<p class="note">Bars: probability of bad, poor, fair, good, excellent.</p>'
        f'<div class="grid">{figures}</div></html>\n'
    )


def _figure(one: Shown) -> str:
    with Image.open(io.BytesIO(one.picture)) as picture:
        small = ImageOps.contain(picture.convert("RGB"), (_THUMBNAIL, _THUMBNAIL))
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=82)
    data = base64.b64encode(sink.getvalue()).decode()
    bars = "".join(f'<i style="height:{100 * p:.0f}%" title="{p:.3f}"></i>' for p in one.probs)
    return (
        f'<figure><img loading="lazy" alt="" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><b>{one.mean:.2f}</b> &plusmn; {one.std:.2f}, true {one.true:.2f}<br>"
        f'{html.escape(one.caption)}</figcaption><div class="bars">{bars}</div></figure>'
    )


def _loss_chart(curve: Sequence[Mapping[str, float]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6))
    axes = figure.add_subplot()
    steps, losses = [c["step"] for c in curve], np.array([c["loss"] for c in curve])
    axes.plot(steps, losses, color="#b9c7da", linewidth=0.8)
    if len(losses) >= 20:
        window = max(3, len(losses) // 40)
        smooth = np.convolve(losses, np.ones(window) / window, "valid")
        axes.plot(steps[window - 1 :], smooth, color="#3f6ea8")
    axes.set(xlabel="step", ylabel="loss", title="training loss", yscale="log")
    return _svg(figure)


def _scatter_chart(name: str, predicted: NDArray[np.float64], true: NDArray[np.float64]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6))
    axes = figure.add_subplot()
    axes.scatter(true, predicted, s=7, alpha=0.5, color="#3f6ea8", linewidths=0)
    axes.plot([1, 5], [1, 5], color="#999", linewidth=0.8)
    axes.set(xlim=(0.9, 5.1), ylim=(0.9, 5.1), xlabel="true", ylabel="predicted", title=name)
    return _svg(figure)


def _svg(figure: object) -> str:
    sink = io.StringIO()
    figure.tight_layout()  # type: ignore[attr-defined]
    figure.savefig(sink, format="svg", metadata={"Date": None})  # type: ignore[attr-defined]
    text = sink.getvalue()
    return text[text.index("<svg") :]
