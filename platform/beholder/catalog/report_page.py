"""A night's page: one HTML file, to be read from the top until all is well."""

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from beholder.catalog.checks import JUDGEMENTS, Audit, Check, Example
from beholder.catalog.drift import ALL, Drift
from beholder.catalog.ledger import Commit
from beholder.catalog.report_charts import (
    BAD,
    PAST,
    bar_rows,
    histogram_chart,
    probability_bars,
    rate_chart,
)

SHOWN = 12
"""Pictures on a page, of all tasks together."""
_SEGMENTS = 11
"""Segments of a task that are drawn."""
_DRIFTS = 25
"""Rows of the drift table."""
_LINKED = ("s3", "http", "https", "file")
_FIGURE = re.compile(r'<figure class="item" data-item="([^"]*)">.*?</figure>', re.DOTALL)
_MESSAGE = re.compile(r"<br><code>([^<]*)</code>")
_HEADLINE = {
    "published": "Published: readers see this night.",
    "partial": "Published in part: a limit left items out, readers see what is done.",
    "refused": "Refused by {refused}: readers see the night before, {parent}.",
}
_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0;color:#1c2330;
background:#f6f7f9}main{max-width:1120px;margin:0 auto;padding:1.2rem 1.2rem 4rem}
header{border-left:6px solid var(--c);background:#fff;padding:1rem 1.3rem;border-radius:6px;
box-shadow:0 1px 2px #0001;margin-bottom:1.1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.12rem;margin:2rem 0 .7rem}h3{font-size:.95rem;
margin:1.1rem 0 .5rem}header p{margin:.25rem 0 0}.dim{color:#647084}.small{font-size:13px}
code{font:12.5px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem}
.tile,.box{background:#fff;border-radius:6px;box-shadow:0 1px 2px #0001;padding:.75rem 1rem}
.tile b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}
.box{overflow-x:auto}.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));
gap:.7rem;align-items:start}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .8rem .3rem 0;text-align:left;
vertical-align:top}th{font-weight:600;font-size:13px;color:#647084;border-bottom:1px solid #dde1e8}
tr+tr td{border-top:1px solid #eef0f4}.n{text-align:right;font-variant-numeric:tabular-nums;
white-space:nowrap}.checks td:first-child{width:6rem}.checks td:nth-child(2){width:9rem}
.bars .bar{width:50%}.bars td:first-child{white-space:nowrap}
.box h3:first-child{margin-top:0}.bars i{display:block;height:12px;border-radius:2px;
margin-top:5px;min-width:1px}
.badge{display:inline-block;padding:0 .5rem;border-radius:9px;font-size:12.5px;font-weight:600;
color:#fff;white-space:nowrap}.ok{background:#2c8a57}.bad{background:#c0392b}
.accepted{background:#b7791f}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(245px,1fr));gap:.7rem}
.chart{margin:0;background:#fff;border-radius:6px;box-shadow:0 1px 2px #0001;padding:.6rem .8rem}
.chart svg{width:100%;height:auto;display:block;margin-top:.3rem}.chart text{font:11px
system-ui,sans-serif;fill:#647084}.chart figcaption{font-size:13px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(164px,1fr));gap:.7rem}
.item{margin:0;background:#fff;border-radius:6px;box-shadow:0 1px 2px #0001;padding:6px}
.item img,.none{width:100%;height:124px;object-fit:contain;background:#eef0f4;border-radius:4px;
display:block}.none{display:grid;place-items:center;color:#8a93a3;font-size:13px}
.item figcaption{font-size:12.5px;line-height:1.35;margin-top:4px;overflow-wrap:anywhere}
.dist{display:flex;align-items:flex-end;gap:2px;height:32px;margin-top:5px}
.dist i{flex:1;background:#2f6fb3;min-height:1px;border-radius:1px}
a{color:#2f6fb3;text-decoration:none}a:hover{text-decoration:underline}
@media print{body{background:#fff}.tile,.box,.chart,.item,header{box-shadow:none;
border:1px solid #dde1e8}}
"""


def page(
    summary: Mapping[str, Any],
    audit: Audit,
    commits: Sequence[Commit],
    picture: Callable[[Example], bytes | None],
) -> str:
    """The page.

    Args:
        summary: what :func:`beholder.catalog.report.summarise` made of the night.
        audit: the night's.
        commits: the same.
        picture: thumbnails, see :func:`beholder.catalog.report.make_report`.
    """
    title = f"Catalog night {summary['snapshot']}"
    parts = [
        _header(title, summary),
        _tiles(summary),
        _section("Checks", _box(_checks(audit.checks))),
        _section("Items", _items(summary)),
        _section("Failures", _failures(summary["failures"])),
        _section("Scores of tonight", _histograms(audit)),
        _section("Drift against the last nights", _box(_drift(audit.drift))),
        _section("Lowest and highest of tonight", _examples(audit, picture)),
        _section("Time", _time(summary, commits)),
        _section("What this is of", _box(_about(summary))),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        + "".join(parts)
        + "</main></body></html>\n"
    )


def without_items(page: str, gone: Callable[[str], bool]) -> str:
    """A page without the pictures of some items, and without messages that name them.

    Args:
        page: what :func:`page` made.
        gone: whether an item's id, or a message, is to go.
    """

    def left(found: re.Match[str]) -> str:
        return "" if gone(html.unescape(found[1])) else found[0]

    return _MESSAGE.sub(left, _FIGURE.sub(left, page))


def _header(title: str, summary: Mapping[str, Any]) -> str:
    outcome = summary["outcome"]
    color = {"published": "#2c8a57", "partial": "#b7791f", "refused": "#c0392b"}[outcome]
    badge = {"published": "ok", "partial": "accepted", "refused": "bad"}[outcome]
    said = _HEADLINE[outcome].format(
        refused=", ".join(summary["refused_by"]), parent=summary["parent"] or "none yet"
    )
    return (
        f'<header style="--c:{color}"><h1>{html.escape(title)} '
        f'<span class="badge {badge}">{outcome}</span></h1><p>{html.escape(said)}</p>'
        f'<p class="dim small">made {html.escape(summary["created_at"][:16].replace("T", " "))} '
        f"UTC, scorer <code>{html.escape(summary['fingerprint'])}</code></p></header>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    settled = summary["settled"].values()
    scored = sum(states.get("scored", 0) for states in settled)
    rate, cost = summary["items_per_second"], summary["cost"]
    tiles = {
        "items in the manifest": f"{sum(summary['items'].values()):,}",
        "looked at": f"{summary['looked_at']:,}",
        "scored": f"{scored:,}",
        "bytes known already": f"{summary['known']:,}",
        "failed": f"{sum(summary['failures'].values()):,}",
        "left out": f"{summary['plan'].get('left_out', 0):,}",
        "items a second": "–" if rate is None else f"{rate:,.3g}",
        "on the clock": _duration(sum(summary["seconds"].values())),
    }
    if cost is not None:
        tiles["cost"] = f"{cost:,.2f}"
    shown = "".join(
        f'<div class="tile"><b>{value}</b><span class="dim">{name}</span></div>'
        for name, value in tiles.items()
    )
    return f'<div class="tiles">{shown}</div>'


def _checks(checks: Sequence[Check]) -> str:
    rows = []
    for check in checks:
        badge = '<span class="badge ok">ok</span>'
        if not check.ok:
            accepted = check.accepted is not None
            badge = f'<span class="badge {"accepted" if accepted else "bad"}">'
            badge += "accepted</span>" if accepted else "fails</span>"
        said = html.escape(check.sentence)
        if check.accepted is not None:
            said += f"<br>Accepted: {html.escape(check.accepted)}"
        if check.offending:
            said += "".join(f"<br><code>{html.escape(key)}</code>" for key in check.offending)
        judged = check.name in JUDGEMENTS and check.figure is not None
        figures = (_figure(check.figure), _figure(check.threshold)) if judged else ("", "")
        rows.append([badge, f"<b>{check.name.replace('_', ' ')}</b>", said, *figures])
    head = ("", "check", "what was found", "figure", "threshold")
    return f'<div class="checks">{_table(head, rows, numbers=2)}</div>'


def _items(summary: Mapping[str, Any]) -> str:
    plan = {name.replace("_", " "): count for name, count in summary["plan"].items()}
    items = {name.replace("_", " "): count for name, count in summary["items"].items()}
    rows = [
        [
            html.escape(change),
            *(f"{states.get(state, 0):,}" for state in ("scored", "failed", "stale")),
        ]
        for change, states in summary["settled"].items()
    ]
    became = _table(("looked at", "scored", "failed", "stale"), rows, numbers=3)
    return (
        '<div class="two">'
        f"{_box('<h3>By what the plan made of them</h3>' + bar_rows(plan))}"
        f"{_box('<h3>By state after the night</h3>' + bar_rows(items))}"
        f"{_box('<h3>What became of those looked at</h3>' + became) if rows else ''}</div>"
    )


def _failures(failures: Mapping[str, int]) -> str:
    if not failures:
        return _box("Every item that was looked at has a score.")
    return _box(bar_rows(failures, BAD))


def _histograms(audit: Audit) -> str:
    if not audit.histograms:
        return _box("Nothing was scored.")
    parts = [
        f'<p class="dim small">Bars: tonight. Line: the last nights of this scorer '
        f'(<span style="color:{PAST}">none where it is missing</span>).</p>'
    ]
    for task in sorted({task for task, _ in audit.histograms}):
        mine = {s: h for (t, s), h in audit.histograms.items() if t == task}
        largest = sorted((s for s in mine if s != ALL), key=lambda s: -mine[s].total)
        shown = [ALL, *largest[:_SEGMENTS]]
        charts = "".join(
            histogram_chart(mine[s], audit.before.get((task, s)), s) for s in shown if s in mine
        )
        more = len(largest) - _SEGMENTS
        note = f' <span class="dim small">and {more} more segments</span>' if more > 0 else ""
        parts.append(f'<h3>{html.escape(task)}{note}</h3><div class="charts">{charts}</div>')
    return "".join(parts)


def _drift(found: Sequence[Drift]) -> str:
    if not found:
        return "Nothing to compare: too few scores, tonight or before, or another scorer's."
    rows = [
        [
            html.escape(d.task),
            html.escape(d.segment),
            f"{d.psi:.3f}",
            f"{d.ks:.3f}",
            f"{d.p:.1g}",
            f"{d.mean_before:.2f}",
            f"{d.mean:.2f}",
            f"{d.before:,}",
            f"{d.count:,}",
        ]
        for d in found[:_DRIFTS]
    ]
    head = (
        "task",
        "segment",
        "PSI",
        "KS",
        "p",
        "mean before",
        "tonight",
        "scores before",
        "tonight",
    )
    more = len(found) - _DRIFTS
    rest = f'<p class="dim small">and {more} more, in report.json</p>' if more > 0 else ""
    return _table(head, rows, numbers=7) + rest


def _examples(audit: Audit, picture: Callable[[Example], bytes | None]) -> str:
    """Of each task as many as fit, all tasks alike."""
    tasks = sorted(audit.worst)[: SHOWN // 2]
    if not tasks:
        return _box("Nothing was scored.")
    each = SHOWN // (2 * len(tasks))
    parts = []
    for task in tasks:
        for name, some in (("lowest", audit.worst[task]), ("highest", audit.best[task])):
            figures = "".join(_example(one, picture(one)) for one in some[:each])
            heading = f"{html.escape(task)}, {name}"
            parts.append(f'<h3>{heading}</h3><div class="grid">{figures}</div>')
    return "".join(parts)


def _example(one: Example, jpeg: bytes | None) -> str:
    shown = f'<div class="none">{"video" if one.kind == "video" else "no picture"}</div>'
    if jpeg is not None:
        data = base64.b64encode(jpeg).decode()
        shown = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    name = html.escape(one.item_id)
    if urlsplit(one.uri).scheme in _LINKED:
        address = html.escape(quote(one.uri, safe=":/?&=%@+,;~"))
        name = f'<a href="{address}" rel="noreferrer">{name}</a>'
    spread = "" if one.std is None else f" &plusmn; {one.std:.2f}"
    return (
        f'<figure class="item" data-item="{html.escape(one.item_id)}">{shown}'
        f"<figcaption><b>{one.mean:.2f}</b>{spread}<br>{name}"
        f"</figcaption>{probability_bars(one.probs, one.support) if one.probs else ''}</figure>"
    )


def _time(summary: Mapping[str, Any], commits: Sequence[Commit]) -> str:
    stages = [[html.escape(name), _duration(s)] for name, s in summary["seconds"].items()]
    rows = [
        *stages,
        ["scoring actors, together", _duration(summary["actor_seconds"])],
        ["chunks", f"{summary['chunks']:,}"],
    ]
    if summary["cost"] is not None:
        rows.append(["cost", f"{summary['cost']:,.2f}"])
    table = _box(_table(("stage", "time"), rows, numbers=1))
    if len(commits) < 4:
        return table
    began = datetime.fromisoformat(summary["planned_at"]).timestamp()
    at, items = [c.at for c in commits], [c.rows for c in commits]
    chart = rate_chart(began, at, items, "Items committed over time")
    return f'{chart}<div style="height:.7rem"></div>{table}'


def _about(summary: Mapping[str, Any]) -> str:
    facts = {
        "manifest": summary["manifest"].get("uri", ""),
        "manifest's version": summary["manifest"].get("version", ""),
        "parent": summary["parent"] or "none: the catalog's first night",
        "scorer": summary["scorer"],
        "tasks": "; ".join(f"{kind}: {', '.join(t)}" for kind, t in summary["tasks"].items()),
        "mass on the readout's words": ", ".join(
            f"{task} {value:.3f}" for task, value in summary["mass"].items()
        ),
    }
    rows = [[html.escape(k), f"<code>{html.escape(str(v))}</code>"] for k, v in facts.items() if v]
    return _table((), rows)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _box(body: str) -> str:
    return f'<div class="box">{body}</div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Cells are HTML; the last ``numbers`` columns are aligned to the right."""

    def cells(values: Sequence[str], tag: str) -> str:
        first = len(values) - numbers
        return "".join(
            f"<{tag}{' class=n' if at >= first else ''}>{value}</{tag}>"
            for at, value in enumerate(values)
        )

    top = f"<tr>{cells(head, 'th')}</tr>" if head else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"
