"""The server gives the page's folder, and nothing else, with the headers that browsers ask of it."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from subnet_export.browser.folder import PAGE, with_one_pass, write_page
from subnet_export.browser.onnxruntime_web import ADDRESS, VERSION, PageRuntime
from subnet_export.browser.server import TYPES, address_of, page_folder, page_server
from supernet.errors import UserError

SETTINGS = {"inference": {"flip_test": True, "scales": [0.5, 1.0], "refine": True}}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of a network that is no network."""
    (tmp_path / "secret.txt").write_text("secret")
    write_page(tmp_path / "web", b"network", SETTINGS, PageRuntime(None, VERSION, {}))
    return tmp_path / "web"


@contextmanager
def served(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection to a server of ``folder``."""
    with page_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
        try:
            yield connection
        finally:
            connection.close()
            server.shutdown()
            thread.join()


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    """Return status, content and response of a request."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read(), response


def test_every_file_has_its_type_and_isolates_the_page(page: Path) -> None:
    with served(page) as connection:
        for path in page.iterdir():
            status, content, response = get(connection, f"/{path.name}")
            assert (status, content) == (200, path.read_bytes())
            assert response.headers["Content-Type"] == TYPES.get(path.suffix, TYPES[""])
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert get(connection, "/")[1] == (page / "index.html").read_bytes()


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "//secret.txt", "/none.js", "/folder/"])
def test_nothing_else_is_served(path: str, page: Path) -> None:
    (page / "folder").mkdir()
    with served(page) as connection:
        status, content, _ = get(connection, path)
    assert status == 404
    assert b"secret\n" not in content + b"\n"


def test_a_page_is_found_in_a_model_and_by_itself(page: Path, tmp_path: Path) -> None:
    assert page_folder(tmp_path) == page_folder(page) == page
    with pytest.raises(UserError, match=r"no page in .*none.*--format web"):
        page_folder(tmp_path / "none")


def test_a_port_in_use_is_refused(page: Path) -> None:
    with page_server(page, 0) as server:
        port = server.server_address[1]
        assert address_of(server) == f"http://127.0.0.1:{port}/"
        with pytest.raises(UserError, match=f"port {port} .*--port"):
            page_server(page, port)


def test_a_page_connects_to_the_public_address_only_where_it_needs_it(page: Path, tmp_path: Path) -> None:
    origin = ADDRESS.partition("/npm")[0]
    assert f"connect-src 'self' blob: {origin};" in (page / "index.html").read_text()
    package = tmp_path / "package"
    (package / "dist").mkdir(parents=True)
    (package / "dist" / "a.wasm").write_bytes(b"code")
    write_page(tmp_path / "copy", b"network", SETTINGS, PageRuntime(package, VERSION, {"a.wasm": "sha384-"}))
    assert "connect-src 'self' blob:;" in (tmp_path / "copy" / "index.html").read_text()
    assert (tmp_path / "copy" / "onnxruntime-web" / "a.wasm").read_bytes() == b"code"


def test_the_page_runs_once_per_image_and_the_log_says_so(page: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = json.loads((page / "settings.json").read_text())
    assert settings["inference"] == {"flip_test": False, "scales": [1.0], "refine": True}
    with caplog.at_level("WARNING"):
        with_one_pass(SETTINGS)
        assert "flip_test and scales" in caplog.text
        caplog.clear()
        with_one_pass(settings)
        assert caplog.text == ""


def test_the_package_brings_every_file_of_the_page() -> None:
    names = {path.name for path in PAGE.iterdir()}
    text = "".join(path.read_text() for path in PAGE.iterdir())
    assert {"index.html", "style.css", "page.mjs", "worker.mjs", "decode.mjs", "network_input.mjs"} <= names
    assert all(name in text for name in names - {"index.html"})
