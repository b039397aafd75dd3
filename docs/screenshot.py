"""Takes the picture of the app that the README shows: `python docs/screenshot.py --hover`.

Starts the app on a free loopback port, opens it in a headless Chromium through the DevTools protocol, waits until the
text is shaded, and writes a PNG and, on request, the page's HTML. Needs a chromium on the path and a model in runs/.
"""

import argparse
import base64
import contextlib
import itertools
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from websockets.sync.client import ClientConnection, connect

ROOT = pathlib.Path(__file__).resolve().parents[1]
BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
# The strongest token is hovered, so that the picture shows a number; the middle of its first line is aimed at.
STRONGEST_TOKEN = """(() => {
  const tokens = [...document.querySelectorAll('.shaded-text .token')];
  const strength = token => parseFloat(token.style.getPropertyValue('--p'));
  const box = tokens.reduce((a, b) => strength(b) > strength(a) ? b : a).getClientRects()[0];
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


class Page:
    """A browser tab, driven by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: object) -> dict:
        """Sends one DevTools command and returns its result; RuntimeError carries the browser's refusal."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") != number:
                continue  # An event.
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            return answer["result"]

    def evaluate(self, expression: str) -> object:
        """Returns the value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, selector: str, timeout_seconds: float) -> None:
        """Waits until an element is there and Streamlit is idle; TimeoutError shows the page's text."""
        deadline = time.monotonic() + timeout_seconds
        idle = "document.querySelector('.stApp[data-test-script-state=notRunning]')"
        while not self.evaluate(f"!!(document.querySelector({json.dumps(selector)}) && {idle})"):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"No {selector} after {timeout_seconds:.0f} s; the page says:\n{self.evaluate('document.body.innerText')}"
                )
            time.sleep(0.2)


def find_browser() -> str | None:
    """Returns the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSER_NAMES)), None)


@contextlib.contextmanager
def serve(script: pathlib.Path) -> Iterator[str]:
    """Runs a Streamlit script on a free loopback port and yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"server.headless": "true", "server.port": port, "server.address": "127.0.0.1", "server.fileWatcherType": "none"}
    # -P as under the `streamlit` command: the current folder is not on the path.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(script), *(f"--{name}={value}" for name, value in options.items())]
    with _running(command), contextlib.ExitStack() as stack:
        address = f"http://127.0.0.1:{port}"
        stack.enter_context(_wait_until_open(f"{address}/_stcore/health"))
        yield address


@contextlib.contextmanager
def open_page(address: str, width: int, height: int, theme: str) -> Iterator[Page]:
    """Opens an address in a fresh headless browser and yields the tab.

    Args:
        address: http://...
        width: of the window, in CSS pixels; two picture pixels each.
        height: of the window, in CSS pixels.
        theme: "light" or "dark", as the system would ask for.
    """
    browser = find_browser()
    if browser is None:
        raise SystemExit("No Chromium on the path; install one, for example: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        _running([browser, *BROWSER_FLAGS, f"--user-data-dir={profile}", "about:blank"]),
    ):
        port_file = pathlib.Path(profile, "DevToolsActivePort")
        _wait_until(lambda: port_file.is_file() and "\n" in port_file.read_text(), "the browser to open its DevTools port")
        port = port_file.read_text().split()[0]
        with _wait_until_open(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(target for target in json.load(answer) if target["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
            page = Page(connection)
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=False)
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            page.call("Page.navigate", url=address)
            yield page


def main() -> None:
    """Writes the picture, and the page's HTML where --dom names a file."""
    arguments = _parse_arguments()
    with serve(arguments.app) as address, open_page(address + arguments.page, arguments.width, arguments.height, arguments.theme) as page:
        page.wait_for(arguments.wait_for, timeout_seconds=120)
        time.sleep(1)  # Fonts and fades move the text.
        if arguments.hover:
            x, y = page.evaluate(STRONGEST_TOKEN)
            page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
            time.sleep(0.3)
        whole = {"x": 0, "y": 0, "width": arguments.width, "height": arguments.height, "scale": 1}
        picture = page.call("Page.captureScreenshot", format="png", clip=whole)["data"]
        arguments.out.write_bytes(base64.b64decode(picture))
        if arguments.dom:
            arguments.dom.write_text(page.evaluate("document.documentElement.outerHTML"), encoding="utf-8")
    print(f"Wrote {arguments.out}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--app", type=pathlib.Path, default=ROOT / "app" / "main.py", help="the Streamlit script")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "app.png", help="the picture")
    parser.add_argument("--dom", type=pathlib.Path, help="also write the page's HTML here")
    parser.add_argument("--page", default="/", help="/ or /training")
    parser.add_argument("--wait_for", default=".shaded-text .token", help="CSS selector of what must be there")
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=900, help="CSS pixels")
    parser.add_argument("--height", type=int, default=810, help="CSS pixels")
    parser.add_argument("--hover", action="store_true", help="point at the strongest token")
    return parser.parse_args()


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(condition, what: str, timeout_seconds: float = 60) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout_seconds:.0f} s for {what}.")
        time.sleep(0.1)


def _wait_until_open(address: str):
    # Loopback never goes through a proxy, whatever the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answers = []

    def answers_now() -> bool:
        with contextlib.suppress(OSError):
            answers.append(opener.open(address, timeout=5))
        return bool(answers)

    _wait_until(answers_now, address)
    return answers[0]


if __name__ == "__main__":
    main()
