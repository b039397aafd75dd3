"""The app's entry: which pages there are."""

import pathlib
import sys

import streamlit as st

# `streamlit run` puts this script's own folder on the path, not the project's, which holds `app` and, in a clone
# that was never pip-installed, `electra_keras`.
_ROOT = str(pathlib.Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from app import components  # noqa: E402
from app.views import detect, training  # noqa: E402


def main() -> None:
    """Draws the page that the address names."""
    st.set_page_config(page_title="electra_keras", page_icon=":material/find_replace:", layout="centered")
    st.html(components.PAGE_STYLE)
    pages = [
        st.Page(detect.show, title="Detect", icon=":material/find_replace:", url_path="detect", default=True),
        st.Page(training.show, title="Training", icon=":material/show_chart:", url_path="training"),
    ]
    st.navigation(pages, position="top").run()


main()
