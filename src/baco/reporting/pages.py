"""Self-contained web pages for reports: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

STYLE = """
:root{color-scheme:light dark;--ink:#23282f;--soft:#5c6670;--line:#dcdfe3;--paper:#fbfaf7;
--card:#fff;--warn:#8a3b00;--warnbg:#fff1e0}
@media(prefers-color-scheme:dark){:root{--ink:#e8e6e1;--soft:#a7adb5;--line:#3a4048;--paper:#16191d;
--card:#1e2227;--warn:#ffb870;--warnbg:#3a2a15}figure svg{background:#f4f2ee;border-radius:8px}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,sans-serif}main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.25rem;margin:2.6rem 0 .6rem}
p{margin:.4rem 0}.soft,caption,figcaption{color:var(--soft);font-size:.92rem}
.warn{background:var(--warnbg);color:var(--warn);border-radius:8px;padding:.7rem 1rem;margin:1rem 0;
font-weight:600}.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:.4rem 0;container-type:inline-size}
table{border-collapse:collapse;width:100%;
font-variant-numeric:tabular-nums}caption{text-align:left;caption-side:bottom;padding:.6rem 1rem}
caption span{display:inline-block;position:sticky;left:1rem;max-width:calc(100cqw - 2rem);
white-space:normal}
th:first-child,td:first-child{position:sticky;left:0;background:var(--card);padding-left:1rem}
th,td{padding:.45rem .7rem .45rem 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);
font-weight:600;font-size:.9rem}figure{margin:1rem 0}figure svg{max-width:100%;height:auto}
blockquote{margin:.8rem 0;padding-left:1rem;border-left:3px solid var(--line)}
details{margin:.6rem 0}summary{cursor:pointer}dl{display:grid;grid-template-columns:max-content 1fr;
gap:.2rem 1.2rem}dt{color:var(--soft)}dd{margin:0}
"""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: Its title, as text.
        body: HTML of its main part.
        style: CSS after the common one.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


_PLAIN = " !$'()*+,-./:;=?@[]^_{|}~"
"""What may stand in an address within double quotes as it is; base64 would take a third more."""


def picture(svg: str, text: str) -> str:
    """An SVG drawing as a figure of its own, whose ids and styles stay inside.

    Args:
        svg: The drawing.
        text: What it shows, as text: its caption, which is also read aloud.
    """
    if "http://www.w3.org/2000/svg" not in svg:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    data = quote(re.sub(r"\s*\n\s*", " ", svg), safe=_PLAIN)
    return (
        f'<figure><img alt="{escape(text)}" src="data:image/svg+xml,{data}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )
