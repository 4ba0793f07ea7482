"""A supernet with a warm start contains the trained network, and reports how many of its weights that is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.arch import Arch
from supernet.checkpoints.efficientnet_lite import backbone_arch
from supernet.checkpoints.exported_network import load_net
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.checkpoints.supernet_file import load_supernet, save_supernet
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.space import SearchSpace
from supernet.stage_choices import StageChoices
from supernet.training import run_folder
from supernet.training.launch import start_or_resume
from supernet.training.trainer import Trainer
from supernet.training.warm_start import WarmStart, load_warm_start, read_warm_start
from supernet.weight_sharing import SuperNet
from tests.golden.recipes import fill_parameter, image_batch
from tests.helpers.evaluated_supernet import SPACE, export_smallest, write_supernet
from tests.supernet.test_train import configuration

FULL = SearchSpace.load("litepose")


@pytest.fixture(scope="module")
def published(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of LitePose-XS with generated weights, and its arch file."""
    folder = tmp_path_factory.mktemp("published")
    entries = json.loads((golden / "costs.json").read_text())
    arch = next(entry["arch"] for entry in entries if entry["name"] == "search-XS")
    (folder / "arch.json").write_text(json.dumps(arch))
    shapes = json.loads((golden / "state_dict_xs_crowdpose.json").read_text())
    state = {name: torch.from_numpy(np.asarray(fill_parameter(name, tuple(shape)))) for name, shape in shapes.items()}
    torch.save({"state_dict": state}, folder / "weights.pth.tar")
    return folder / "weights.pth.tar", folder / "arch.json"


def outputs(network: LitePose | SuperNet, *arch: Arch) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(network.eval()(torch.from_numpy(image_batch(0, 64)), *arch))


def test_the_subnet_of_a_published_checkpoint_is_that_network(published: tuple[Path, Path]) -> None:
    checkpoint, arch_file = published
    torch.manual_seed(0)
    supernet = SuperNet(FULL, 14)
    message = load_warm_start(supernet, read_warm_start(str(checkpoint), str(arch_file), FULL), CROWDPOSE)
    arch = Arch.load(arch_file)
    network = read_published(checkpoint, arch, 14)
    for actual, expected in zip(outputs(supernet, arch), outputs(network), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    num_copied = sum(value.numel() for value in network.parameters())
    total = sum(value.numel() for value in supernet.network.parameters())
    assert num_copied < total
    assert message.startswith(f"{num_copied:,} of {total:,} weights ({num_copied / total:.0%}) come from {checkpoint}")


def test_the_subnet_of_an_export_is_that_export(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    export = export_smallest(tmp_path)
    torch.manual_seed(1)
    supernet = SuperNet(SPACE, CROWDPOSE.num)
    load_warm_start(supernet, read_warm_start(str(export), None, SPACE), CROWDPOSE)
    exported = load_net(export).network
    for actual, expected in zip(outputs(supernet, exported.arch), outputs(exported), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_run_starts_from_the_export_that_init_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_supernet(tmp_path)
    exported = load_net(export_smallest(tmp_path)).network

    def stop(*_: object) -> None:
        raise UserError("stopped before the first step")

    monkeypatch.setattr(Trainer, "start_phase", stop)
    config = configuration(tmp_path, init=str(tmp_path / "model"), space=SPACE.to_dict())
    config["dataset"]["keypoints"] = "crowdpose"
    with pytest.raises(UserError, match="stopped before the first step"):
        start_or_resume(config, [])
    state = run_folder.load_checkpoint(tmp_path / "train" / "run")["trainer"]
    supernet = SuperNet(SPACE, CROWDPOSE.num)
    supernet.load_state_dict(state["network"])
    for actual, expected in zip(outputs(supernet, exported.arch), outputs(exported), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, state["network"][name]) for name, value in state["average"].items())


def test_a_supernet_of_the_same_space_starts_with_all_shared_weights(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    trained = load_supernet(tmp_path)
    with torch.no_grad():
        for transform in trained.supernet.kernel_transforms.values():
            transform.normal_()
    save_supernet(
        tmp_path / "supernet.pt",
        *(SPACE, trained.supernet.state_dict(), CROWDPOSE, trained.dataset, trained.evaluation, trained.objective),
    )
    for path in (tmp_path, tmp_path / "supernet.pt"):
        torch.manual_seed(1)
        supernet = SuperNet(SPACE, CROWDPOSE.num)
        start = read_warm_start(str(path), None, SPACE)
        message = load_warm_start(supernet, start, CROWDPOSE)
        total = sum(value.numel() for value in supernet.network.parameters())
        assert message == f"{total:,} of {total:,} weights (100%) come from {path}"
        expected = trained.supernet.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in supernet.state_dict().items())
        assert start.trained_on == trained.trained_on
    with pytest.raises(UserError, match=r"is a supernet of the space tiny, but .* nano"):
        read_warm_start(str(tmp_path), None, SearchSpace.load("nano"))
    with pytest.raises(UserError, match="remove init_arch"):
        read_warm_start(str(tmp_path), "arch.json", SPACE)


def narrowed(space: SearchSpace) -> SearchSpace:
    """The space without the largest choice of each dimension that has several, at another resolution."""

    def fewer(choices: tuple[int, ...]) -> tuple[int, ...]:
        return choices[:-1] or choices

    stages = tuple(
        StageChoices(fewer(s.widths), fewer(s.depths), s.stride, fewer(s.expand_ratios), fewer(s.kernel_sizes))
        for s in space.stages
    )
    return SearchSpace("narrow", (96,), fewer(space.stem_widths), stages, tuple(map(fewer, space.deconv_widths)))


def test_a_smaller_space_starts_with_its_part_of_the_supernet(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    trained, narrow = load_supernet(tmp_path), narrowed(SPACE)
    with torch.no_grad():
        for transform in trained.supernet.kernel_transforms.values():
            transform.normal_()
    path = tmp_path / "supernet.pt"
    save_supernet(
        path,
        *(SPACE, trained.supernet.state_dict(), CROWDPOSE, trained.dataset, trained.evaluation, trained.objective),
    )
    torch.manual_seed(1)
    supernet = SuperNet(narrow, CROWDPOSE.num)
    message = load_warm_start(supernet, read_warm_start(str(path), None, narrow), CROWDPOSE)
    assert "(100%)" in message
    for arch in (narrow.largest(), narrow.smallest()):
        whole = outputs(trained.supernet, replace(arch, resolution=SPACE.resolutions[0]))
        for actual, expected in zip(outputs(supernet, arch), whole, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)

    torch.manual_seed(2)
    larger = SuperNet(SPACE, CROWDPOSE.num)  # and back: the largest subnet is the same function again
    save_supernet(
        path, narrow, supernet.state_dict(), CROWDPOSE, trained.dataset, trained.evaluation, trained.objective
    )
    load_warm_start(larger, read_warm_start(str(path), None, SPACE), CROWDPOSE)
    for actual, expected in zip(outputs(larger, SPACE.largest()), outputs(supernet, narrow.largest()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_smaller_space_keeps_the_kernel_transformations_that_it_needs(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    described, nano, path = load_supernet(tmp_path), SearchSpace.load("nano"), tmp_path / "supernet.pt"
    torch.manual_seed(0)
    whole, narrow = SuperNet(nano, CROWDPOSE.num), narrowed(nano)
    with torch.no_grad():
        for transform in whole.kernel_transforms.values():
            transform.normal_()
    rest = (CROWDPOSE, described.dataset, described.evaluation, described.objective)
    save_supernet(path, nano, whole.state_dict(), *rest)
    supernet = SuperNet(narrow, CROWDPOSE.num)
    assert supernet.kernel_transforms
    load_warm_start(supernet, read_warm_start(str(path), None, narrow), CROWDPOSE)
    for name, transform in supernet.kernel_transforms.items():
        assert torch.equal(transform, whole.kernel_transforms[name])


def test_a_damaged_supernet_is_named_as_such(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    content = bytearray((tmp_path / "supernet.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "supernet.pt").write_bytes(content)
    with pytest.raises(UserError, match="is damaged: sha256 mismatch"):
        read_warm_start(str(tmp_path), None, SPACE)


def test_last_layers_for_other_keypoints_start_at_random(published: tuple[Path, Path]) -> None:
    torch.manual_seed(0)
    supernet = SuperNet(FULL, COCO.num)
    last = [name for name, _ in supernet.network.named_parameters() if name.endswith("conv.3.weight")]
    before = {name: supernet.network.get_parameter(name).clone() for name in last}
    message = load_warm_start(supernet, read_warm_start(str(published[0]), str(published[1]), FULL), COCO)
    assert "last layers are random" in message
    assert len(last) == 4
    assert all(torch.equal(supernet.network.get_parameter(name), before[name]) for name in last)
    network = read_published(published[0], Arch.load(published[1]))
    first = supernet.network.get_parameter("stage.0.0.inv.0.weight")
    expected = network.get_parameter("stage.0.0.inv.0.weight")
    assert torch.equal(first[: expected.shape[0], : expected.shape[1]], expected)


def test_last_layers_know_the_keypoints_of_the_same_name() -> None:
    torch.manual_seed(0)
    names = ("Left Eye", "tail", "leftHip", "right_hip", "beak")
    keypoints = replace(COCO, name="bird", names=names, sigmas=(0.1,) * 5, flip_pairs=((2, 3),), skeleton=())
    network = LitePose(SPACE.smallest(), COCO.num).eval()
    supernet = SuperNet(SPACE, len(names))
    message = load_warm_start(supernet, WarmStart.from_network(network, COCO, "mine"), keypoints)
    assert message.endswith("; last layers know 3 of the 5 keypoints by name and are random for the others")
    of_last = sum(value.numel() for name, value in network.named_parameters() if name.endswith("conv.3.weight"))
    num_copied = sum(value.numel() for value in network.parameters()) - of_last + 3 * of_last // COCO.num
    assert message.startswith(f"{num_copied:,} of ")
    (low, high), (own_low, own_high) = outputs(network), outputs(supernet, SPACE.smallest())
    for own, other in ((0, 1), (2, 11), (3, 12)):
        torch.testing.assert_close(own_high[:, own], high[:, other])
        torch.testing.assert_close(own_low[:, own], low[:, other])
        torch.testing.assert_close(own_low[:, 5 + own], low[:, 17 + other])


def test_the_largest_subnet_starts_as_the_same_function(published: tuple[Path, Path]) -> None:
    """More channels and larger expand ratios and kernels change nothing at first."""
    torch.manual_seed(0)
    supernet = SuperNet(FULL, 14).double()
    start = read_warm_start(str(published[0]), str(published[1]), FULL)
    load_warm_start(supernet, start, CROWDPOSE)
    network = read_published(published[0], start.arch, 14).double()
    images = torch.from_numpy(image_batch(0, 64)).double()
    with torch.no_grad():
        for actual, expected in zip(supernet.eval()(images, FULL.largest()), network(images), strict=True):
            torch.testing.assert_close(actual, expected)


def test_a_largest_subnet_without_a_residual_of_the_network_is_said_to_be_another_function() -> None:
    stages = list(SPACE.stages)
    stages[3] = replace(stages[3], widths=(stages[2].widths[-1], stages[2].widths[-1] + 8))
    space = replace(SPACE, name="equal", stages=tuple(stages))
    largest = space.largest()
    arch = replace(largest, stages=(*largest.stages[:3], replace(largest.stages[3], width=largest.stages[2].width)))
    torch.manual_seed(0)
    network, supernet = LitePose(arch, CROWDPOSE.num), SuperNet(space, CROWDPOSE.num)
    message = load_warm_start(supernet, WarmStart.from_network(network, CROWDPOSE, "mine"), CROWDPOSE)
    assert "the largest subnet starts as another function" in message
    for actual, expected in zip(outputs(supernet, arch), outputs(network), strict=True):
        torch.testing.assert_close(actual, expected)
    start = WarmStart.from_network(LitePose(largest, CROWDPOSE.num), CROWDPOSE, "mine")
    assert "another function" not in load_warm_start(supernet, start, CROWDPOSE)


def test_a_pretrained_backbone_starts_the_largest_subnet_as_the_same_features() -> None:
    """In a space with one block more in every stage, which can learn from the first step on."""
    value = SearchSpace.load("photos").to_dict()
    for stage in value["stages"]:
        stage["depths"] = [*stage["depths"], stage["depths"][-1] + 1]
    space = SearchSpace.from_dict(value)
    arch = backbone_arch("efficientnet_lite0", space.largest().deconv_widths, 256)
    torch.manual_seed(0)
    network = LitePose(arch, 17)
    tensors = {name: value for name, value in network.state_dict().items() if name.startswith(("first.", "stage."))}
    supernet = SuperNet(space, COCO.num)
    head = supernet.network.get_parameter("final_raw.1.conv.3.weight").clone()
    message = load_warm_start(supernet, WarmStart(arch, tensors, None, "backbone"), COCO)
    assert "among them the head" in message
    assert torch.equal(supernet.network.get_parameter("final_raw.1.conv.3.weight"), head)
    x = y = torch.from_numpy(image_batch(0, 64)).double()
    largest = supernet.extract(space.largest()).double()
    network.double().eval()
    with torch.no_grad():
        x, y = network.first(x), largest.first(y)
        for own, larger in zip(network.stage, largest.stage, strict=True):
            x, y = own(x), larger(y)
            torch.testing.assert_close(y[:, : x.shape[1]], x)
    low, high = supernet.train()(torch.from_numpy(image_batch(0, 64)), space.largest())
    (low.square().mean() + high.square().mean()).backward()
    gain = supernet.network.get_parameter("stage.1.2.point_conv.1.weight")
    assert not gain.any()
    assert gain.grad is not None
    assert gain.grad.any()


def test_a_network_that_does_not_fit_is_refused_by_name(published: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, arch_file = (str(path) for path in published)
    with pytest.raises(UserError, match=r"init=.*nowhere does not exist"):
        read_warm_start(str(tmp_path / "nowhere"), None, FULL)
    with pytest.raises(UserError, match="contains no exported model"):
        read_warm_start(str(tmp_path), None, FULL)
    with pytest.raises(UserError, match="remove init_arch"):
        read_warm_start("efficientnet_lite0", arch_file, FULL)
    with pytest.raises(UserError, match="add init_arch=FILE"):
        read_warm_start(checkpoint, None, FULL)
    with pytest.raises(UserError, match="is not a subnet of the space nano"):
        read_warm_start(checkpoint, arch_file, SearchSpace.load("nano"))
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    del state["stage.1.0.inv.0.weight"]
    torch.save(state, tmp_path / "lacking.pth.tar")
    with pytest.raises(UserError, match=r"lacks 1 entries, first stage\.1\.0\.inv\.0\.weight"):
        read_warm_start(str(tmp_path / "lacking.pth.tar"), arch_file, FULL)
    arch = Arch.load(arch_file)
    replace(arch, stem_width=arch.stem_width + 8).save(tmp_path / "other.json")
    with pytest.raises(UserError, match=r"first\.2\.weight is .*, but this arch with 14 keypoints"):
        read_warm_start(checkpoint, str(tmp_path / "other.json"), FULL)
