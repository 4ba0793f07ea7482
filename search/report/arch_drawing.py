"""Draws an arch stage by stage, with the choices of its space (no torch)."""

import io
import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Polygon

from search.cost import macs
from supernet.arch import HEAD, Arch, layers, make_divisible
from supernet.costs import analytic
from supernet.io import files
from supernet.space import SearchSpace

KERNEL_COLORS = {3: "#a6cee3", 5: "#4a90c2", 7: "#0b4a8f"}
DECONV, STEM, GHOST, INK, SOFT = "#f2a65a", "#c9d1d9", "#b8c0c8", "#24292f", "#6e7781"
GAP, STAGE_GAP, DECONV_STEP = 0.18, 0.75, 2.25


def draw(arch: Arch, space: SearchSpace, num_keypoints: int) -> Figure:
    """Draw ``arch`` from the image to the heatmaps.

    Each block is a box: its height is the number of hidden channels, the heights of its ends are the numbers of input
    and output channels; colour and label show kernel size and expand ratio. Dashed boxes are blocks that the space
    allows but the arch does not have.
    """
    num_slots = sum(stage.depths[-1] for stage in space.stages)
    figure = Figure(figsize=(max(11.5, 0.44 * num_slots + 5), 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = _mac_shares(arch, num_keypoints)
    tallest = max(_height(width * ratio) for width, ratio in _widest(space))
    top = tallest / 2
    x, width, size = 0.0, arch.stem_width, arch.resolution // 2
    _box(axes, x, 0.8, _height(arch.stem_width * 2), STEM)
    _text(axes, x + 0.4, 0, str(arch.stem_width), 8)
    _title(axes, (x + 0.4, top), "stem", f"{arch.stem_width} ch", shares["first"], size)
    x += 0.8 + STAGE_GAP
    ends = []
    for i, (stage, choices) in enumerate(zip(arch.stages, space.stages, strict=True)):
        start = x
        size //= stage.stride
        for j in range(choices.depths[-1]):
            if j < stage.depth:
                ratio, kernel_size = stage.expand_ratios[j], stage.kernel_sizes[j]
                _block(axes, x, width, make_divisible(width * ratio), stage.width, KERNEL_COLORS[kernel_size])
                ink = INK if kernel_size == 3 else "white"
                _text(axes, x + 0.5, 0, f"{kernel_size}x{kernel_size}\ne{ratio}", 7, ink)
                width, last = stage.width, x + 1
            else:
                height = _height(stage.width * choices.expand_ratios[0])
                _box(axes, x, 1.0, height, "white", edgecolor=GHOST, linestyle="--")
            x += 1 + GAP
        ends.append((last, stage.width))
        chosen = f"{stage.width} ch of {_choices(choices.widths)}\ndepth {stage.depth} of {_choices(choices.depths)}"
        _title(axes, ((start + x - GAP) / 2, top), f"stage {i}", chosen, shares[f"stage.{i}"], size)
        x += STAGE_GAP - GAP
    for i, (out, widths) in enumerate(zip(arch.deconv_widths, space.deconv_widths, strict=True)):
        size *= 2
        height = max(_height(out * 4), 0.28 * tallest)
        _box(axes, x, 1.0, height, DECONV)
        _text(axes, x + 0.5, 0, f"4x4\n{out}", 7)
        _title(axes, (x + 0.5, top), f"deconv {i}", f"{out} ch\nof {_choices(widths)}", shares[f"level.{i}"], size)
        begin, from_width = ends[HEAD[i].skip - 1]  # s1 is the output of stage 0
        _skip(axes, (begin - 0.08, -_height(from_width) / 2), (x + 0.5, -height / 2), -top * (1.12 + 0.14 * i))
        x += DECONV_STEP
    axes.plot([-0.6, x - DECONV_STEP + 1.6], [0, 0], color=SOFT, linewidth=1, zorder=0)
    axes.set_xlim(-0.9, x - DECONV_STEP + 2)
    axes.set_ylim(-1.2 * tallest, 0.98 * tallest)
    axes.set_axis_off()
    legend = [Patch(color=color, label=f"kernel {size}x{size}") for size, color in KERNEL_COLORS.items()]
    legend += [Patch(facecolor="none", edgecolor=GHOST, linestyle="--", label="block not used")]
    legend += [Patch(color=DECONV, label="deconvolution of trunk + skip")]
    axes.legend(handles=legend, loc="lower center", ncols=len(legend), fontsize=8, frameon=False)
    total = macs(arch, num_keypoints)
    title = f"{arch.resolution} px · {total / 1e6:,.1f} M multiply-adds · e: expansion · %: share of multiply-adds"
    axes.set_title(title, fontsize=10, color=INK)
    return figure


def save_png(path: str | Path, figure: Figure) -> None:
    """Write a drawing as a PNG file."""
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=130)


def as_svg(figure: Figure) -> str:
    """Return a drawing as SVG text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _height(channels: float) -> float:
    """Return the drawn height of channels: their square root, so that 16 and 960 are visible in one image."""
    return math.sqrt(channels) / 8


def _widest(space: SearchSpace) -> list[tuple[int, int]]:
    return [(stage.widths[-1], stage.expand_ratios[-1]) for stage in space.stages]


def _mac_shares(arch: Arch, num_keypoints: int) -> dict[str, float]:
    """Return the shares of multiply-adds of stem, stages and levels of the head, which include their predictions."""
    macs_by_part: dict[str, float] = {}
    for layer in layers(arch, num_keypoints):
        kind, number = layer.name.split(".")[:2]
        name = f"stage.{number}" if kind == "stage" else "first"
        if kind.startswith(("deconv", "final")):
            name = f"level.{int(number) + kind.startswith('final')}"
        macs_by_part[name] = macs_by_part.get(name, 0) + analytic.macs([layer])
    total = sum(macs_by_part.values())
    return {name: part_macs / total for name, part_macs in macs_by_part.items()}


def _choices(values: tuple[int, ...]) -> str:
    return "/".join(map(str, values))


def _block(axes: Axes, x: float, inputs: int, hidden: int, outputs: int, color: str) -> None:
    """Draw an inverted bottleneck from ``inputs`` to ``hidden`` to ``outputs`` channels."""
    left, middle, right = _height(inputs) / 2, _height(hidden) / 2, _height(outputs) / 2
    outline = [(x, left), (x + 0.16, middle), (x + 0.84, middle), (x + 1, right)]
    outline += [(px, -py) for px, py in reversed(outline)]
    axes.add_patch(Polygon(outline, closed=True, facecolor=color, edgecolor="white", linewidth=0.8))


def _box(axes: Axes, x: float, width: float, height: float, color: str, **style: Any) -> None:
    shape = FancyBboxPatch(
        (x, -height / 2),
        width,
        height,
        "round,pad=0,rounding_size=0.08",
        facecolor=color,
        **({"edgecolor": "white"} | style),
    )
    axes.add_patch(shape)


def _title(
    axes: Axes, position: tuple[float, float], name: str, channels: str, mac_share: float, output_size: int
) -> None:
    x, y = position
    _text(axes, x, y * 1.76, name, 9, weight="bold")
    _text(axes, x, y * 1.42, channels, 7, SOFT)
    _text(axes, x, -y * 1.62, f"{output_size}x{output_size}", 7, SOFT)
    _text(axes, x, -y * 1.82, f"{mac_share:.0%}", 8)


def _skip(axes: Axes, start: tuple[float, float], end: tuple[float, float], level: float) -> None:
    """Draw a skip branch from ``start`` down to the height ``level`` and up to ``end``."""
    (x0, y0), (x1, y1) = start, end
    axes.plot([x0, x0, x1, x1], [y0, level, level, y1], color=DECONV, linewidth=1.4, zorder=0)
    axes.plot([x1], [y1 - 0.02], marker="^", color=DECONV, markersize=6, zorder=0)


def _text(axes: Axes, x: float, y: float, text: str, size: float, color: str = INK, **style: Any) -> None:
    axes.text(x, y, text, fontsize=size, color=color, ha="center", va="center", linespacing=1.3, **style)
