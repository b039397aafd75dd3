"""The choice of a run, which every page starts with, and what to do when there is none."""

import streamlit as st

from app import services


def pick_run(runs: list[services.Run], unusable: dict[str, str]) -> services.Run:
    """Draws the model picker and returns the chosen run.

    Args:
        runs: what can be chosen; at least one.
        unusable: other folders by name, with the reason why they cannot.
    """
    by_name = {run.name: run for run in runs}
    # Names and not runs are the options: a run that is still training changes, and the choice must survive that.
    run = by_name[st.selectbox("Model", list(by_name), key="run_name")]
    st.caption(run.description)
    _list_unusable(unusable, expanded=False)
    return run


def explain_first_run(unusable: dict[str, str]) -> None:
    """Says how to make the first run."""
    with st.container(border=True):
        st.subheader("No model yet", anchor=False)
        st.markdown(
            f"Models are looked for in the folder `{services.RUNS_FOLDER}/` under the folder that the app was started in. "
            "A small one that learns from built-in text takes a few minutes:"
        )
        st.code("make demo", language="bash")
        st.markdown("Or pre-train on your own text:")
        st.code(
            ".venv/bin/electra-keras pretrain --config configs/pretrain/tiny.yaml \\\n"
            f"    --run_dir {services.RUNS_FOLDER}/mine --corpus.files 'my_texts/*.txt'",
            language="bash",
        )
        st.button("Look again", icon=":material/refresh:")
    # Someone who has trained already wants to know first why that model is not here.
    _list_unusable(unusable, expanded=True)


def _list_unusable(unusable: dict[str, str], *, expanded: bool) -> None:
    if not unusable:
        return
    folders = "1 folder" if len(unusable) == 1 else f"{len(unusable)} folders"
    with st.expander(f"{folders} in {services.RUNS_FOLDER}/ cannot be used", expanded=expanded, icon=":material/folder_off:"):
        for name, reason in unusable.items():
            st.text(f"{name}: {reason}")
