import html.parser
import io
import re

import pandas as pd
import pytest

from app import components
from app.services import TokenScore

TEXT = 'Crème <b>"brûlée"</b>\n\t& שלום  我们 👩‍👩‍👧!'


class Reader(html.parser.HTMLParser):
    """Reads shaded HTML back: all its text, and each span's text, classes and tip."""

    def __init__(self):
        super().__init__()
        self.text, self.spans, self._style, self._open = "", [], False, False

    def handle_starttag(self, tag, attrs):
        assert tag in ("style", "div", "span"), f"<{tag}> came out of the text"
        self._style = tag == "style"
        if tag == "span":
            self._open = True
            self.spans.append({**dict(attrs), "text": ""})

    def handle_endtag(self, tag):
        self._style = self._open = False

    def handle_data(self, data):
        if not self._style:
            self.text += data
        if self._open:
            self.spans[-1]["text"] += data


def read(markup):
    reader = Reader()
    reader.feed(markup)
    return reader


def words(text, probability=0.25):
    return [TokenScore(match.group().lower(), *match.span(), probability) for match in re.finditer(r"\w+|[^\w\s]", text)]


def test_text_between_tokens_survives():
    reader = read(components.shaded_text(TEXT, words(TEXT), threshold=0.5))
    assert reader.text == TEXT
    assert [span["text"] for span in reader.spans][:3] == ["Crème", "<", "b"]


def test_text_without_tokens_is_shown_whole():
    assert read(components.shaded_text("\x01 a", [], threshold=0.5)).text == "\x01 a"


def test_markup_is_escaped_in_text_and_tips():
    text = '<script>alert("x")</script>'
    markup = components.shaded_text(text, [TokenScore('"><script>', 0, len(text), 0.9)], threshold=0.5)
    assert "<script" not in markup
    reader = read(markup)
    assert reader.spans[0]["text"] == text
    assert reader.spans[0]["data-tip"] == '"><script> 90.0%'


@pytest.mark.parametrize(("threshold", "marked"), [(0.0, "abc"), (0.5, "bc"), (0.51, "c"), (1.0, "")])
def test_threshold_marks_tokens_at_or_above_it(threshold, marked):
    tokens = [TokenScore("a", 0, 1, 0.1), TokenScore("b", 1, 2, 0.5), TokenScore("c", 2, 3, 0.9)]
    reader = read(components.shaded_text("abc", tokens, threshold))
    assert "".join(span["text"] for span in reader.spans if "marked" in span["class"].split()) == marked


def test_shade_and_number_follow_probability():
    reader = read(components.shaded_text("one two", [TokenScore("one", 0, 3, 0.0), TokenScore("two", 4, 7, 0.1234)], threshold=0.5))
    assert [span["style"] for span in reader.spans] == ["--p:0.000", "--p:0.123"]
    assert [span["data-tip"] for span in reader.spans] == ["one 0.0%", "two 12.3%"]


def test_tokens_that_share_a_character_are_drawn_once():
    # A tokenizer that strips accents takes a Korean syllable apart, and both pieces point at it.
    tokens = [TokenScore("ᄒ", 0, 1, 0.2), TokenScore("##ᅡᆫ", 0, 1, 0.7), TokenScore("국", 1, 2, 0.1)]
    reader = read(components.shaded_text("한국", tokens, threshold=0.5))
    assert reader.text == "한국"
    assert [(span["text"], span["style"]) for span in reader.spans] == [("한", "--p:0.700"), ("국", "--p:0.100")]
    assert reader.spans[0]["data-tip"] == "ᄒ 20.0%  ##ᅡᆫ 70.0%"


def test_combining_marks_stay_with_their_letter():
    text = "e\u0301t a"
    reader = read(components.shaded_text(text, [TokenScore("e", 0, 1, 0.3), TokenScore("##t", 2, 3, 0.3), TokenScore("a", 4, 5, 0.3)], 0.5))
    assert [span["text"] for span in reader.spans] == ["e\u0301", "t", "a"]
    assert reader.text == text


def test_parts_give_the_whole_text_and_every_token():
    text = "  " + "한 word. " * 7 + "end  "
    tokens = []
    for token in words(text):
        tokens.extend([token, token] if token.token == "한" else [token])
    parts = components.cut_parts(text, tokens, part_tokens=4)
    assert "".join(part for part, _ in parts) == text
    assert [len(part_tokens) for _, part_tokens in parts] == [4, 4, 4, 4, 4, 4, 4, 1]
    found, position = [], 0
    for part, part_tokens in parts:
        found.extend(token._replace(start=token.start + position, end=token.end + position) for token in part_tokens)
        position += len(part)
    assert found == tokens


def test_a_part_does_not_cut_a_shared_character():
    tokens = [TokenScore("a", 0, 1, 0.1), TokenScore("ᄒ", 1, 2, 0.2), TokenScore("##ᅡᆫ", 1, 2, 0.7), TokenScore("b", 2, 3, 0.1)]
    parts = components.cut_parts("a한b", tokens, part_tokens=2)
    assert [text for text, _ in parts] == ["a한", "b"]
    assert [len(part_tokens) for _, part_tokens in parts] == [3, 1]


def test_a_short_text_is_one_part():
    assert components.cut_parts("ab", words("ab"), 1000) == [("ab", words("ab"))]
    assert components.cut_parts(" ", [], 1000) == [(" ", [])]


@pytest.mark.parametrize(("ink", "paper"), [("#1f2328", "#ffffff"), ("#eceef1", "#14161a")])
def test_text_is_readable_on_every_shade(ink, paper):
    """The contrast of WCAG 2.2, whose level AA asks for 4.5; the colours are those of .streamlit/config.toml."""

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def channels(color):
        return [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]

    for percent in range(101):
        opacity = percent / 100 * components.MAX_OPACITY
        shade = [opacity * s / 255 + (1 - opacity) * p for s, p in zip(components.SHADE_RGB, channels(paper), strict=True)]
        brightest, darkest = sorted((luminance(shade), luminance(channels(ink))), reverse=True)
        assert (brightest + 0.05) / (darkest + 0.05) >= 4.5, f"at probability {percent}%"


def test_themes_are_those_the_contrast_was_checked_for(request):
    config = (request.config.rootpath / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    assert re.findall(r'(?:backgroundColor|textColor) = "(#\w+)"', config.replace("secondaryBackgroundColor", "")) == [
        "#ffffff",
        "#1f2328",
        "#14161a",
        "#eceef1",
    ]
    assert "gatherUsageStats = false" in config


def test_table_survives_csv():
    tokens = [TokenScore('"', 0, 1, 0.123456789), TokenScore("null", 2, 6, 1.0), TokenScore("我", 7, 8, 0.0)]
    table = components.token_table(tokens)
    back = pd.read_csv(io.StringIO(table.to_csv(index=False)), keep_default_na=False)
    assert list(map(tuple, back.itertuples(index=False))) == tokens
    assert list(back.columns) == ["token", "start", "end", "probability"]


@pytest.mark.parametrize(
    ("message", "markdown"),
    [
        ("No run in my_runs/*: $5 [x]", r"No run in my\_runs/\*\: \$5 \[x\]"),
        ("Use `make_demo *`, or a*b", r"Use `make_demo *`, or a\*b"),
        ("A lone ` tick_", r"A lone \` tick\_"),
        ("two\nlines", "two  \nlines"),
    ],
)
def test_messages_are_escaped_for_markdown(message, markdown):
    assert components.as_markdown(message) == markdown


def test_curves_skip_gaps_and_absent_fields():
    rows = pd.DataFrame([{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}, {"step": 20, "val_loss": 1.5}])
    fields = {"loss": "training", "val_loss": "held out", "other": "never"}
    points = components.curve_chart(rows, fields).data
    assert points.to_dict("records") == [
        {"step": 10, "curve": "training", "value": 2.0},
        {"step": 20, "curve": "training", "value": 1.0},
        {"step": 20, "curve": "held out", "value": 1.5},
    ]
    assert components.curve_chart(rows, {"other": "never"}) is None
    assert components.curve_chart(pd.DataFrame([{"step": 1, "auc": None}]), {"auc": "AUC"}) is None
