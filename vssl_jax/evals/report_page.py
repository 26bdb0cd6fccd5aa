"""The report's page: one HTML document that holds everything, runs nothing and asks the network for nothing.

The idea: the content security policy in its head forbids scripts and any address, so self-containment is enforced by the browser and not by
care."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax.evals.report_style import STYLE
from vssl_jax.train import pictures


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
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
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
