import re
import shlex

import pytest
from streamlit.testing.v1 import AppTest

from app import services
from app.services import TokenScore
from app.views import detect
from electra_keras.cli import build_parser
from electra_keras.errors import RunError


def a_run(name, **changes):
    values = {
        "path": f"runs/{name}",
        "description": f"{name} described",
        "num_steps": 100,
        "is_finished": True,
        "is_imported": False,
        "can_detect": True,
        "version": 1,
    }
    return services.Run(name=name, **{**values, **changes})


def fake_score(run, text):
    """Words of the run called strict are replaced for sure; elsewhere the word "banana" is, at 0.8."""
    return [
        TokenScore(match.group().lower(), *match.span(), 1.0 if run.name == "strict" else 0.8 if match.group() == "banana" else 0.1)
        for match in re.finditer(r"\w+", text)
    ]


@pytest.fixture
def runs(monkeypatch):
    found = [a_run("demo"), a_run("strict")]
    monkeypatch.setattr(services, "list_runs", lambda: (found, {}))
    monkeypatch.setattr(services, "score", fake_score)
    return found


@pytest.fixture
def open_app(request):
    def opened():
        return AppTest.from_file(str(request.config.rootpath / "app" / "main.py"), default_timeout=30).run()

    return opened


def shaded(app):
    bodies = [element.proto.body for element in app.get("html")]
    return next((body for body in bodies if "shaded-text" in body), None)


def marked(app):
    return re.findall(r'class="token marked"[^>]*>([^<]*)<', shaded(app))


def submit(app, text):
    app.text_area(key="text").set_value(text)
    return app.button[0].click().run()


def test_without_a_model_the_page_says_what_to_do(monkeypatch, request, open_app):
    monkeypatch.setattr(services, "list_runs", lambda: ([], {"half": "runs/half holds no run."}))
    app = open_app()
    assert not app.exception
    assert not app.text_area
    commands = [element.value for element in app.code]
    assert commands[0] == "make demo"
    command = " ".join(commands[1].replace("\\\n", "").split())
    # As in the README, whose reader has not activated the environment; the shell must leave the pattern to the command.
    assert command in (request.config.rootpath / "README.md").read_text(encoding="utf-8")
    assert command.endswith("'my_texts/*.txt'")
    words = shlex.split(command)
    assert words[0] == ".venv/bin/electra-keras"
    parsed = build_parser().parse_args(words[1:]).as_flat()
    assert vars(parsed)["pretrain.corpus.files"] == ["my_texts/*.txt"]
    assert "half: runs/half holds no run." in [element.value for element in app.text]
    assert app.expander[0].proto.expanded


def test_a_model_that_appears_is_found_again(monkeypatch, runs, open_app):
    monkeypatch.setattr(services, "list_runs", lambda: ([], {}))
    app = open_app()
    monkeypatch.setattr(services, "list_runs", lambda: (runs, {}))
    app.button[0].click().run()
    assert app.selectbox(key="run_name").options == ["demo", "strict"]


def test_the_first_example_is_scored_at_once(runs, open_app):
    app = open_app()
    assert not app.exception
    text = next(iter(detect.EXAMPLES.values()))
    assert app.text_area(key="text").value == text
    table = app.dataframe[0].value
    assert list(table["token"]) == re.findall(r"\w+", text.lower())
    assert shaded(app).count('class="token') == len(table)


def test_text_of_the_user_is_shaded(runs, open_app):
    app = submit(open_app(), "Eat the banana now")
    assert marked(app) == ["banana"]
    assert 'data-tip="banana 80.0%"' in shaded(app)
    assert list(app.dataframe[0].value.itertuples(index=False, name=None))[2] == ("banana", 8, 14, 0.8)
    assert "All 4 tokens, 1 of them marked" in [element.label for element in app.expander]


def test_threshold_decides_what_is_marked(runs, open_app):
    app = submit(open_app(), "Eat the banana now")
    app.slider(key="threshold").set_value(0.81).run()
    assert marked(app) == []
    app.slider(key="threshold").set_value(0.1).run()
    assert marked(app) == ["Eat", "the", "banana", "now"]


def test_the_table_can_show_the_strongest_first(runs, open_app):
    app = submit(open_app(), "Eat the banana now")
    assert list(app.dataframe[0].value["token"]) == ["eat", "the", "banana", "now"]
    app.toggle(key="strongest_first").set_value(True).run()
    assert list(app.dataframe[0].value["token"]) == ["banana", "eat", "the", "now"]


def test_examples_fill_the_text(runs, open_app):
    app = open_app()
    name, text = list(detect.EXAMPLES.items())[1]
    app.button_group(key="example").set_value(name).run()
    assert app.text_area(key="text").value == text
    assert "".join(app.dataframe[0].value["token"]) == "".join(re.findall(r"\w+", text.lower()))


def test_the_picked_model_scores(runs, open_app):
    app = submit(open_app(), "Eat the banana now")
    app.selectbox(key="run_name").set_value("strict").run()
    assert marked(app) == ["Eat", "the", "banana", "now"]
    assert "strict described" in [element.value for element in app.caption]


def test_the_picked_model_stays_picked_when_its_run_changes(runs, open_app):
    app = open_app()
    app.selectbox(key="run_name").set_value("strict").run()
    runs[:] = [a_run("demo"), a_run("new"), a_run("strict", version=2)]
    app.run()
    assert app.selectbox(key="run_name").value == "strict"


def test_markup_in_the_text_is_shown_and_not_run(runs, open_app):
    app = submit(open_app(), "<script>alert(1)</script> banana")
    assert "<script" not in shaded(app)
    assert "&lt;" in shaded(app)


@pytest.mark.parametrize("text", ["", " \n "])
def test_empty_text_asks_for_some(runs, open_app, text):
    app = submit(open_app(), text)
    assert not app.exception
    assert "Type a text" in app.info[0].value
    assert shaded(app) is None


def test_text_without_tokens_says_so(runs, open_app, monkeypatch):
    monkeypatch.setattr(services, "score", lambda run, text: [])
    app = submit(open_app(), "\x01")
    assert "no tokens" in app.info[0].value


def test_a_refusal_is_a_message_and_no_traceback(runs, open_app, monkeypatch):
    def refuse(run, text):
        raise RunError("runs/my_mlm was trained with the objective mlm. Choose another.")

    monkeypatch.setattr(services, "score", refuse)
    app = open_app()
    assert not app.exception
    assert app.error[0].value == r"runs/my\_mlm was trained with the objective mlm. Choose another."
    assert shaded(app) is None


def test_a_long_text_is_drawn_in_parts_and_said_to_be(runs, open_app):
    text = "the banana " * 9_000
    app = submit(open_app(), text)
    assert not app.exception
    assert "18,000 tokens" in app.warning[0].value
    assert "18 parts" in app.warning[0].value
    assert shaded(app).count('class="token') == detect.PART_TOKENS
    assert len(app.dataframe[0].value) == 18_000


def test_the_table_can_be_downloaded(runs, open_app):
    app = open_app()
    assert [button.label for button in app.get("download_button")] == ["Download as CSV"]


def open_training():
    def script():
        from app.views import training

        training.show()

    return AppTest.from_function(script, default_timeout=30).run()


@pytest.mark.parametrize("is_finished", [True, False])
def test_training_draws_the_curves_it_has(monkeypatch, is_finished):
    rows = [{"step": 50, "generator_loss": 6.0, "detection_loss": None}, {"step": 50, "val_detection_auc": 0.6}]
    monkeypatch.setattr(services, "list_runs", lambda: ([a_run("demo", is_finished=is_finished)], {}))
    monkeypatch.setattr(services, "read_metrics", lambda run: rows)
    page = open_training()
    assert not page.exception
    titles = [element.value for element in page.markdown]
    assert len(page.get("vega_lite_chart")) == 2
    assert any("Generator loss" in title for title in titles)
    assert any("Detection AUC" in title for title in titles)
    assert not any("Detection loss" in title for title in titles)
    assert page.get("progress")[0].proto.text == "Step 50 of 100"
    assert page.get("progress")[0].proto.value == 50


def test_training_without_lines_says_so(monkeypatch):
    monkeypatch.setattr(services, "list_runs", lambda: ([a_run("demo")], {}))
    monkeypatch.setattr(services, "read_metrics", lambda run: [])
    assert "not reported" in open_training().info[0].value


def test_training_of_an_imported_model_says_that_there_was_none(monkeypatch):
    monkeypatch.setattr(services, "list_runs", lambda: ([a_run("small", is_imported=True)], {}))
    monkeypatch.setattr(services, "read_metrics", lambda run: [])
    (message,) = [element.value for element in open_training().info]
    assert "imported" in message and "no training history" in message


def test_training_shows_what_is_wrong_with_the_metrics(monkeypatch):
    def refuse(run):
        raise RunError("metrics.jsonl, line 3 is not JSON.")

    monkeypatch.setattr(services, "list_runs", lambda: ([a_run("demo")], {}))
    monkeypatch.setattr(services, "read_metrics", refuse)
    page = open_training()
    assert not page.exception
    assert "line 3" in page.error[0].value


def test_training_without_a_model_says_what_to_do(monkeypatch):
    monkeypatch.setattr(services, "list_runs", lambda: ([], {}))
    assert open_training().code[0].value == "make demo"
