"""The chart: requests a second as bars, a group a workload, each with its own scale; readable on light and on dark."""

from html import escape

import servers
from report import Results, short

WIDTH, LABELS, FIGURES, BAR, GAP, TITLE = 860, 200, 120, 18, 6, 40
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #9aa4af } .ours { fill: #c2410c }
.spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .bar { fill: #6e7781 } .ours { fill: #fb923c } .spread { stroke: #e6edf3 }
}
"""


def draw(results: Results) -> str:
    parts, y = [], 0
    for workload, rows in results:
        timed = sorted((row for row in rows if not row.absent), key=lambda row: -row["rate"].median)
        if not timed:
            continue
        y += TITLE
        parts.append(f'<text class="title" x="0" y="{y - 12}">{escape(workload.title)} (requests a second)</text>')
        scale = (WIDTH - LABELS - FIGURES) / max(row["rate"].high for row in timed)
        for row in timed:
            rate, label = row["rate"], servers.ALL[row.server].label.replace("`", "")
            end, low, high = (LABELS + value * scale for value in (rate.median, rate.low, rate.high))
            kind = "bar ours" if row.server.startswith("rgunicorn") else "bar"
            text, middle = y + BAR - 5, y + BAR / 2
            parts += [
                f'<text x="{LABELS - 8}" y="{text}" text-anchor="end">{escape(label)}</text>',
                f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{end - LABELS:.1f}" height="{BAR}" rx="2"/>',
                f'<line class="spread" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
                f'<text x="{max(end, high) + 8:.1f}" y="{text}">{short(rate.median)}</text>',
            ]
            y += BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-label="Requests a second of each server, by workload">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
