"""The detection page: a text goes in, every token comes out shaded by its probability of having been replaced."""

import streamlit as st

from app import components, services
from app.views import model_picker

# Browsers slow down with tens of thousands of elements; the rest of a longer text is a click away.
PART_TOKENS = 1_000

EXAMPLES = {
    "A wrong word": "Returns a list of strings, one for each line of and file; the default is to return they whole line.",
    "A grammar slip": "This function return a list of string, one for each lines of the file.",
    "False facts": "A week has nine days, and each day the sun sets in the morning.",
    "A story": "The chef cooked the meal slowly, then the guests drove it with great pleasure.",
    "Nothing replaced": "Return True if the file exists and can be read, and False otherwise.",
}

EXPLANATION = """
A small network, the *generator*, hides some words of a text and fills in words of its own. A larger one, the *discriminator*,
reads the result and says for **every token** whether it is the original. That is how
[ELECTRA](https://openreview.net/forum?id=r1xMH1BtvB) learns a language from raw text. Here you see the discriminator at work:
type a sentence with a word that does not belong, and look for the strongest shade. It looks for words a generator might put there,
so it is no judge of grammar, truth or authorship.
"""


def show() -> None:
    """Draws the page."""
    st.title("Which words were replaced?", anchor=False)
    st.write("Every token is shaded by how likely the model thinks it is that another word stood there.")
    runs, unusable = services.list_runs()
    if not runs:
        model_picker.explain_first_run(unusable)
        return
    left, right = st.columns(2, gap="large")
    with left:
        run = model_picker.pick_run(runs, unusable)
    with right:
        threshold = st.slider("Mark tokens from this probability on", 0.0, 1.0, 0.5, 0.01, format="percent", key="threshold")
    text = _read_text()
    if not text.strip():
        st.info("Type a text, or choose an example.", icon=":material/edit:")
        return
    try:
        tokens = services.score(run, text)
    except services.UserError as error:
        st.error(components.as_markdown(str(error)), icon=":material/error:")
        return
    if not tokens:
        st.info("The text holds no tokens: only spaces or control characters.", icon=":material/edit:")
        return
    _show_detection(run, text, tokens, threshold)


def _read_text() -> str:
    st.pills("Examples", list(EXAMPLES), key="example", on_change=_take_example)
    st.session_state.setdefault("text", next(iter(EXAMPLES.values())))
    with st.form("text_form", border=False):
        text = st.text_area("Text", key="text", height=90, label_visibility="collapsed", placeholder="Type or paste a text")
        st.form_submit_button("Detect", type="primary", icon=":material/find_replace:", shortcut="Ctrl+Enter")
    return text


def _take_example() -> None:
    if st.session_state.example:
        st.session_state.text = EXAMPLES[st.session_state.example]


def _show_detection(run: services.Run, text: str, tokens: list[services.TokenScore], threshold: float) -> None:
    _show_shaded(text, tokens, threshold)
    marked = sum(token.probability >= threshold for token in tokens)
    with st.expander(f"All {len(tokens):,} tokens, {marked:,} of them marked", icon=":material/table_rows:"):
        _show_table(run, tokens)
    with st.expander("What is this?", icon=":material/help:"):
        st.markdown(EXPLANATION)


def _show_shaded(text: str, tokens: list[services.TokenScore], threshold: float) -> None:
    parts = components.cut_parts(text, tokens, PART_TOKENS)
    number = 1
    if len(parts) > 1:
        st.warning(
            f"The text has {len(tokens):,} tokens, all of them scored. They are drawn in {len(parts)} parts; the table below holds all.",
            icon=":material/content_cut:",
        )
        number = st.pagination(len(parts), key=f"part_of_{len(parts)}")
    part_text, part_tokens = parts[number - 1]
    st.html(components.shaded_text(part_text, part_tokens, threshold) + components.legend(threshold))


def _show_table(run: services.Run, tokens: list[services.TokenScore]) -> None:
    table = components.token_table(tokens)
    strongest_first = st.toggle("Strongest first", key="strongest_first")
    st.dataframe(
        table.sort_values("probability", ascending=False, kind="stable") if strongest_first else table,
        hide_index=True,
        column_config={
            "probability": st.column_config.ProgressColumn(
                "probability", help="of having been replaced", format="%.3f", min_value=0.0, max_value=1.0
            ),
            "start": st.column_config.NumberColumn("start", help="first character, counted from 0"),
            "end": st.column_config.NumberColumn("end", help="one past the last character"),
        },
    )
    st.download_button(
        "Download as CSV",
        table.to_csv(index=False).encode("utf-8"),
        file_name=f"{run.name}-detection.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
