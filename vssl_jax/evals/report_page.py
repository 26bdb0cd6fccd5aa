"""The report's page: one HTML document that holds everything, runs nothing and asks the network for nothing.

The idea: the content security policy in its head forbids scripts and any address, so self-containment is enforced by the browser and not by
care. Colors are variables set once for light and once for dark."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax.train import pictures

_STYLE = """ :root{color-scheme:light
dark;--bg:#fff;--fg:#1c2024;--dim:#5c6570;--line:#d9dee4;--card:#f5f7f9;--accent:#0b66c3;--good:#1a7f4b;--bad:#c0362c;
--s0:#0b66c3;--s1:#d9730d;--s2:#1a8f5a;--s3:#c03a8b;--s4:#7a5ad1;--s5:#8a6d00;--s6:#0093a8;--s7:#c0362c;--rest:#9aa3ad} @media
(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--dim:#9aa4af;--line:#343a41;--card:#1d2125;--accent:#62aef7;--good:#5cc98f;--bad:#ff8a7d;
--s0:#62aef7;--s1:#f5a04c;--s2:#5cc98f;--s3:#f08bc5;--s4:#b39df5;--s5:#d9bd4a;--s6:#4fd0e0;--s7:#ff8a7d;--rest:#69727c}}
*{box-sizing:border-box} body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:70rem;background:var(--bg);color:var(--fg);font:16px/1.5
system-ui,sans-serif; overflow-wrap:anywhere} h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.2rem;margin:2.5rem 0
.75rem;padding-top:.75rem;border-top:1px solid var(--line)} h3{font-size:1rem;margin:1.25rem 0 .5rem} p{margin:.5rem
0;max-width:46rem}.dim,caption,figcaption,nav,dt{color:var(--dim);font-size:.875rem}
a{color:var(--accent)}nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.75rem 0} :focus-visible{outline:2px solid
var(--accent);outline-offset:2px} dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,11rem),1fr));gap:.75rem;margin:1rem
0} dl div{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}
figure{margin:0;min-width:0}figcaption{margin-top:.25rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1.25rem} .charts h3{margin:0}
svg.chart{display:block;width:100%;height:auto}svg text{fill:var(--dim);font-size:11px;font-variant-numeric:tabular-nums}
.axis,.grid{fill:none;stroke:var(--line)}.line{fill:none;stroke:var(--accent);stroke-width:1.75;stroke-linejoin:round}
.raw{opacity:.35;stroke-width:1}.dot{fill:var(--accent)}.bad{stroke:var(--bad);stroke-width:1.5}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}.s5{fill:var(--s5)}.s6{fill:var(--s6)}.s7{fill:var(--s7)}
.rest{fill:var(--rest)}.chart .s0,.chart .s1,.chart .s2,.chart .s3,.chart .s4,.chart .s5,.chart .s6,.chart .s7{fill-opacity:.8}
.map{display:grid;grid-template-columns:minmax(0,34rem) minmax(0,1fr);gap:1.25rem;align-items:start} .map
svg.chart{background:var(--card);border-radius:.5rem}
.legend{list-style:none;margin:0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,9rem),1fr));gap:.2rem .75rem;
font-size:.875rem} .key{margin-right:.4rem;vertical-align:-1px} .scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;overflow-wrap:normal}caption{text-align:left;padding-bottom:.4rem;caption-side:top}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}thead th{color:var(--dim);font-weight:600}
td.n{text-align:right;font-variant-numeric:tabular-nums}td.t{white-space:normal;min-width:7rem} .confusion th,.confusion td{padding:.25rem
.4rem;border:1px solid var(--bg);font-size:.8rem} .confusion td{text-align:center;min-width:2.2rem;background:color-mix(in
srgb,var(--accent) calc(var(--p)*.65%),var(--card))} .confusion thead th{vertical-align:bottom}.confusion thead
span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:9rem;overflow:hidden}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1.25rem} .clips
img{display:block;width:100%;height:auto;border-radius:.25rem}.small img{image-rendering:pixelated}
.names{display:grid;grid-template-columns:repeat(var(--n),minmax(0,1fr));text-align:center;font-size:.8rem;color:var(--dim)}
.neighbors{display:grid;grid-template-columns:repeat(var(--n),minmax(0,7rem));gap:.6rem;margin-bottom:1.1rem} .neighbors
img{display:block;width:100%;height:auto;border-radius:.25rem;border:3px solid var(--line)} .neighbors .same
img{border-color:var(--good)}.neighbors .other img{border-color:var(--bad)}.neighbors figcaption{line-height:1.25;font-size:.8rem}
details{margin:.75rem 0}summary{cursor:pointer}pre{overflow:auto;max-height:32rem;background:var(--card);padding:.8rem;border-radius:.5rem;
font-size:.8rem;overflow-wrap:normal} @media
(max-width:44rem){.map{grid-template-columns:minmax(0,1fr)}.neighbors{grid-template-columns:repeat(3,minmax(0,1fr))}} """


@dataclass(frozen=True)
class Section:
    """A part of the page. `anchor` is its id; `body` is HTML, already escaped."""

    anchor: str
    title: str
    body: str


def page(title: str, summary: str, sections: Sequence[Section], missing: Sequence[str]) -> str:
    """The whole document. `summary` is HTML; `missing` names in words what the run did not record, so that an absence is stated."""
    links = "".join(f'<a href="#{section.anchor}">{html.escape(section.title)}</a>' for section in sections)
    body = "".join(f'<section id="{s.anchor}"><h2>{html.escape(s.title)}</h2>{s.body}</section>' for s in sections)
    absent = f'<p class="dim">Not recorded in this run: {html.escape("; ".join(missing))}.</p>' if missing else ""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f'<body><header><h1>{html.escape(title)}</h1>{summary}<nav aria-label="Sections">{links}</nav></header>'
        f"<main>{body}{absent}</main></body></html>\n"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values as cards."""
    return "<dl>" + "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in pairs) + "</dl>"


def scrolling(table: str, name: str) -> str:
    """A table that may be wider than a phone: it scrolls by itself, by keyboard too, and the page does not."""
    return f'<div class="scroll" role="region" aria-label="{html.escape(name)}" tabindex="0">{table}</div>'


def moving_picture(frames_TxHxWx3: np.ndarray, alt: str) -> str:
    """A looping picture inlined as a data URI; readers who asked their system for less motion get its middle frame instead."""
    frames_TxHxWx3 = np.asarray(frames_TxHxWx3)
    height, width = frames_TxHxWx3.shape[1:3]
    image = f'<img src="{_uri(frames_TxHxWx3)}" width="{width}" height="{height}" alt="{html.escape(alt)}">'
    if len(frames_TxHxWx3) == 1:
        return image
    still = _uri(frames_TxHxWx3[len(frames_TxHxWx3) // 2][None])
    return f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{still}">{image}</picture>'


def _uri(frames_TxHxWx3: np.ndarray) -> str:
    return "data:image/webp;base64," + base64.b64encode(pictures.encode_webp(frames_TxHxWx3)).decode("ascii")
