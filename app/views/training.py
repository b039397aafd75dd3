"""The training page: how the losses and the detection AUC moved, read again every few seconds while a run goes on."""

import pandas as pd
import streamlit as st

from app import components, services
from app.views import model_picker

REFRESH_SECONDS = 5

# Title, what to make of it, and the fields of metrics.jsonl with the names they get in the legend.
CHARTS = (
    ("Detection AUC", "1 is perfect, 0.5 is guessing", {"val_detection_auc": "held out"}),
    ("Detection loss", "lower is better", {"detection_loss": "training", "val_detection_loss": "held out"}),
    ("Generator loss", "lower is better", {"generator_loss": "training", "val_generator_loss": "held out"}),
    ("Learning rate", "warmup, then decay", {"learning_rate": "learning rate"}),
    ("Tokens per second", "without padding", {"tokens_per_second": "tokens per second"}),
)


def show() -> None:
    """Draws the page."""
    st.title("How training went")
    runs, unusable = services.list_runs()
    if not runs:
        model_picker.explain_first_run(unusable)
        return
    run = model_picker.pick_run(runs, unusable)
    if run.is_finished:
        _show_progress(run)
    else:
        st.fragment(_show_progress, run_every=REFRESH_SECONDS)(run)


def _show_progress(run: services.Run) -> None:
    try:
        rows = services.read_metrics(run)
    except services.UserError as error:
        st.error(components.as_markdown(str(error)), icon=":material/error:")
        return
    if not rows and run.is_imported:
        st.info("This model was imported: it was trained elsewhere, so there is no training history to show.", icon=":material/download:")
        return
    if not rows:
        st.info("This run has not reported anything yet.", icon=":material/hourglass_empty:")
        return
    metrics = pd.DataFrame(rows)
    step = int(metrics["step"].max())
    st.progress(min(1.0, step / run.num_steps), text=f"Step {step:,} of {run.num_steps:,}")
    charts = [(title, hint, components.curve_chart(metrics, fields)) for title, hint, fields in CHARTS]
    shown = [(title, hint, chart) for title, hint, chart in charts if chart is not None]
    for start in range(0, len(shown), 2):
        for column, (title, hint, chart) in zip(st.columns(2, gap="large"), shown[start : start + 2], strict=False):
            column.markdown(f"**{title}** · :gray[{hint}]")
            column.altair_chart(chart)
