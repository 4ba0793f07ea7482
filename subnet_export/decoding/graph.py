"""Decoding inside an ONNX graph: from the two outputs of the network to the best detections of each keypoint.

The operations are those of :mod:`supernet.pose.multiscale_flip`, :mod:`~supernet.pose.peaks` and
:mod:`~supernet.pose.subpixel` on one pass at one scale, for any batch and image size. What is left for the program
that runs the graph is to match detections by their tags: :mod:`subnet_export.decoding.pose` and its twins do that.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from subnet_export.decoding.description import METADATA_KEY, Decoding, Gives, as_metadata, describe_decoding
from supernet.errors import UserError
from supernet.pose.inference import InferenceSettings
from supernet.pose.subpixel import FLAT, FLOOR, REACH, fit_matrix

if TYPE_CHECKING:
    import onnx

DETECTIONS = "detections"
"""The output: (B, K, M, 4) float32 as x, y in pixels of the input, value, tag; per keypoint by falling value. M is the
largest number of people. Maxima below the detection threshold are listed too, to fill in from; without one, all 4 are
0."""
TINY = 1e-12
"""Takes the place of a value of 0, which has no peak, where the logarithm is taken."""


def check_decodable(settings: InferenceSettings) -> None:
    """Raise UserError for settings that need several passes, which one graph does not see."""
    for name, value, needed in (("flip_test", settings.flip_test, False), ("scales", settings.scales, (1.0,))):
        if value != needed:
            raise UserError(
                f"--decode needs a model of one pass, this one has {name} {value!r}; leave out --decode, or export "
                f"from a supernet that is evaluated with {name} {needed!r}"
            )


def complete(model: "onnx.ModelProto", decoding: Decoding, resolution: int, takes: str) -> None:
    """Add to the ONNX graph of a network, in place, what decoding it takes: metadata, and where wanted the decoding.

    Args:
        model: With the outputs ``low`` and ``high``.
        decoding: How its outputs become people.
        resolution: Short side of the input, px.
        takes: Kind of input, for the metadata.

    Raises:
        UserError: The settings need several passes, and the graph is to decode.
    """
    from onnx import helper

    if decoding.in_graph:
        append_decoding(model, decoding.keypoints.num, decoding.settings)
    description = describe_decoding(decoding.keypoints, decoding.settings, resolution)
    gives: Gives = "detections" if decoding.in_graph else "maps"
    helper.set_model_props(model, {METADATA_KEY: as_metadata(description, takes, gives)})


def append_decoding(model: "onnx.ModelProto", num_keypoints: int, settings: InferenceSettings) -> None:
    """Replace the outputs ``low`` and ``high`` of a model by ``detections``, in place.

    Of equal pixels within one square of ``nms_kernel`` only the first is kept. A longer row of equal pixels is one
    detection here, while ``peaks`` finds one in every ``nms_kernel // 2 + 1`` pixels.

    Raises:
        UserError: ``settings`` need several passes.
    """
    import onnx
    from onnx import helper

    check_decodable(settings)
    nodes = _Nodes(model.graph)
    detections = _detections(nodes, num_keypoints, settings)
    nodes.add("Identity", detections, output=DETECTIONS)
    del model.graph.output[:]
    shape: list[str | int | None] = ["batch", num_keypoints, settings.max_people, 4]
    model.graph.output.append(helper.make_tensor_value_info(DETECTIONS, onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)


class _Nodes:
    """Adds nodes and constants to a graph."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self._graph, self._num = graph, 0

    def add(self, operator: str, *inputs: "str | _Value", output: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its first output; the others have the suffixes _1, _2 and so on.

        An input that is not a name of a tensor becomes a constant: a Python int is int64, a float float32.
        """
        from onnx import helper

        names = [self._name(value) for value in inputs]
        output = output or self._next(operator)
        results = [output, *(f"{output}_{number}" for number in range(1, outputs))]
        self._graph.node.append(helper.make_node(operator, names, results, f"decode/{output}", **attributes))
        return output

    def _name(self, value: "str | _Value") -> str:
        from onnx import numpy_helper

        if isinstance(value, str):
            return value
        array = np.asarray(value)
        array = array.astype({"f": np.float32, "i": np.int64}[array.dtype.kind])
        name = self._next("constant")
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _next(self, kind: str) -> str:
        self._num += 1
        return f"decode_{kind.lower()}_{self._num}"


_Value = int | float | list[int] | list[float] | np.ndarray[Any, np.dtype[Any]]


def _detections(nodes: _Nodes, num_keypoints: int, settings: InferenceSettings) -> str:
    """Add all nodes; return the name of the detections (B, K, M, 4)."""
    add = nodes.add
    most, side, reach = settings.max_people, settings.nms_kernel, settings.nms_kernel // 2
    low_heat = add("Slice", "low", [0], [num_keypoints], [1])
    tags = _doubled(nodes, add("Slice", "low", [num_keypoints], [2 * num_keypoints], [1]))
    heat = _doubled(nodes, add("Mul", add("Add", _doubled(nodes, low_heat), "high"), 0.5))
    sizes = add("Shape", heat)
    height, width = (add("Gather", sizes, index) for index in (2, 3))

    highest = heat
    for kernel, pads in (([1, side], [0, reach, 0, reach]), ([side, 1], [reach, 0, reach, 0])):
        highest = add("MaxPool", highest, kernel_shape=kernel, pads=pads, strides=[1, 1])
    maxima = add("Mul", heat, add("Cast", add("Equal", heat, highest), to=1))  # quicker than Where
    values, place = _best(nodes, _flat(nodes, maxima), most)
    x, y = _divided(nodes, place, width)
    values = _without_repeats(nodes, values, (x, y), reach)
    values, order = _best(nodes, values, most)
    x, y = (add("GatherElements", value, order, axis=2) for value in (x, y))

    map_ = _Map(nodes, _flat(nodes, heat), width, height)
    positions = [add("Add", add("Cast", value, to=1), 0.5) for value in (x, y)]
    if settings.adjust:
        steps = _quarters(map_, x, y) if settings.decoding == "published" else _tops(map_, x, y, values, most)
        positions = [add("Add", position, step) for position, step in zip(positions, steps, strict=True)]
    tag = _tag(nodes, tags, x, y)
    parts = [add("Unsqueeze", part, [3]) for part in (*positions, values, tag)]
    is_peak = add("Unsqueeze", add("Greater", values, 0.0), [3])
    return add("Where", is_peak, add("Concat", *parts, axis=3), 0.0)


def _doubled(nodes: _Nodes, maps: str) -> str:
    """Resize maps (B, C, h, w) to twice their size, bilinearly between pixel centres."""
    mode: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return nodes.add("Resize", maps, "", [1.0, 1.0, 2.0, 2.0], **mode)


def _flat(nodes: _Nodes, maps: str) -> str:
    """Maps (B, C, H, W) as (B, C, HW)."""
    return nodes.add("Reshape", maps, [0, 0, -1])


def _best(nodes: _Nodes, values: str, most: int) -> tuple[str, str]:
    """The highest of values (B, K, N), falling, the first of equal ones first, and their indices, both (B, K, M)."""
    best = nodes.add("TopK", values, [most], axis=2, outputs=2)
    return best, f"{best}_1"


def _divided(nodes: _Nodes, place: str, width: str) -> tuple[str, str]:
    """Column and row of flat indices."""
    y = nodes.add("Div", place, width)
    return nodes.add("Sub", place, nodes.add("Mul", y, width)), y


def _without_repeats(nodes: _Nodes, values: str, place: tuple[str, str], reach: int) -> str:
    """Values (B, K, M) with 0 for those that equal an earlier one within ``reach`` columns and rows."""
    add = nodes.add

    def differences(value: str) -> str:
        return add("Sub", add("Unsqueeze", value, [3]), add("Unsqueeze", value, [2]))

    is_equal = add("Equal", differences(values), 0.0)
    for part in place:
        is_equal = add("And", is_equal, add("LessOrEqual", add("Abs", differences(part)), reach))
    number = add("Range", 0, add("Squeeze", add("Gather", add("Shape", values), [2]), [0]), 1)
    is_earlier = add("Less", add("Unsqueeze", number, [0]), add("Unsqueeze", number, [1]))
    repeats = add("Cast", add("And", is_equal, is_earlier), to=1)
    is_repeated = add("Greater", add("ReduceMax", repeats, [3], keepdims=0), 0.5)
    return add("Where", is_repeated, 0.0, values)


class _Map:
    """Heatmaps (B, K, HW) from which single pixels are read."""

    def __init__(self, nodes: _Nodes, flat: str, width: str, height: str) -> None:
        self.nodes, self._flat, self._width = nodes, flat, width
        self.last_x, self.last_y = (nodes.add("Sub", size, 1) for size in (width, height))

    def at(self, x: str, y: str) -> str:
        """The pixels at columns and rows (B, K, N)."""
        add = self.nodes.add
        return add("GatherElements", self._flat, add("Add", add("Mul", y, self._width), x), axis=2)

    def clipped(self, value: str, least: int, last: str) -> str:
        return self.nodes.add("Min", self.nodes.add("Max", value, least), last)


def _quarters(map_: _Map, x: str, y: str) -> list[str]:
    """Steps in x and y as of ``supernet.pose.subpixel.quarter_pixels``."""
    add = map_.nodes.add
    right, left = (map_.at(map_.clipped(add("Add", x, step), 0, map_.last_x), y) for step in (1, -1))
    below, above = (map_.at(x, map_.clipped(add("Add", y, step), 0, map_.last_y)) for step in (1, -1))
    return [
        add("Where", add("Greater", after, before), 0.25, -0.25) for after, before in ((right, left), (below, above))
    ]


def _tops(map_: _Map, x: str, y: str, values: str, most: int) -> list[str]:
    """Steps in x and y as of ``supernet.pose.subpixel.fitted_tops``."""
    add = map_.nodes.add
    middle_x = map_.clipped(x, REACH, add("Sub", map_.last_x, REACH))
    middle_y = map_.clipped(y, REACH, add("Sub", map_.last_y, REACH))
    offsets_y, offsets_x = (offsets.ravel() for offsets in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
    around = [
        add("Reshape", add("Add", add("Unsqueeze", middle, [3]), offsets), [0, 0, -1])
        for middle, offsets in ((middle_x, offsets_x), (middle_y, offsets_y))
    ]
    pixels = add("Reshape", map_.at(*around), [0, 0, most, len(offsets_x)])
    relative = add("Div", pixels, add("Unsqueeze", add("Max", values, TINY), [3]))
    terms = add("MatMul", add("Log", add("Max", relative, FLOOR)), fit_matrix())
    slope_x, slope_y, xx, yy, xy = (add("Gather", terms, index, axis=3) for index in range(5))

    def product(first: str, second: str) -> str:
        return add("Mul", first, second)

    determinant = add("Sub", product(xx, yy), product(xy, xy))
    is_top = add("And", add("Less", xx, -FLAT), add("Greater", determinant, add("Mul", xx, -FLAT)))
    divisor = add("Where", is_top, determinant, 1.0)
    across = add("Sub", product(xy, slope_y), product(yy, slope_x))
    down = add("Sub", product(xy, slope_x), product(xx, slope_y))
    steps = []
    for top, middle, place in ((across, middle_x, x), (down, middle_y, y)):
        step = add("Add", add("Div", top, divisor), add("Cast", add("Sub", middle, place), to=1))
        step = add("Min", add("Max", step, -float(REACH)), float(REACH))
        steps.append(add("Where", is_top, step, 0.0))
    return steps


def _tag(nodes: _Nodes, tags: str, x: str, y: str) -> str:
    """Tags (B, K, M) at pixels of twice the size of the tag maps, bilinearly between pixel centres."""
    add = nodes.add
    sizes = add("Shape", tags)
    height, width = (add("Gather", sizes, index) for index in (2, 3))
    map_ = _Map(nodes, _flat(nodes, tags), width, height)

    def nearest_two(value: str, last: str) -> tuple[str, str]:
        """The pixel of weight 3/4 and that of weight 1/4."""
        near = add("Div", value, 2)
        side = add("Sub", add("Mul", add("Sub", value, add("Mul", near, 2)), 2), 1)
        return near, map_.clipped(add("Add", near, side), 0, last)

    def between(near: str, far: str) -> str:
        return add("Add", add("Mul", near, 0.75), add("Mul", far, 0.25))

    columns, rows = nearest_two(x, map_.last_x), nearest_two(y, map_.last_y)
    return between(*(between(*(map_.at(column, row) for column in columns)) for row in rows))
