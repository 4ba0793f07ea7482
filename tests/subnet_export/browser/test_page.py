"""The page in a real browser: pictures and the camera are searched there, as in Python, and nothing leaves the machine.

The tests need Chromium and the npm package onnxruntime-web, in ``node_modules`` or in the folder that the environment
variable ``ONNXRUNTIME_WEB`` names; without them they are skipped.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from subnet_export.browser.onnxruntime_web import PACKAGE, page_runtime
from subnet_export.browser.server import address_of, page_server
from subnet_export.decoding import pose
from subnet_export.decoding.description import Decoding
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.writers import WriterInputs, write_web
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from tests.subnet_export.browser.chromium import CHROMIUM, Page, browser_page

ROOT = Path(__file__).parents[3]
ONNXRUNTIME_WEB = Path(os.environ.get("ONNXRUNTIME_WEB", ROOT / "node_modules" / PACKAGE))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.skipif(
        not ONNXRUNTIME_WEB.is_dir(), reason=f"there is no {ONNXRUNTIME_WEB}; npm install {PACKAGE}, or ONNXRUNTIME_WEB"
    ),
]
WASM = "?backend=wasm&threads=2"
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
IS_READY = "document.getElementById('runtime').textContent.startsWith('W')"
FAILS = "document.getElementById('message')?.hidden === false"

Pages = dict[str, Path]


@pytest.fixture(scope="module")
def model() -> ExportedModel:
    """A shipped model."""
    return load_model("pretrained:photos_small")


@pytest.fixture(scope="module")
def pages(model: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Folders with pages of the model: its graph gives maps, or decodes; its input is uint8, or float32."""
    runtime = page_runtime(ONNXRUNTIME_WEB)
    folders = {name: tmp_path_factory.mktemp("page") for name in ("maps", "detections")}
    for name, folder in folders.items():
        decoding = Decoding(model.keypoints, model.settings, name == "detections")
        takes: Input = "uint8" if name == "maps" else "float32"
        write_web(WriterInputs(model.network, takes, list, decoding, runtime), folder)
        shutil.copy(folder / "web" / "network.onnx", folder / "web" / "model.onnx")  # the name that pose.py knows
    return {name: folder / "web" for name, folder in folders.items()}


@pytest.fixture(scope="module")
def drawn() -> npt.NDArray[np.uint8]:
    """A drawing of people."""
    return SyntheticPeople(COCO, 8, 3, 320, 240)[2].image


@contextmanager
def opened(folder: Path, profile: Path, *options: str, query: str = WASM) -> Iterator[Page]:
    """Yield the page in ``folder``, in a browser."""
    with page_server(folder, 0) as server, browser_page(profile, options) as page:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            page.open(address_of(server) + query)
            yield page
            here = (address_of(server), "blob:", "data:", "file:")
            assert [request for request in page.requests if not request.startswith(here)] == []
        finally:
            server.shutdown()
            thread.join()


def people_of(page: Page) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return poses (P, K, 3) and scores (P,) of the people in the picture that the page shows."""
    page.wait_for("document.getElementById('canvas').dataset.people")
    people = json.loads(page.value("document.getElementById('canvas').dataset.people"))
    return np.array([person["keypoints"] for person in people]), np.array([person["score"] for person in people])


def check_people(page: Page, folder: Path, image: npt.NDArray[np.uint8]) -> None:
    """The people of the picture that the page shows are those that Python finds with the page's network."""
    poses, scores = people_of(page)
    expected_poses, expected_scores = pose.Pose(folder / "model.onnx", threads=1)(image)
    assert len(expected_scores) > 1
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
    np.testing.assert_allclose(poses, expected_poses, atol=0.01)


@pytest.mark.parametrize("gives", ["maps", "detections"])
def test_a_picture_has_the_people_that_python_finds(
    gives: str, pages: Pages, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    save_image(tmp_path / "drawn.png", drawn)
    with opened(pages[gives], tmp_path) as page:
        page.wait_for(IS_READY)
        assert page.text("runtime") == "WASM, 2 threads"
        page.choose_file("file", tmp_path / "drawn.png")
        check_people(page, pages[gives], drawn)
        _, scores = people_of(page)
        for least in (0.0, 0.2, 1.0):
            page.value(f"document.getElementById('score').value = {least}")
            page.value("document.getElementById('score').dispatchEvent(new Event('input'))")
            assert int(page.text("people")) == (scores >= least).sum()
        assert page.problems == []


@pytest.mark.parametrize("gives", ["maps", "detections"])
def test_webgpu_finds_the_same_people(gives: str, pages: Pages, drawn: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    """On SwiftShader, which computes as a graphics card would."""
    save_image(tmp_path / "drawn.png", drawn)
    with opened(pages[gives], tmp_path, *SOFTWARE_GPU, query="?backend=webgpu") as page:
        page.wait_for(IS_READY)
        assert page.text("runtime") == "WebGPU"
        page.choose_file("file", tmp_path / "drawn.png")
        check_people(page, pages[gives], drawn)
        assert page.problems == []


def write_video(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write an image as an endless video of a camera (YUV4MPEG2)."""
    height, width = image.shape[:2]
    frame = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420))
    head = f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + b"".join(b"FRAME\n" + frame.tobytes() for _ in range(4)))


@contextmanager
def with_camera(pages: Pages, drawn: npt.NDArray[np.uint8], profile: Path) -> Iterator[Page]:
    """Yield the page of maps, ready, in a browser whose camera always sees ``drawn``."""
    video = profile / "camera.y4m"
    write_video(video, drawn)
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with opened(pages["maps"], profile, *fake, f"--use-file-for-fake-video-capture={video}") as page:
        page.wait_for(IS_READY)
        yield page


def test_the_cameras_images_are_searched_until_it_is_stopped(
    pages: Pages, model: ExportedModel, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    with with_camera(pages, drawn, tmp_path) as page:
        page.click("camera")
        page.wait_for("Number(document.getElementById('speed').textContent) > 0")
        poses, scores = people_of(page)
        expected = model.predict(drawn)
        best = int(expected.scores.argmax())  # colours lose their finest steps in a video
        nearest = np.abs(poses[:, :, :2] - expected.poses[best, :, :2]).mean(axis=(1, 2)).min()
        assert nearest < 10
        assert scores.max() > expected.scores[best] / 2
        page.click("camera")
        page.wait_for("document.getElementById('video').srcObject === null")
        assert page.problems == []


def test_the_camera_is_stopped_by_an_error_and_can_be_started_again(
    pages: Pages, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    with with_camera(pages, drawn, tmp_path) as page:
        # The worker is sent an image that cannot be searched, once.
        page.value(
            "{ const post = Worker.prototype.postMessage; Worker.prototype.postMessage = function (message, moved) {"
            "Worker.prototype.postMessage = post; post.call(this, { id: message.id }); }; 0 }"
        )
        page.click("camera")
        page.wait_for(FAILS)
        assert page.text("camera") == "Use camera"
        assert page.value("document.getElementById('video').srcObject === null")
        page.click("camera")
        page.wait_for("Number(document.getElementById('speed').textContent) > 0")
        assert page.value("document.getElementById('message').hidden")
        assert page.problems == []


def test_a_camera_that_is_stopped_or_started_again_while_it_starts_stays_off(
    pages: Pages, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    with with_camera(pages, drawn, tmp_path) as page:
        page.value(
            "{ const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices); window.streams = [];"
            "devices.getUserMedia = async (wish) => { window.streams.push(await ask(wish));"
            "return window.streams.at(-1); }; 0 }"
        )
        page.value("{ const button = document.getElementById('camera'); button.click(); button.click(); 0 }")
        page.wait_for("window.streams.length === 2 && Number(document.getElementById('speed').textContent) > 0")
        page.value("document.getElementById('camera').click()")
        page.wait_for("document.getElementById('video').srcObject === null")
        assert page.value("window.streams.map((one) => one.getTracks()[0].readyState)") == ["ended"] * 2
        page.value("{ const button = document.getElementById('camera'); button.click(); 0 }")
        page.wait_for("window.streams.length === 3 && document.getElementById('video').srcObject")
        page.value("document.getElementById('camera').click()")  # perhaps before its first image
        page.wait_for("window.streams[2].getTracks()[0].readyState === 'ended'")
        assert page.text("camera") == "Use camera"
        assert page.problems == []


def test_problems_are_said(pages: Pages, tmp_path: Path) -> None:
    (tmp_path / "no_picture.png").write_bytes(b"nothing")
    with opened(pages["maps"], tmp_path, "--use-fake-device-for-media-stream", "--deny-permission-prompts") as page:
        page.wait_for(IS_READY)
        page.choose_file("file", tmp_path / "no_picture.png")
        page.wait_for(FAILS)
        assert "no_picture.png" in page.text("message")
        page.click("camera")
        page.wait_for(f"{FAILS} && document.getElementById('message').textContent.includes('camera')")
        page.call("Page.navigate", url=(pages["maps"] / "index.html").as_uri())
        page.wait_for(f"location.protocol === 'file:' && {FAILS}")
        assert "subnet_export.serve" in page.text("message")


def test_a_runtime_that_was_changed_is_not_run(pages: Pages, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    for path in pages["maps"].rglob("*"):
        copy = folder / path.relative_to(pages["maps"])
        if path.is_dir():
            copy.mkdir()
        else:
            copy.write_bytes(path.read_bytes())
    with (folder / PACKAGE / "ort.wasm.bundle.min.mjs").open("ab") as file:
        file.write(b" ")
    with opened(folder, tmp_path) as page:
        page.wait_for(FAILS)
        assert "ort.wasm.bundle.min.mjs" in page.text("message")
