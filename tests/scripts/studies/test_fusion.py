"""The network without LitePose's fusion connections, in the study of what they are worth."""

import torch

from scripts.studies.fusion import added_weights, multiply_adds, remove_fusion
from scripts.studies.new_head import with_new_head
from supernet.costs.analytic import params_and_macs
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet, is_backbone
from tests.helpers.spaces import SHALLOW
from tests.helpers.supernets import lively_supernet

SPACE = SearchSpace.from_dict(SHALLOW)


def test_a_network_without_fusion_hears_its_main_path_only() -> None:
    network = lively_supernet(SPACE, 14).network
    remove_fusion(network)
    network.train()
    images = torch.randn(2, 3, 64, 64)
    outputs = network(images)
    features = [network.first(images)]
    for stage in network.stage:
        features.append(stage(features[-1]))
    x, expected = features[-1], []
    for refined, norm in zip(network.deconv_refined, network.deconv_bnrelu, strict=True):
        x = norm(refined(x))
        expected.append(x)
    for prediction, maps, output in zip(network.final_refined, expected[1:], outputs, strict=True):
        torch.testing.assert_close(prediction(maps), output)


def test_training_does_not_bring_fusion_back() -> None:
    network = lively_supernet(SPACE, 14).network
    remove_fusion(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    before = [weight.clone() for weight in network.deconv_refined.parameters()]
    low, high = network.train()(torch.randn(2, 3, 64, 64))
    (low.square().mean() + high.square().mean()).backward()
    optimizer.step()
    assert not any(map(torch.equal, network.deconv_refined.parameters(), before))
    assert not any(weight.any() for weight in added_weights(network))


def test_a_new_head_leaves_the_backbone_alone_and_depends_on_the_seed_only() -> None:
    first, second = lively_supernet(SPACE, 14), SuperNet(SPACE, 14)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    with_new_head(first, 3)
    with_new_head(second, 3)
    for name, value in first.state_dict().items():
        kept = before if is_backbone(name) else second.state_dict()
        assert torch.equal(value, kept[name]), name


def test_fusion_costs_what_its_layers_cost() -> None:
    arch = SearchSpace.load("photos").largest()
    widths, side = arch.deconv_widths, arch.resolution
    skips = [arch.stages[2].width, arch.stages[1].width, arch.stages[0].width]
    sizes = [side // 16, side // 8, side // 4]
    deconvs = sum(size**2 * skip * width * 16 for size, skip, width in zip(sizes, skips, widths, strict=True))
    low, high = arch.stages[0].width, arch.stem_width
    finals = (side // 4) ** 2 * low * (25 + 34) + (side // 2) ** 2 * high * (25 + 17)
    with_fusion = multiply_adds(arch, 17, has_fusion=True)
    assert with_fusion == params_and_macs(arch, 17)["macs"]
    assert with_fusion - multiply_adds(arch, 17, has_fusion=False) == deconvs + finals
