"""A self-contained web page: styles for light and dark screens of any width, and charts that follow them.

A page loads nothing from elsewhere, which its security policy enforces.
"""

import html
import json
from typing import Any

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
<script>{library}</script>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""
_STYLE = """
:root { --ink: #1f2328; --soft: #57606a; --page: #f6f8fa; --card: #fff; --line: #d0d7de; --faint: #eaeef2;
  --mark: #fff1e5; --link: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --page: #0d1117; --card: #151b23;
  --line: #3d444d; --faint: #262c36; --mark: #33200f; --link: #4493f8; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  padding: 24px; max-width: 1500px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 0 0 8px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px;
  margin: 16px 0; overflow-x: auto; }
.soft, .facts span { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; } .facts b { display: block; font-size: 20px; }
.charts { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 16px; }
@media (min-width: 1000px) { .charts { grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); } }
.drawing { background: #fff; border-radius: 6px; min-width: 760px; width: 100%; display: block; }
ul { margin: 0; padding-left: 20px; } li { margin: 4px 0; }
a, button { color: var(--link); }
button { font: inherit; font-size: 13px; background: none; border: 1px solid var(--line); border-radius: 6px;
  padding: 2px 8px; cursor: pointer; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; font-weight: 600; color: var(--soft); }
td.text, th.text { text-align: left; } td.wide { white-space: normal; min-width: 220px; }
tr.chosen { background: var(--mark); }
.spark { display: block; height: 40px; width: 190px; }
.spark text { fill: var(--soft); font: 9px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .spark .k7 { fill: #2f6fd0; } }
#picked { position: sticky; bottom: 8px; border-color: var(--link); max-height: 60vh; overflow-y: auto; }
#picked h2 { overflow-wrap: anywhere; }
@media (max-width: 700px) {
  body { padding: 10px; } section { padding: 12px; }
  table.cards, .cards tbody { display: block; } .cards thead { display: none; }
  .cards tr { display: grid; grid-template-columns: 1fr 1fr; gap: 2px 12px; padding: 10px 0;
    border-bottom: 1px solid var(--line); }
  .cards td { display: block; text-align: left; border: 0; padding: 2px 4px; white-space: normal; min-width: 0; }
  .cards td:empty { display: none; } .cards td.wide { grid-column: 1 / -1; }
  .cards td[data-name]::before { content: attr(data-name) ": "; color: var(--soft); }
}
"""
_THEME = """
function followScreen() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const change = {"font.color": ink, "hoverlabel.font.color": "#fff", "hoverlabel.bgcolor": "#24292f"};
    for (const axis of Object.keys(plot.layout).filter(name => /^[xy]axis\\d*$/.test(name)))
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) change[axis + "." + part] = line;
    Plotly.relayout(plot, change);
    Plotly.Plots.resize(plot);
  }
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followScreen);
window.addEventListener("load", followScreen);
"""


def page(title: str, body: str, script: str = "") -> str:
    """Return a page with the library that draws charts.

    Args:
        title: Plain text.
        body: HTML, in which all text of others is escaped.
        script: JavaScript that runs at the end of the body.
    """
    from plotly.offline import get_plotlyjs  # here, because plotly is slow to import

    return _PAGE.format(
        title=html.escape(title), style=_STYLE, library=get_plotlyjs(), body=body, script=_THEME + script
    )


def section(title: str, content: str) -> str:
    """Return a section of a page; ``title`` is plain text, ``content`` HTML."""
    heading = f"<h2>{html.escape(title)}</h2>" if title else ""
    return f"<section>{heading}{content}</section>"


def embedded(identity: str, value: Any) -> str:
    """Return plain ``value`` as a script element with JSON, which scripts of the page read."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{identity}">{text}</script>'
