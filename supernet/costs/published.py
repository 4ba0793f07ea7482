"""Costs and reported AP of the published LitePose networks.

Source: the table of released models of LitePose (arXiv 2205.01271, github.com/mit-han-lab/litepose): AP on all of
COCO val2017 and of CrowdPose's test set. Costs are those of the published archs; ``macs_paper`` follows its rules.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published network; ``ap`` is from 0 to 1."""

    name: str
    macs: int
    macs_paper: int
    params: int
    ap: float


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "crowdpose": (
        Published("LitePose-XS", 882_892_800, 1_202_266_112, 1_675_552, 0.495),
        Published("LitePose-S", 3_614_139_648, 4_981_285_120, 2_731_240, 0.583),
        Published("LitePose-M", 5_263_675_648, 7_841_568_000, 3_533_808, 0.599),
        Published("LitePose-L", 9_961_996_288, 13_713_080_320, 5_738_120, 0.619),
    ),
    "coco": (
        Published("LitePose-XS", 885_841_920, 1_205_215_232, 1_675_912, 0.406),
        Published("LitePose-S", 3_624_375_552, 4_991_521_024, 2_731_624, 0.568),
        Published("LitePose-M", 5_275_717_888, 7_853_610_240, 3_534_336, 0.598),
        Published("LitePose-L", 9_979_297_792, 13_730_381_824, 5_738_672, 0.625),
    ),
}
"""By data set, whose keypoint set decides the costs of the last layers."""
