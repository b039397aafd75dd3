"""The app as a visitor sees it: Streamlit serves it, a headless Chromium draws it, docs/screenshot.py takes the picture."""

import importlib.util
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

# The real app over a model that needs no training.
SCRIPT = """
import re, runpy, sys
sys.path.insert(0, {root!r})
from app import services
from app.services import TokenScore
from app.views import detect

run = services.Run("fake", "runs/fake", "needs no training", 100, is_finished=True, is_imported=False, can_detect=True, version=1)
services.list_runs = lambda: ([run], {{}})
services.score = lambda run, text: [
    TokenScore(word.group(), *word.span(), 0.9 if word.group() == "banana" else 0.1) for word in re.finditer(r"\\w+", text)
]
detect.EXAMPLES = {{"one": {text!r}}}
runpy.run_path({root!r} + "/app/main.py", run_name="__main__")
"""
TEXT = "Eat  the <img src=x> banana\nשלום 我们 😀"


@pytest.fixture
def root(request):
    return request.config.rootpath


@pytest.fixture
def take_picture(root, tmp_path):
    specification = importlib.util.spec_from_file_location("screenshot", root / "docs" / "screenshot.py")
    screenshot = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(screenshot)
    if screenshot.find_browser() is None:
        pytest.skip("no Chromium on the path (Debian: apt-get install chromium)")

    def take(script, *options):
        picture, page = tmp_path / "app.png", tmp_path / "app.html"
        command = [sys.executable, screenshot.__file__, "--app", str(script), "--out", str(picture), "--dom", str(page)]
        subprocess.run([*command, *options], check=True, cwd=tmp_path, timeout=240)
        return picture.read_bytes(), page.read_text(encoding="utf-8")

    return take


def test_tokens_are_shaded_in_a_browser(root, tmp_path, take_picture):
    script = tmp_path / "fake_app.py"
    script.write_text(SCRIPT.format(root=str(root), text=TEXT), encoding="utf-8")
    picture, page = take_picture(script, "--hover")
    body = re.search(r'<div class="shaded-text".*?</div>', page, re.DOTALL).group()
    spans = re.findall(r'<span class="(token[ a-z]*)" style="--p:([\d.]+)" data-tip="([^"]*)">([^<]*)</span>', body)
    assert [text for *_, text in spans] == ["Eat", "the", "img", "src", "x", "banana", "שלום", "我们"]
    assert [text for kind, *_, text in spans if "marked" in kind] == ["banana"]
    assert ("token marked", "0.900", "banana 90.0%", "banana") in spans
    assert re.sub(r"<[^>]*>", "", body) == TEXT.replace("<", "&lt;").replace(">", "&gt;")
    assert picture.startswith(b"\x89PNG")
    assert count_pixels(picture, near=(244, 149, 97)) > 1_000  # The shade of 0.9 on white.


def test_without_the_package_installed_the_app_finds_it(root, tmp_path, take_picture):
    # The folder it is started from is empty: nothing but app/main.py itself can put the project on the path.
    _, page = take_picture(root / "app" / "main.py", "--wait_for", "[data-testid=stCode]")
    assert "No model yet" in page


def count_pixels(png, near, tolerance=6):
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int((abs(pixels - near) <= tolerance).all(axis=-1).sum())
