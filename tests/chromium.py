"""A real browser for the tests of the page: Chromium without a window, spoken to over two pipes."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]  # out of the way of 3 and 4
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # the browser listens on 3 and answers on 4


class Browser:
    """One tab. `errors` collects what the console calls an error."""

    def __init__(self):
        self.ours, theirs_in = os.pipe()[::-1]
        theirs_out, self.read_end = os.pipe()[::-1]
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # its helpers write a little longer
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        command = [PROGRAM, *flags, f"--user-data-dir={self.profile.name}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        start = [sys.executable, "-c", START, str(theirs_in), str(theirs_out), *command]
        self.process = subprocess.Popen(start, pass_fds=(theirs_in, theirs_out), **quiet)
        os.close(theirs_in), os.close(theirs_out)
        self.number, self.buffer, self.events, self.errors, self.session = 0, b"", [], [], None
        (page,) = [t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """The answer to one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.ours, json.dumps(message).encode() + b"\0")
        while (answer := self.next_message()).get("id") != self.number:
            self.take(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def next_message(self):
        while b"\0" not in self.buffer:
            more = os.read(self.read_end, 1 << 20)
            assert more, "the browser went away"
            self.buffer += more
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def take(self, event):
        """Keep an event; remember what is an error, and what was asked of the network."""
        self.events.append(event.get("method"))
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        if event.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.errors += [f"request of {url[:80]}"] if not url.startswith(("file:", "data:")) else []

    def open(self, path, *, width=1400, dark=False, script=True):
        """Show the page in a window of this width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=theme)
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self.take(self.next_message())

    def run(self, expression):
        """The value of some JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path):
        """The whole page as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.ours), os.close(self.read_end)
        self.profile.cleanup()
