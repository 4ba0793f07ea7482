"""Models and supernets go to a hub and come back the same, with a card that hubs read; nothing private goes along."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model, save_model
from subnet_export.publish import upload
from subnet_export.publish.__main__ import main
from supernet.checkpoints import hub
from supernet.checkpoints.exported_network import load_net
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from tests.subnet_export.publish.hub_server import HubServer, Repository

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
Publish = Callable[..., int]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A stand-in hub, an empty cache of downloads and a token that only the stand-in takes."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "stand-in")
    hub._fetched.cache_clear()
    yield server
    hub._fetched.cache_clear()
    server.close()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Run the command with some words and return its exit status."""

    def run(*words: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["publish", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_files_in_folders_are_listed_before_they_are_uploaded(
    publish: Publish, all_formats: tuple[ExportedModel, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = all_formats[1]
    assert publish(folder, "owner/pose", "--dry-run") == 0
    listed = {tuple(line.split("  ")) for line in capsys.readouterr().out.splitlines()}
    for file in ("web/network.onnx", "web/page.mjs", "weights.pt"):
        assert (file, f"{(folder / file).stat().st_size:,} bytes") in listed


def test_a_page_goes_to_the_hub_whole(all_formats: tuple[ExportedModel, Path], tmp_path: Path) -> None:
    folder = all_formats[1]
    (tmp_path / "staged").mkdir()
    upload.stage_model(folder, tmp_path / "staged", "hf://owner/pose", None, None)
    page = sorted(path.relative_to(folder).as_posix() for path in (folder / "web").rglob("*") if path.is_file())
    assert "web/page.mjs" in page
    for file in page:
        assert (tmp_path / "staged" / file).read_bytes() == (folder / file).read_bytes()


def test_a_model_goes_to_the_hub_and_comes_back(
    server: HubServer, publish: Publish, exported: tuple[ExportedModel, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported
    assert publish(folder, "owner/pose", "--license", "cc-by-4.0") == 0
    (commit,) = server.repositories["owner/pose"].commits
    assert f"hf://owner/pose@{commit}" in capsys.readouterr().out
    hub._fetched.cache_clear()
    for name in ("hf://owner/pose", f"hf://owner/pose@{commit}", "pretrained:hf://owner/pose", Path("hf://owner/pose")):
        loaded = load_model(name)
        assert same(loaded.network, model.network)
        assert loaded.license == "cc-by-4.0"
        assert loaded.measurement == model.measurement
    card = huggingface_hub.ModelCard(server.repositories["owner/pose"].commits[commit]["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag) == ("cc-by-4.0", "keypoint-detection")
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    metrics = {name: value for name, value in model.measurement.metrics.items() if value >= 0}
    assert measured == pytest.approx(metrics, abs=5e-5)
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    assert 'load_model("hf://owner/pose")' in card.text


def test_only_the_files_of_the_model_are_uploaded_and_no_folder_of_this_machine(
    server: HubServer, publish: Publish, exported: tuple[ExportedModel, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    disk: dict[str, Any] = {"kind": "coco", "keypoints": "crowdpose", "root": str(tmp_path / "data")}
    disk |= {split: {"annotations": f"{tmp_path}/elsewhere/{split}.json", "images": "i"} for split in ("train", "test")}
    save_model(folder, replace(exported[0], dataset=disk))
    (folder / "summary.json").write_text(json.dumps({"secret": str(tmp_path)}))
    assert publish(folder, "owner/pose", "--private", "--message", "first") == 0
    repository = server.repositories["owner/pose"]
    ((_, files),) = repository.commits.items()
    assert repository.private
    assert set(files) == {"README.md", "model.json", "pose.py", "weights.pt"}
    assert all(str(tmp_path).encode() not in content for content in files.values())
    assert load_model("hf://owner/pose").dataset["train"]["annotations"] == "train.json"
    assert publish(folder, "owner/pose", "--dry-run") == 0
    assert len(repository.commits) == 1


def test_further_formats_are_shared_and_loaded_by_name(
    server: HubServer, publish: Publish, all_formats: tuple[ExportedModel, Path]
) -> None:
    assert publish(all_formats[1], "owner/all") == 0
    assert "model.onnx" in next(iter(server.repositories["owner/all"].commits.values()))
    hub._fetched.cache_clear()
    shutil.rmtree(Path(os.environ["HF_HOME"]))
    server.requests.clear()
    assert load_model("hf://owner/all", format="onnx").runtime is not None
    read = [
        request.rpartition("/")[2] for request in server.requests if request.startswith("GET") and "resolve" in request
    ]
    assert sorted(read) == ["model.json", "model.onnx", "weights.pt"]
    assert load_model("hf://owner/all").runtime is None


def test_a_supernet_goes_to_the_hub_without_any_pickle(
    server: HubServer, publish: Publish, supernet_folder: Path
) -> None:
    assert publish(supernet_folder, "owner/supernet", "--license", "mit") == 0
    ((commit, files),) = server.repositories["owner/supernet"].commits.items()
    assert set(files) == {"README.md", "supernet.safetensors"}
    own = load_supernet(supernet_folder)
    for name in ("hf://owner/supernet", f"pretrained:hf://owner/supernet@{commit}"):
        loaded = load_supernet(name)
        assert same(loaded.supernet, own.supernet)
        assert (loaded.keypoints, loaded.evaluation, loaded.objective) == (own.keypoints, own.evaluation, own.objective)
        assert loaded.trained_on == own.trained_on
        # A resumed search names the file itself, which has no suffix in the cache.
        assert same(load_supernet(loaded.path.resolve()).supernet, own.supernet)
    assert huggingface_hub.ModelCard(files["README.md"].decode()).data.license == "mit"
    assert publish(supernet_folder, "owner/supernet", "--picture", __file__) == 2


def test_a_revision_pins_a_commit(
    server: HubServer, publish: Publish, exported: tuple[ExportedModel, Path], tmp_path: Path
) -> None:
    publish(exported[1], "owner/pose", "--license", "mit")
    save_model(tmp_path / "second", replace(exported[0], license="other"))
    publish(tmp_path / "second", "owner/pose")
    first, second = server.repositories["owner/pose"].commits
    licenses = [load_model(f"hf://owner/pose{at}").license for at in (f"@{first}", f"@{second}", "@main", "")]
    assert licenses == ["mit", "other", "other", "other"]
    with pytest.raises(UserError, match="no revision v9"):
        load_model("hf://owner/pose@v9")


@pytest.mark.parametrize("file", ["weights.pt", "model.json"])
def test_a_file_that_differs_from_what_the_hub_lists_is_refused(
    server: HubServer, publish: Publish, exported: tuple[ExportedModel, Path], tmp_path: Path, file: str
) -> None:
    publish(exported[1], "owner/pose")
    shutil.rmtree(tmp_path / "hf")
    hub._fetched.cache_clear()
    server.repositories["owner/pose"].damaged.add(file)
    with pytest.raises(UserError, match=rf"{file} of hf://owner/pose@\w+ differs"):
        load_model("hf://owner/pose")
    server.repositories["owner/pose"].damaged.clear()
    # What was damaged lies in the cache, is noticed and is downloaded again.
    assert same(load_model("hf://owner/pose").network, exported[0].network)


def test_weights_that_the_owner_exchanged_are_refused(
    server: HubServer, publish: Publish, exported: tuple[ExportedModel, Path]
) -> None:
    publish(exported[1], "owner/pose")
    server.repositories["owner/pose"].commit({"weights.pt": b"PK\x03\x04 other"})
    with pytest.raises(UserError, match=r"weights\.pt is damaged or not the file"):
        load_model("hf://owner/pose")


def test_without_a_connection_the_last_download_is_used(
    server: HubServer,
    publish: Publish,
    exported: tuple[ExportedModel, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(exported[1], "owner/pose")
    load_model("hf://owner/pose")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert same(load_model("hf://owner/pose").network, exported[0].network)
    assert any("cannot be reached" in message for message in caplog.messages)
    # Files that are wanted where a repository has them, as the benchmark wants those of all formats.
    assert same(load_net(located("hf://owner/pose", ("model.onnx",))).network, exported[0].network)
    with pytest.raises(UserError, match="hf://owner/never"):
        load_model("hf://owner/never")


@pytest.mark.parametrize(
    "name", ["hf://owner", "hf://owner/name/more", "hf://../name", "hf://o/n@", "hf://o/n#x", "hf://"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="owner/name"):
        load_model(name)


def test_a_repository_without_weights_of_this_project_is_refused(server: HubServer) -> None:
    server.repositories["owner/code"] = Repository()
    server.repositories["owner/code"].commit({"pytorch_model.bin": b"x", "run.py": b"x"})
    with pytest.raises(UserError, match="has neither"):
        load_model("hf://owner/code")
    assert not [request for request in server.requests if "resolve" in request]


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["FOLDER", "name"], "'name'"),
        (["FOLDER", "a/b/c"], "'a/b/c'"),
        (["FOLDER", "a/b", "--license", "My License"], "'My License'"),
        (["/nowhere", "a/b"], "/nowhere"),
    ],
)
def test_wrong_options_end_before_anything_is_sent(
    server: HubServer,
    publish: Publish,
    exported: tuple[ExportedModel, Path],
    words: list[str],
    wrong: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert publish(*(str(exported[1]) if word == "FOLDER" else word for word in words)) == 2
    assert wrong in capsys.readouterr().err
    assert not server.requests


def test_a_hub_that_refuses_is_one_sentence(
    server: HubServer,
    publish: Publish,
    exported: tuple[ExportedModel, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert publish(exported[1], "owner/pose") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot upload to hf://owner/pose" in line
    assert not server.repositories


def test_snippets_of_the_card_run(
    server: HubServer,
    publish: Publish,
    exported: tuple[ExportedModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.jpg"
    save_image(photo, SyntheticPeople(COCO, 1, 0, 96, 96)[0].image)
    assert publish(exported[1], "owner/pose", "--picture", photo) == 0
    files = next(iter(server.repositories["owner/pose"].commits.values()))
    assert files["example.jpg"][:2] == b"\xff\xd8"
    text = files["README.md"].decode()
    assert "(example.jpg)" in text
    snippets = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    monkeypatch.chdir(tmp_path)
    for snippet in snippets:
        exec(compile(snippet, "card", "exec"), {})  # noqa: S102 - the card that this test wrote
    assert len(snippets) == 1
    assert capsys.readouterr().out.strip().endswith("]")


def test_places_of_this_machine_are_removed() -> None:
    dataset = {"kind": "coco", "root": "/data/coco", "val": {"annotations": "/a/b.json", "images": "val"}, "n": 3}
    assert upload.without_places(dataset) == {
        "kind": "coco",
        "root": None,
        "val": {"annotations": "b.json", "images": "val"},
        "n": 3,
    }
    assert upload.without_places({"kind": "synthetic"}) == {"kind": "synthetic"}
