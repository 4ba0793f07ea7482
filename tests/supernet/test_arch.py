"""Arch: round trips through LitePose's JSON files, identity, refused values, and the list of layers."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.arch import Arch, Stage, layers, make_divisible
from supernet.errors import UserError
from supernet.space import SearchSpace

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES = json.loads((GOLDEN / "costs.json").read_text())
ARCH = Arch.load(GOLDEN / "arch_random3.json")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['name']}-{entry['joints']}")
def test_every_published_structure_survives_the_round_trip(entry: dict[str, Any]) -> None:
    assert Arch.from_dict(entry["arch"]).to_dict() == entry["arch"]


def test_a_file_gives_back_the_arch_it_was_saved_from(tmp_path: Path) -> None:
    ARCH.save(tmp_path / "plain.json")
    ARCH.save(tmp_path / "meta.json", {"ap": 0.5})
    assert json.loads((tmp_path / "plain.json").read_text()) == json.loads((GOLDEN / "arch_random3.json").read_text())
    assert json.loads((tmp_path / "meta.json").read_text())["meta"] == {"ap": 0.5}
    assert Arch.load(tmp_path / "plain.json") == Arch.load(tmp_path / "meta.json") == ARCH


def test_a_file_that_was_changed_after_a_search_wrote_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    ARCH.save(path, {"digest": ARCH.digest()})
    assert Arch.load(path) == ARCH
    replace(ARCH, resolution=64).save(path, {"digest": ARCH.digest()})
    with pytest.raises(UserError, match=rf"arch\.json was changed .* meta\.digest is '{ARCH.digest()}'"):
        Arch.load(path)


def test_equal_archs_are_one_key_and_one_digest() -> None:
    again = Arch.from_dict(ARCH.to_dict())
    assert len({ARCH, again}) == 1
    assert ARCH.digest() == again.digest()
    assert re.fullmatch("[0-9a-f]{12}", ARCH.digest())


def test_every_value_is_part_of_the_identity() -> None:
    stage = ARCH.stages[0]
    longer = Stage(stage.width, 2, (*stage.expand_ratios, 3), (*stage.kernel_sizes, 3))
    stages = [
        replace(stage, width=stage.width + 8),
        replace(stage, expand_ratios=(*stage.expand_ratios[:-1], 9)),
        replace(stage, kernel_sizes=(*stage.kernel_sizes[:-1], 9)),
        longer,
    ]
    others = [replace(ARCH, stages=(other, *ARCH.stages[1:])) for other in stages]
    others += [replace(ARCH, resolution=64), replace(ARCH, stem_width=64), replace(ARCH, deconv_widths=(1, 2, 3))]
    assert len({ARCH, *others}) == len({arch.digest() for arch in (ARCH, *others)}) == 1 + len(others)


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda d: d.update(img_sise=1), r"the arch has the unknown keys \['img_sise'\]; allowed are"),
        (lambda d: d.pop("img_size"), r"the arch lacks \['img_size'\]"),
        (lambda d: d.update(img_size="256"), r"img_size must be a whole.*, got '256'"),
        (lambda d: d.update(img_size=True), r"img_size must be a whole.*, got True"),
        (lambda d: d.update(img_size=250), "resolution is 250; it must be a multiple of 16"),
        (lambda d: d.update(img_size=0), "resolution must be a whole number from 1 .*, got 0"),
        (lambda d: d.update(deconv_setting=[16, 16]), "4 stages and 2 deconv widths; a LitePose has 4 and 3"),
        (lambda d: d.update(backbone_setting={}), r"backbone_setting must be a list.*, got \{\}"),
        (lambda d: d["backbone_setting"].pop(), "3 stages and 3 deconv widths"),
        (lambda d: d["backbone_setting"][2].update(extra=1), r"backbone_setting\[2\] has the unknown keys \['extra'\]"),
        (
            lambda d: d["backbone_setting"][1].update(num_blocks=9),
            r"backbone_setting\[1\].num_blocks is 9 but .* 4 entries",
        ),
        (
            lambda d: d["backbone_setting"][0].update(stride=1),
            r"strides are \[1, 2, 2, 1\]; a LitePose has \[2, 2, 2, 1\]",
        ),
        (lambda d: d["backbone_setting"][0].update(channel=-8), "stage width must be .*, got -8"),
        (
            lambda d: d["backbone_setting"][3]["block_setting"].__setitem__(0, [6]),
            r"backbone_setting\[3\].block_setting",
        ),
        (
            lambda d: d["backbone_setting"][3]["block_setting"].__setitem__(0, [6, 4]),
            "kernel size is 4; it must be odd",
        ),
        (lambda d: d["backbone_setting"][3]["block_setting"].__setitem__(0, [6, 3.0]), r"must be a whole.*, got 3\.0"),
        (lambda d: d.update(version=2), r"the arch has the unknown keys \['version'\]"),
        (lambda d: d.update(img_size=float("nan")), r"img_size must be a whole.*, got nan"),
        (lambda d: d.update(img_size=10**30), "resolution must be .* to 4096, got 1000000000000000000000000000000"),
        (lambda d: d.update(img_size=-64), "resolution must be a whole number from 1 .*, got -64"),
        (lambda d: d.update(input_channel=0), "stem width must be a whole number from 1 .*, got 0"),
        (lambda d: d.update(input_channel=None), r"input_channel must be a whole.*, got None"),
        (lambda d: d.update(input_channel=70000), "stem width must be .* to 65536, got 70000"),
        (lambda d: d.update(deconv_setting="16"), r"deconv_setting must be a list.*, got '16'"),
        (lambda d: d.update(deconv_setting=[16, 0, 16]), "deconv width must be .*, got 0"),
        (lambda d: d.update(deconv_setting=[16, "16", 16]), r"deconv_setting must be a whole.*, got '16'"),
        (lambda d: d.update(deconv_setting=[8] * 10**5), "deconv_setting .* got 100000"),
        (lambda d: d.update(backbone_setting=[1, 2, 3, 4]), r"backbone_setting\[0\] must be an object.*, got int"),
        (lambda d: d["backbone_setting"][2].pop("stride"), r"backbone_setting\[2\] lacks \['stride'\]"),
        (lambda d: d["backbone_setting"][2].update(stride=3), "stage stride is 3; it must be 1 or 2"),
        (lambda d: d["backbone_setting"][1].update(num_blocks="4"), r"\[1\].num_blocks must be a whole.*, got '4'"),
        (
            lambda d: d["backbone_setting"][1].update(num_blocks=0, block_setting=[]),
            "0 expand ratios and 0 kernel sizes",
        ),
        (
            lambda d: d["backbone_setting"][0]["block_setting"].__setitem__(0, [0, 3]),
            "expand ratio must be a whole number from 1 to 1024, got 0",
        ),
        (
            lambda d: d["backbone_setting"][0]["block_setting"].__setitem__(0, [6, 257]),
            "kernel size must be .*, got 257",
        ),
        (lambda d: d["backbone_setting"][0].update(block_setting=[[6, 3]] * 1001), "entries, got 1001"),
    ],
)
def test_a_wrong_structure_is_refused_naming_its_place(spoil: Spoil, named: str) -> None:
    value = copy.deepcopy(ARCH.to_dict())
    spoil(value)
    with pytest.raises(UserError, match=named):
        Arch.from_dict(value)


def test_a_thousand_random_archs_survive_the_round_trip() -> None:
    space, rng = SearchSpace.load("litepose"), np.random.default_rng(0)
    for _ in range(1000):
        arch = space.sample(rng)
        assert Arch.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    with pytest.raises(UserError, match=r"mine\.json: the arch lacks"):
        Arch.load(path)
    with pytest.raises(UserError, match=r"missing\.json"):
        Arch.load(tmp_path / "missing.json")


def test_make_divisible_gives_the_nearest_multiple_of_8_unless_that_loses_more_than_a_tenth() -> None:
    for tenths in range(1, 5000):
        value = Fraction(tenths, 10)
        nearest = max(8, int((value + 4) // 8) * 8)
        enough = nearest if nearest * 10 >= value * 9 else nearest + 8
        assert make_divisible(float(value)) == enough


def test_layers_follow_the_sizes_of_the_network() -> None:
    walked = layers(ARCH, 14)
    by_name = {layer.name: layer for layer in walked}
    assert (len(by_name), ARCH.resolution) == (len(walked), 384)
    assert [by_name[f"stage.{i}.0.depth_conv.0"].output_size for i in range(4)] == [96, 48, 24, 24]
    assert [by_name[f"deconv_refined.{i}"].output_size for i in range(3)] == [48, 96, 192]
    outputs = [by_name[f"final_raw.{i}.conv.3"] for i in range(2)]
    assert [(layer.out_channels, layer.output_size) for layer in outputs] == [(28, 96), (14, 192)]
