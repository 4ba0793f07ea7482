"""Names of pretrained weights: those of the package, and URLs, whose files are verified before they are kept."""

import hashlib
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from supernet.checkpoints import pretrained
from supernet.checkpoints.exported_network import is_exported, load_net
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.io.cache_folder import cache_folder
from tests.helpers.evaluated_supernet import write_supernet


class Server:
    """Serves ``files`` by path on this machine and records the paths that were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                content = outer.files.get(self.path)
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "file:///etc/hostname")
                    self.end_headers()
                    return
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files on this machine."""
    server = Server()
    thread = Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def name_of(server: Server, path: str, content: bytes) -> str:
    """Serve ``content`` at ``path`` and return its name."""
    server.files[path] = content
    return f"pretrained:{server.url}{path}#sha256={hashlib.sha256(content).hexdigest()}"


def test_other_paths_stay_as_they_are() -> None:
    for path in ("runs/train/latest", Path("a/b"), "photos"):
        assert located(path) == Path(path)


@pytest.mark.parametrize("name", ["phtos", "../errors", "photos.pt", "", "photos/../photos_large"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=r"pretrained:.*photos, photos_large"):
        located(f"pretrained:{name}")


def test_a_supernet_is_read_from_a_url_once(server: Server, tmp_path: Path, cache: Path) -> None:
    write_supernet(tmp_path)
    name = name_of(server, "/supernet.pt", (tmp_path / "supernet.pt").read_bytes())
    own = load_supernet(tmp_path).supernet.state_dict()
    for _ in range(2):
        loaded = load_supernet(name)
        assert all(torch.equal(value, own[key]) for key, value in loaded.supernet.state_dict().items())
    assert server.requests == ["/supernet.pt"]
    assert os.listdir(cache) == [loaded.path.name]
    loaded.path.write_bytes(b"damaged")
    assert load_supernet(name).path.read_bytes() == server.files["/supernet.pt"]
    assert len(server.requests) == 2


def test_nothing_is_kept_of_another_file(server: Server, cache: Path) -> None:
    name = name_of(server, "/a.pt", b"one")
    server.files["/a.pt"] = b"another"
    with pytest.raises(UserError, match=f"has the SHA-256 {hashlib.sha256(b'another').hexdigest()}"):
        located(name)
    assert not cache.exists()


def test_a_file_that_is_too_large_is_not_kept(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MOST_BYTES", 10)
    assert located(name_of(server, "/ten", bytes(10))).read_bytes() == bytes(10)
    with pytest.raises(UserError, match="larger than 10 bytes"):
        located(name_of(server, "/eleven", bytes(11)))
    assert len(os.listdir(cache)) == 1


@pytest.mark.parametrize("checksum", ["", "#sha256=", "#sha256=12", f"#sha256={'g' * 64}", f"#sha256={'0' * 65}"])
def test_a_url_needs_a_checksum(server: Server, checksum: str) -> None:
    with pytest.raises(UserError, match="needs the SHA-256 of its file"):
        located(f"pretrained:{server.url}/a.pt{checksum}")
    assert not server.requests


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_other_schemes_are_refused(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="http or https URL"):
        located(f"pretrained:{scheme}://{tmp_path}/a.pt#sha256={hashlib.sha256(b'x').hexdigest()}")


def test_a_server_that_fails_is_a_user_error(server: Server, cache: Path) -> None:
    for path, reason in (("/absent", "404"), ("/moved", "not allowed")):
        with pytest.raises(UserError, match=f"cannot download {server.url}{path}: .*{reason}"):
            located(f"pretrained:{server.url}{path}#sha256={'0' * 64}")
    server.http.server_close()
    with pytest.raises(UserError, match="cannot download"):
        located(f"pretrained:http://127.0.0.1:1/a.pt#sha256={'0' * 64}")
    assert not cache.exists()


def test_a_downloaded_file_is_read_like_any_other(server: Server) -> None:
    name = name_of(server, "/text", b"no weights")
    assert not is_exported(name)
    with pytest.raises(UserError, match="damaged or not a supernet file"):
        load_supernet(name)
    with pytest.raises(UserError, match="no exported model"):
        load_net(name)
