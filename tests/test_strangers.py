"""Files made to do harm: they fill no memory, run nothing, and lead nowhere outside of their folder."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from search.lut import merge as merging
from search.lut.merge import merge
from search.resuming import run_to_resume
from subnet_export.model import load_model
from supernet import checkpoint, files, latency_blocks, run_folder, sealed
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.exported_net import load_net
from supernet.latency_table import LatencyTable
from supernet.plain import MOST_DEEP, check_size
from supernet.pose.coco import CocoPeople
from supernet.pose.keypoints import COCO
from supernet.published_weights import read_published
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet
from tests import fuzz_targets
from tests.fuzz_targets import SPACE, TARGETS, without_checksum
from tests.made_up_table import made_up_table


class Storage:
    """Stands for the numbers of a tensor in :func:`archived`."""

    def __init__(self, num: int) -> None:
        self.num = num


class Call:
    """Unpickled, it calls ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made_of = function, arguments

    def __reduce__(self) -> Any:
        return self.made_of


class Pickler(pickle.Pickler):
    """Writes a Storage as torch does."""

    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", value.num) if isinstance(value, Storage) else None


def tensor(num: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    """A tensor of a storage that claims ``num`` numbers."""
    return Call(torch._utils._rebuild_tensor_v2, Storage(num), 0, sizes, strides, False, OrderedDict())


def archived(value: Any, numbers: bytes = b"\0" * 4, compression: int = zipfile.ZIP_STORED) -> bytes:
    """What ``torch.save`` would write, with any claims."""
    pickled, content = io.BytesIO(), io.BytesIO()
    Pickler(pickled, 2).dump(value)
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, entry in {
            "data.pkl": pickled.getvalue(),
            "byteorder": b"little",
            "version": b"3\n",
            "data/0": numbers,
        }.items():
            archive.writestr(f"archive/{name}", entry)
    return content.getvalue()


def twice(content: bytes) -> bytes:
    """An archive with a second entry of the pickle's name."""
    changed = io.BytesIO(content)
    with zipfile.ZipFile(changed, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return changed.getvalue()


def endless() -> list[Any]:
    """A list of a few hundred bytes that shows 2 ** 60 values."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


def of_kind(entry: Any) -> dict[str, Any]:
    return {"format": 1, "kind": "supernet", "entry": entry}


REFUSED_BEFORE = {
    "an array that fills the memory": lambda: archived(of_kind(Call(bytearray, 10**11))),
    "a tensor that is made, not read": lambda: archived(of_kind(Call(torch.Tensor, 10**5, 10**6))),
    "a tensor of no numbers": lambda: archived(
        of_kind(Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**6, 10**6), (1, 1), False))
    ),
    "compressed zeros": lambda: archived(
        of_kind(tensor(10**6, (10**6,), (1,))), bytes(4 * 10**6), zipfile.ZIP_DEFLATED
    ),
    "two entries of one name": lambda: twice(archived(of_kind(1))),
    "code": lambda: archived(of_kind(Call(os.mkdir, "/tmp/never"))),
}
REFUSED = {
    "terabytes claimed": lambda: archived(of_kind(tensor(10**12, (10**12,), (1,)))),
    "a shape beyond its numbers": lambda: archived(of_kind(tensor(1, (10**12,), (1,)))),
    "one number read a million times": lambda: archived(of_kind(tensor(1, (1000, 1000), (0, 0)))),
    "many tensors of the same numbers": lambda: archived(
        of_kind([tensor(250, (250,), (1,)) for _ in range(90)]), bytes(1000)
    ),
    "lists without end": lambda: archived(of_kind(endless())),
    "lists in lists": lambda: archived(of_kind(fuzz_targets.DEEP)),
    "a huge number": lambda: archived(of_kind(2**2000)),
}


@pytest.mark.parametrize("name", [*REFUSED_BEFORE, *REFUSED])
def test_weights_that_claim_more_than_they_hold_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "supernet.pt"
    path.write_bytes((REFUSED_BEFORE | REFUSED)[name]())
    if name in REFUSED_BEFORE:  # the unpickler would make it all the same
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpickled"))
    for read in (checkpoint.load_supernet, lambda path: read_published(path, SPACE.smallest())):
        with pytest.raises(UserError, match=r"supernet\.pt is damaged") as caught:
            read(path)
        assert "memory" not in repr(caught.value.__cause__).lower() or name == "terabytes claimed"


def test_values_count_as_often_as_they_are_met() -> None:
    shared = [1, 2, 3]
    check_size([shared, shared], 8)
    with pytest.raises(ValueError, match="more than 7 values"):
        check_size([shared, shared], 7)
    deep: Any = 1
    for _ in range(MOST_DEEP):
        deep = {"a": deep}
    check_size(deep, 1000)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        check_size([deep], 1000)


@pytest.mark.parametrize("claim", [{"stem_widths": [65528]}, {"stages": "deep"}, {"resolutions": [4096]}])
def test_a_space_larger_than_its_weights_is_refused_before_it_takes_memory(
    claim: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = dict(fuzz_targets._supernet_value())
    space = json.loads(json.dumps(value["space"]))
    if claim == {"stages": "deep"}:
        space["stages"][0].update(widths=[65528], depths=[200], expand_ratios=[1024])
    else:
        space.update(claim)
    value |= {"space": space, "space_digest": SearchSpace.from_dict(space).digest()}
    (tmp_path / "supernet.pt").write_bytes(fuzz_targets._sealed(value))
    if claim == {"resolutions": [4096]}:  # costs nothing
        assert checkpoint.load_supernet(tmp_path).supernet.space.resolutions == (4096,)
        return
    built = SuperNet

    def weightless(space: SearchSpace, num_keypoints: int) -> SuperNet:
        network = built(space, num_keypoints)
        assert all(weight.is_meta for weight in network.parameters())
        return network

    monkeypatch.setattr(checkpoint, "SuperNet", weightless)
    with pytest.raises(UserError, match="does not fit the network"):
        checkpoint.load_supernet(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"resolutions": [2**40]}, "at most 65536"),
        ({"stem_widths": list(range(8, 70000))}, "has 69992 choices; give at most 1000"),
        ({"name": "[/]\n\x1b[2J"}, "the space's name is"),
        ({"name": ["x"]}, "the space's name is"),
        ({"depths": [10**12]}, "at most 1000"),
        ({"depths": [1, 100000]}, "at most 1000"),
    ],
)
def test_spaces_without_measure_are_refused(change: dict[str, Any], told: str) -> None:
    space = SPACE.to_dict()
    space["stages"][1].update({key: value for key, value in change.items() if key == "depths"})
    space.update({key: value for key, value in change.items() if key != "depths"})
    with pytest.raises(UserError, match=told):
        SearchSpace.from_dict(space)


YAML = {
    "aliases without end": "a: &a [1, 1]\n"
    + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnopqrstuvw", "bcdefghijklmnopqrstuvwx", strict=True)
    ),
    "a tag that calls": "name: !!python/object/apply:os.system ['touch /tmp/never']",
    "too large": "# " + "x" * 10**5,
    "nested": "[" * 1200,
    "a number of thousands of digits": "name: " + "9" * 5000,
    "no date": "name: 2026-99-99",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_does_harm_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(YAML[name].encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"space\.yaml"):
        SearchSpace.load(path)


def test_a_table_of_a_space_with_too_many_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_blocks, "MOST_BLOCKS", 10_000)
    value = made_up_table().to_dict()
    many = [8 * number for number in range(1, 1001)]
    for stage in value["space"]["stages"]:
        stage["widths"] = many
    value["space_digest"] = SearchSpace.from_dict(value["space"]).digest()
    with pytest.raises(UserError, match="has more than 10,000 blocks"):
        LatencyTable.from_dict(value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported model."""
    folder = tmp_path_factory.mktemp("export")
    TARGETS["model"].valid(folder)
    return folder / "model"


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def described(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = without_checksum(model / "model.json")
    change(value)
    (model / "model.json").write_text(json.dumps(value))


def record(**names: str) -> dict[str, Any]:
    return {"files": names, "takes": "uint8", "error": 0.0, "AP": 0.1, "AP_network": 0.1, "num_images": 1}


@pytest.mark.parametrize(
    ("format_name", "file"),
    [("onnx", "../../secret"), ("onnx", "/etc/passwd"), ("onnx", "other.onnx"), ("mine", "model.onnx")],
)
def test_a_model_refers_to_no_files_but_its_own(format_name: str, file: str, model: Path) -> None:
    described(model, lambda value: value["formats"].update({format_name: record(**{file: "0" * 64})}))
    with pytest.raises(UserError, match=rf"model\.json: formats\.{format_name} has the files"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: value["arch"].update(img_size=65536), "resolution is 65536; it must be .* from 1 to 4096"),
        (lambda value: value["arch"].update(input_channel=65528), "does not fit the network"),
        (lambda value: value["inference"].update(max_people=10**9), "max_people=1000000000 .* give 1 to 1000"),
        (lambda value: value["inference"].update(nms_kernel=10**9 + 1), "nms_kernel=1000000001"),
        (lambda value: value["inference"].update(size_divisor=16 * 10**9), "size_divisor=16000000000"),
        (lambda value: value["inference"].update(scales=[1, 0.001]), "scale"),
        (
            lambda value: value["inference"].update(tag_threshold=float("nan")),
            "tag_threshold is nan; it must be finite",
        ),
        (lambda value: value["keypoints"].update(set="x", names=[str(i) for i in range(2000)]), "x"),
        (lambda value: value["costs"].update(macs="many"), "costs.macs is missing or no whole number"),
        (lambda value: value["measurement"]["metrics"].update(AP="high"), "measurement.metrics.AP is 'high'"),
        (lambda value: value.update(extra=fuzz_targets.DEEP), "nested more than 100 deep"),
    ],
)
def test_descriptions_without_measure_are_refused(
    change: Callable[[dict[str, Any]], object], told: str, model: Path
) -> None:
    described(model, change)
    with pytest.raises(UserError, match=told):
        load_model(model)


def exported_as(model: Path, name: str, **contents: bytes) -> None:
    """Add files of a format with their right checksums."""
    import hashlib

    for file, content in contents.items():
        (model / file).write_bytes(content)
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    described(model, lambda value: value["formats"].update({name: record(**sums)}))


def onnx_with_outside_weights() -> bytes:
    onnx = pytest.importorskip("onnx")
    weights = onnx.TensorProto(name="w", dims=[4], data_type=1, data_location=1)
    weights.external_data.add(key="location", value="../secret")
    value = onnx.helper.make_tensor_value_info("images", 1, [4])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["images", "w"], ["low"])], "g", [value], [value], [weights]
    )
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def onnx_of_one_output() -> bytes:
    onnx = pytest.importorskip("onnx")
    value, out = (onnx.helper.make_tensor_value_info(name, 1, ["a", "b", "c", "d"]) for name in ("images", "low"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["low"])], "g", [value], [out])
    opset = onnx.helper.make_opsetid("", 17)
    return bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (onnx_with_outside_weights, "refers to other files"),
        (onnx_of_one_output, "cannot be run"),
        (lambda: b"no graph", "cannot be run"),
        (lambda: b"", "cannot be run"),
    ],
)
def test_graphs_that_are_no_networks_are_refused(make: Callable[[], bytes], told: str, model: Path) -> None:
    pytest.importorskip("onnxruntime")
    exported_as(model, "onnx", **{"model.onnx": make()})
    with pytest.raises(UserError, match=rf"model\.onnx {told}"):
        load_model(model, format="onnx")


@pytest.mark.parametrize("content", [b"", struct.pack("<Q", 2**60) + b"{}", b"\x02" + bytes(7) + b"{}"])
def test_safetensors_that_are_none_are_refused(content: bytes, model: Path) -> None:
    pytest.importorskip("safetensors")
    exported_as(model, "safetensors", **{"weights.safetensors": content})
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load_model(model, format="safetensors")


def test_openvino_files_that_are_none_are_refused(model: Path) -> None:
    pytest.importorskip("openvino")
    exported_as(model, "openvino", **{"model.xml": b"<net", "model.bin": b""})
    with pytest.raises(UserError, match=r"model\.xml cannot be run"):
        load_model(model, format="openvino")


def test_links_to_devices_and_pipes_do_not_hang_or_fill_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"pipe\.json is not valid JSON"):
        Arch.load(tmp_path / "pipe.json")
    with pytest.raises(UserError, match=r"zero\.json is larger than 67,108,864 bytes"):
        Arch.load(tmp_path / "zero.json")
    (tmp_path / "supernet.pt").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"supernet\.pt is larger than"):
        checkpoint.load_supernet(tmp_path)


def test_files_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "arch.json").open("wb") as file:
        file.truncate(files.SMALL + 1)
    with pytest.raises(UserError, match=r"arch\.json is larger than"):
        Arch.load(tmp_path / "arch.json")
    with (tmp_path / "supernet.pt").open("wb") as file:
        file.truncate(files.HUGE + 1)
    with pytest.raises(UserError, match=r"supernet\.pt is larger than"):
        checkpoint.load_supernet(tmp_path)
    monkeypatch.setattr(merging, "LARGEST_BYTES", 10)
    with zipfile.ZipFile(tmp_path / "kit.zip", "w") as archive:
        archive.writestr("out.jsonl", "x" * 11)
    with pytest.raises(UserError, match="is larger than 10 bytes"):
        merge([tmp_path / "kit.zip"])


def test_a_run_folder_with_links_is_not_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in (".lock", "train.jsonl", "config.json"):
        folder = tmp_path / f"run{name}"
        folder.mkdir()
        (folder / name).symlink_to(precious)
        with pytest.raises(UserError, match=rf"{name} is a link"), run_folder.owned(folder):
            raise AssertionError("not refused")
    folder = tmp_path / "search"
    folder.mkdir()
    files.write_json(folder / "state.json", fuzz_targets._search_state(tmp_path))
    (folder / "scores.jsonl").symlink_to(precious)
    with pytest.raises(UserError, match=r"scores\.jsonl is a link"):
        run_to_resume({"resume": str(folder), "runs": str(tmp_path)}, [], "evolve")
    files.write_text(tmp_path / "run.lock" / ".lock", "new")  # whole files take a link's place
    assert precious.read_text() == "precious"


def test_pictures_of_an_annotation_file_lie_in_its_folder(tmp_path: Path) -> None:
    content = fuzz_targets._annotations(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("../secret.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg"):
        content["images"][0]["file_name"] = name
        (tmp_path / "people.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="leads out of the picture folder"):
            CocoPeople(tmp_path / "people.json", tmp_path / "pictures", COCO)


SECRET = {"_target_": "os.system", "command": "touch ran", "_args_": ["touch ran"], "home": "${oc.env:HOME}"}


def test_targets_and_interpolations_in_files_are_mere_text(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arch = tmp_path / "arch.json"
    SPACE.smallest().save(arch, {"meta": SECRET})
    assert Arch.load(arch) == SPACE.smallest()
    for value in ({**SPACE.smallest().to_dict(), **SECRET}, {**SPACE.smallest().to_dict(), "img_size": SECRET}):
        arch.write_text(json.dumps(value))
        with pytest.raises(UserError, match=r"arch\.json"):
            Arch.load(arch)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({**SPACE.to_dict(), **SECRET}))
    with pytest.raises(UserError, match="_target_"):
        SearchSpace.load(tmp_path / "space.yaml")

    value = {**fuzz_targets._supernet_value(), **SECRET}
    value |= {"dataset": {**value["dataset"], **SECRET}, "evaluation": SECRET}
    (tmp_path / "supernet.pt").write_bytes(fuzz_targets._sealed(value))
    trained = checkpoint.load_supernet(tmp_path)
    assert (trained.dataset["home"], trained.evaluation) == ("${oc.env:HOME}", SECRET)

    config = {"steps": 3, "space": SECRET}
    run_folder.write_config(tmp_path, config)
    run_folder.save_checkpoint(tmp_path, {"config": config})
    assert run_folder.load_checkpoint(tmp_path)["config"]["space"] == SECRET

    described(model, lambda value: value["dataset"].update(SECRET))
    assert load_net(model).dataset["home"] == "${oc.env:HOME}"
    described(model, lambda value: value["inference"].update(SECRET))
    with pytest.raises(UserError, match=r"there is no option inference\._target_"):
        load_model(model)
    assert not (tmp_path / "ran").exists()


PAYLOADS = ("torch", "sealed", "older torch", "bare pickle")


def payload(writer: str, marker: Path) -> bytes:
    """A file that makes ``marker`` where it is unpickled without care."""
    value = of_kind(Call(os.mkdir, str(marker)))
    content = io.BytesIO()
    if writer == "sealed":
        return bytes(sealed.seal(sealed.pack(value)))
    if writer == "bare pickle":
        return pickle.dumps(value, protocol=2)
    torch.save(value, content, _use_new_zipfile_serialization=writer == "torch")
    return content.getvalue()


@pytest.mark.parametrize("writer", PAYLOADS)
def test_no_reader_of_weights_runs_code(
    writer: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "ran"
    content = payload(writer, marker)
    run_folder.write_config(tmp_path, {})
    for path in (tmp_path / "supernet.pt", tmp_path / "checkpoint.pt", tmp_path / "weights.pt"):
        path.write_bytes(content)
    readers: list[Callable[[], object]] = [
        lambda: checkpoint.load_supernet(tmp_path),
        lambda: run_folder.load_checkpoint(tmp_path),
        lambda: read_published(tmp_path / "supernet.pt", SPACE.smallest()),
        lambda: fuzz_targets._load_weights(tmp_path / "weights.pt"),
    ]
    shutil.copy(model / "model.json", tmp_path / "model.json")
    for read in readers:
        with pytest.raises(UserError, match=r"\.pt"):
            read()
    assert not marker.exists()
