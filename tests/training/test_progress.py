"""What a person reads while a run trains."""

import io

import pytest
from rich.console import Console

from electra_keras.training.progress import Progress

LINE = {
    "step": 50,
    "generator_loss": 6.1994,
    "generator_accuracy": 0.0911,
    "detection_loss": 0.39412,
    "replaced_fraction": 0.138,
    "gradient_norm": 3.0,
    "learning_rate": 0.003,
    "tokens_per_second": 31758.2,
}


@pytest.fixture
def progress():
    progress = Progress(start_step=0, num_steps=1_600)
    progress.console = Console(file=io.StringIO(), width=200, highlight=False, soft_wrap=True)
    return progress


def test_a_training_line(progress):
    progress.report_training(LINE)
    text = progress.console.file.getvalue()
    assert text.startswith("step    50/1,600  generator loss 6.199  accuracy 9.1%  detection loss 0.3941  replaced 13.8%  31,758 tokens/s")
    assert text.rstrip().endswith("left")


def test_a_validation_line_leaves_out_what_is_undefined(progress):
    progress.report_validation({"step": 50, "val_generator_loss": 4.262, "val_detection_auc": None, "val_recall": 0.07})
    assert progress.console.file.getvalue() == "step    50/1,600  held-out: generator loss 4.262  recall 0.07\n"


def test_brackets_in_a_message_stay_as_they_are(progress):
    progress.say("use [bold]no[/bold] markup in runs/[1]")
    assert progress.console.file.getvalue() == "use [bold]no[/bold] markup in runs/[1]\n"


def test_no_bar_without_a_terminal(progress):
    with progress.running() as running:
        running.advance()
    assert progress.console.file.getvalue() == ""


def test_a_bar_on_a_terminal():
    progress = Progress(start_step=3, num_steps=5)
    progress.console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress.running() as running:
        running.advance()
        running.advance()
    assert "5/5" in progress.console.file.getvalue()
