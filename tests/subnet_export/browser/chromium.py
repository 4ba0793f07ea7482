"""Drives headless Chromium through its DevTools protocol, over a pipe, without further packages."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
"""The browser's program; None if there is none."""
WAIT_SECONDS = 120.0


class Page:
    """One page of a running browser.

    Attributes:
        requests: Address of everything that the page and its workers asked for.
        problems: Errors that the page logged or did not catch.
    """

    def __init__(self, send: int, receive: int) -> None:
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._send, self._receive, self._rest, self._last = send, receive, b"", 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def open(self, address: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href.startsWith({address!r}) && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which must be plain."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, element: str) -> str:
        """Return the text of the element with an id."""
        return str(self.value(f"document.getElementById({element!r}).textContent"))

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}; problems: {self.problems}"
            time.sleep(0.1)

    def click(self, element: str) -> None:
        """Click the element with an id, as a user does."""
        expression = f"document.getElementById({element!r}).click()"
        self.call("Runtime.evaluate", expression=expression, userGesture=True)

    def choose_file(self, element: str, path: Path) -> None:
        """Choose a file in the input with an id."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=f"#{element}")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path, width: int, height: int, is_dark: bool = False) -> None:
        """Write a PNG of the whole page at a window size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        time.sleep(0.3)
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], WAIT_SECONDS)
            assert ready, "the browser does not answer"
            received = os.read(self._receive, 2**16)
            assert received, "the browser has ended"
            self._rest += received
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])
        return message


@contextmanager
def browser_page(folder: Path, options: Sequence[str] = ()) -> Iterator[Page]:
    """Yield a page of a browser that keeps its profile in ``folder``; it must be installed (``CHROMIUM``)."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"]
    command += [f"--user-data-dir={folder / 'profile'}", *options]
    to_browser, from_browser = os.pipe(), os.pipe()
    # The browser reads from descriptor 3 and writes to 4, so its ends must not be these already.
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_browser[0], from_browser[1]))
    script = f'exec "$@" 3<&{reads} 4>&{writes}'
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(reads, writes),
            stdout=log,
            stderr=log,
        )
    for descriptor in (to_browser[0], from_browser[1], reads, writes):
        os.close(descriptor)
    try:
        page = Page(to_browser[1], from_browser[0])
        yield page
        page.call("Page.close")
    finally:
        for descriptor in (to_browser[1], from_browser[0]):
            os.close(descriptor)
        process.terminate()
        process.wait(30)
