"""A small drawing of an arch, by which two subnets are distinguished at a glance (no torch).

Each block is a bar: its colour is the kernel size, its height the expand ratio, its width the block's share of the
stage's width. Below a stage stands its width; the resolution stands in front.
"""

import html

from search.report.arch_drawing import KERNEL_COLORS
from supernet.arch import Arch

_BAR, _GAP, _STAGE_GAP, _LEFT, _BASE, _HEIGHT = 6.0, 1.5, 7.0, 26.0, 30.0, 40
_LARGEST_RATIO = 6


def sparkline(arch: Arch) -> str:
    """Return the drawing of ``arch`` as an SVG element."""
    x, shapes = _LEFT, [f'<text x="0" y="{_BASE:g}">{arch.resolution}</text>']
    for stage in arch.stages:
        start = x
        for ratio, kernel_size in zip(stage.expand_ratios, stage.kernel_sizes, strict=True):
            height = max(3.0, min(1.0, ratio / _LARGEST_RATIO) * (_BASE - 2))
            color = KERNEL_COLORS.get(kernel_size, "#7d8590")
            place = f'x="{x:g}" y="{_BASE - height:g}" width="{_BAR:g}" height="{height:g}"'
            shapes.append(f'<rect class="k{kernel_size}" {place} fill="{color}"/>')
            x += _BAR + _GAP
        shapes.append(
            f'<text x="{(start + x - _GAP) / 2:g}" y="{_HEIGHT - 1}" text-anchor="middle">{stage.width}</text>'
        )
        x += _STAGE_GAP
    label = html.escape(in_words(arch))
    return (
        f'<svg class="spark" viewBox="0 0 {max(x, 120):g} {_HEIGHT}" preserveAspectRatio="xMinYMid meet" role="img" '
        f'aria-label="{label}"><title>{label}</title>{"".join(shapes)}</svg>'
    )


def in_words(arch: Arch) -> str:
    """Return kernels and expand ratios of each stage, "k 357 e 346 | k 33 e 44"."""
    stages = (f"k {_list(stage.kernel_sizes)} e {_list(stage.expand_ratios)}" for stage in arch.stages)
    return " | ".join(stages)


def _list(values: tuple[int, ...]) -> str:
    separator = "" if max(values) < 10 else ","
    return separator.join(map(str, values))
