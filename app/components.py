"""Pieces of a page that take data, not models: the shaded text, its legend, the table, the curves.

Everything that came from the user or a vocabulary is escaped before it becomes HTML. The text shown is always cut out
of the original by offsets, never glued together from tokens, so spaces, case, accents and writing direction survive.
"""

import html
import re
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from app.services import Segment, TokenScore, join_segments

# The shade is this orange, from invisible at probability 0 to MAX_OPACITY at 1. Both were chosen so that the text
# keeps a contrast of 4.5 or more on the light and the dark theme (tested).
SHADE_RGB = (240, 98, 20)
MAX_OPACITY = 0.72
MARK_COLOR = "#ea580c"
_SHADE = " ".join(map(str, SHADE_RGB))

# Streamlit leaves a third of a laptop's screen empty above a page that has its navigation at the top.
# Its hint on how to submit lies over the last line of a long text, and the button says the same.
PAGE_STYLE = "<style>.stMainBlockContainer { padding-top: 4.5rem; } [data-testid=InputInstructions] { display: none; }</style>"

_MARKDOWN_SIGNS = re.compile(r"[\\`*_\[\]<>$~:#|]")

_STYLE = f"""<style>
.shaded-text {{
  font-size: 1.2rem; line-height: 2.1; white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: plaintext; text-align: start; padding: 1.3rem 1.4rem 1.1rem; border: 1px solid rgb(128 128 128 / .28);
  border-radius: .8rem; margin-bottom: .7rem;
}}
.shaded-text .token {{
  position: relative; border-radius: .3rem; padding: .18rem 0; cursor: default;
  background: rgb({_SHADE} / calc(var(--p) * {MAX_OPACITY}));
}}
.shaded-text .token:hover {{ outline: 1px solid currentColor; }}
.shaded-text .marked, .shade-legend .marked {{ box-shadow: 0 .18rem 0 {MARK_COLOR}; }}
.shaded-text .token:hover::after {{
  content: attr(data-tip); position: absolute; inset-inline-start: 0; bottom: calc(100% + .3rem); z-index: 10;
  direction: ltr; white-space: pre; font: 500 .8rem/1.4 ui-monospace, monospace; padding: .25rem .55rem;
  border-radius: .4rem; color: #fff; background: #1f2328; box-shadow: 0 2px 8px rgb(0 0 0 / .35); pointer-events: none;
}}
.shade-legend {{
  display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .6rem; font-size: .85rem; opacity: .85;
}}
.shade-legend .bar {{
  width: 9rem; height: .8rem; border-radius: .4rem; border: 1px solid rgb(128 128 128 / .28);
  background-origin: border-box; background-image: linear-gradient(to right, rgb({_SHADE} / 0), rgb({_SHADE} / {MAX_OPACITY}));
}}
.shade-legend .marked {{ margin-inline-start: auto; padding: 0 .1rem; }}
</style>"""


def shaded_text(text: str, tokens: Sequence[TokenScore], threshold: float) -> str:
    """Returns HTML of a text in which every token is shaded by its probability, with the number on hover.

    Args:
        text: the original.
        tokens: in reading order; the text between them is kept as it is.
        threshold: tokens at or above it are underlined as well, so that colour is not the only sign.
    """
    pieces, position = [], 0
    for segment in join_segments(text, tokens):
        pieces.append(html.escape(text[position : segment.start]))
        pieces.append(_shaded_segment(text, segment, threshold))
        position = segment.end
    pieces.append(html.escape(text[position:]))
    return f'{_STYLE}<div class="shaded-text" dir="auto">{"".join(pieces)}</div>'


def legend(threshold: float) -> str:
    """Returns HTML that says what the shades and the underline mean; it relies on shaded_text's style."""
    return (
        '<div class="shade-legend"><span>looks original</span><span class="bar"></span><span>looks replaced</span>'
        f'<span class="marked">marked: {threshold:.0%} or more</span></div>'
    )


def cut_parts(text: str, tokens: Sequence[TokenScore], part_tokens: int) -> list[tuple[str, list[TokenScore]]]:
    """Cuts a text that is too long for a browser to draw at once into parts.

    Joined, the parts give the whole text: each runs to where the next one's first token starts.

    Args:
        text: the original.
        tokens: of the whole text, in reading order.
        part_tokens: tokens a part; a few more where the last ones share a character.

    Returns:
        At least one (text, tokens with offsets into that text).
    """
    groups: list[list[TokenScore]] = [[]]
    for segment in join_segments(text, tokens):
        if len(groups[-1]) >= part_tokens:
            groups.append([])
        groups[-1].extend(segment.tokens)
    starts = [0, *(group[0].start for group in groups[1:])]
    ends = [*starts[1:], len(text)]
    return [
        (text[start:end], [TokenScore(token.token, token.start - start, token.end - start, token.probability) for token in group])
        for group, start, end in zip(groups, starts, ends, strict=True)
    ]


def token_table(tokens: Sequence[TokenScore]) -> pd.DataFrame:
    """Returns one row a token: token, start, end (code points of the original text), probability."""
    return pd.DataFrame(tokens, columns=list(TokenScore._fields))


def as_markdown(message: str) -> str:
    """Escapes a plain message for Streamlit's Markdown, keeping what stands in backticks as code.

    Messages quote paths and patterns, and Markdown would eat their stars, dollars and underscores.
    """
    # With an odd number of backticks, one of them is no quotation mark for code, and none is taken for one.
    pieces = message.split("`") if message.count("`") % 2 == 0 else [message]
    pieces[::2] = [_MARKDOWN_SIGNS.sub(r"\\\g<0>", piece) for piece in pieces[::2]]
    return "`".join(pieces).replace("\n", "  \n")


def curve_chart(rows: pd.DataFrame, fields: Mapping[str, str]) -> alt.Chart | None:
    """Draws fields of a run's metrics over the steps.

    Args:
        rows: one line of metrics.jsonl a row, with a `step`; training and validation write lines of their own, so every
            field has gaps, which are left out, since a gap would break the line.
        fields: which columns, with the name that each curve gets.

    Returns:
        The chart, or None when no row has any of the fields.
    """
    present = {name: label for name, label in fields.items() if name in rows}
    points = rows.melt("step", list(present), "curve", "value").dropna().replace({"curve": present})
    if points.empty:
        return None
    legend = alt.Legend(orient="top-right", title=None) if len(fields) > 1 else None
    colors = alt.Scale(domain=list(fields.values()), range=[MARK_COLOR, "#0d9488"][: len(fields)])
    return (
        alt.Chart(points, height=210)
        .mark_line(point=len(points) < 3 * len(present))
        .encode(
            x=alt.X("step:Q", title=None),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("curve:N", scale=colors, legend=legend),
            tooltip=["curve:N", "step:Q", alt.Tooltip("value:Q", format=".4~g")],
        )
    )


def _shaded_segment(text: str, segment: Segment, threshold: float) -> str:
    tip = "  ".join(f"{token.token} {token.probability:.1%}" for token in segment.tokens)
    marked = " marked" if segment.probability >= threshold else ""
    return (
        f'<span class="token{marked}" style="--p:{segment.probability:.3f}" data-tip="{html.escape(tip)}">'
        f"{html.escape(text[segment.start : segment.end])}</span>"
    )
