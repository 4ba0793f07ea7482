"""``python -m subnet_export.serve`` shows an address, answers there, and ends on Ctrl-C like every command."""

import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from subnet_export import serve
from subnet_export.browser.folder import write_page
from subnet_export.browser.onnxruntime_web import VERSION, PageRuntime

ROOT = Path(__file__).parents[2]
SETTINGS = {"inference": {"flip_test": False, "scales": [1.0]}}


def test_the_page_is_served_until_ctrl_c(tmp_path: Path) -> None:
    write_page(tmp_path / "web", b"network", SETTINGS, PageRuntime(None, VERSION, {}))
    command = [sys.executable, "-m", "subnet_export.serve", str(tmp_path), "--port", "0", "--no-open"]
    pipe = subprocess.PIPE
    # A shell's background jobs, which tests may be, ignore Ctrl-C.
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=attend) as process:
        try:
            assert process.stdout is not None
            address = next(word for word in process.stdout.readline().split() if word.startswith("http://127.0.0.1:"))
            with urllib.request.urlopen(f"{address}network.onnx", timeout=30) as response:
                assert response.read() == b"network"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "error: stopped by Ctrl-C\n")


def test_a_folder_without_a_page_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        serve.main()
    assert stop.value.code == 2
    assert f"no page in {tmp_path}" in capsys.readouterr().err
