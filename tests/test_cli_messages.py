import numpy as np
import pytest

from electra_keras.cli_messages import EXPLANATIONS, explained_figures, plain_message
from electra_keras.metrics import detection_metrics


def test_figures_are_aligned_and_explained():
    lines = explained_figures({"detection_auc": 0.81239, "recall": float("nan"), "precision": None, "num_tokens": 12345})
    assert [line[:23] for line in lines] == [
        "detection_auc  0.8124  ",
        "recall            nan  ",
        "precision           -  ",
        "num_tokens     12,345  ",
    ]
    assert "1 is perfect, 0.5 is guessing" in lines[0]
    assert "0.5 or more" in lines[2]


def test_a_figure_without_an_explanation_is_shown_alone():
    assert explained_figures({"new_figure": 0.5}) == ["new_figure  0.5000"]


def test_every_figure_of_a_detector_is_explained():
    assert detection_metrics(np.array([0, 1]), np.array([0.2, 0.7])).keys() <= EXPLANATIONS.keys()


@pytest.mark.parametrize("choices", ["'huggingface', 'onnx'", "huggingface, onnx"])
def test_a_mistyped_choice_is_answered_with_the_one_that_was_meant(choices):
    message = f"argument --to: invalid choice: 'onx' (choose from {choices})"
    assert plain_message(message, ["export"], "export") == f"{message}. Did you mean onnx?"
    unlike = message.replace("onx", "qqq")
    assert plain_message(unlike, ["export"], "export") == unlike
