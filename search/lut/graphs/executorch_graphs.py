"""Blocks and whole networks as ExecuTorch files, with the XNNPACK graph that the converter makes of exports.

Maps are (1, H, W, C) inside. A test compares the graph of a network with that of the exported one, and its outputs.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from search.lut.graphs.inputs import channels_last, input_shapes
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.graphs.layers import (
    DECONV_PADDING,
    DECONV_SHAPE,
    DECONV_STRIDE,
    Activation,
    Array,
    Conv,
    Weights,
    write_layers,
)
from supernet.arch import Arch
from supernet.costs.latency_blocks import PredictionHead, Stem

_NOTHING = 2**32 - 1
"""The number of a value that is not there."""
_INPUT, _OUTPUT = 1, 2
"""Flags of values."""
_NO_SOURCE_LINE = 65535
_ALIGNMENT = 16
_BY_KEY = 2**64 - 1
"""The offset of a constant that is found by its key."""
_SIDES = ("height", "width")
_LIMITS: dict[Activation, tuple[float, float | str] | None] = {"": None, "relu": (0.0, "+inf"), "relu6": (0.0, 6.0)}


def shapes_of(workload: Workload) -> list[tuple[int, ...]]:
    """Return the shapes in which the file takes its inputs: images (1, 3, H, W), maps (1, H, W, C)."""
    shapes = input_shapes(workload, 1, "float32")
    return shapes if isinstance(workload, Arch | Stem) else [channels_last(shape) for shape in shapes]


def program_of(workload: Workload, num_keypoints: int, weights: Weights) -> bytes:
    """Return the ``.pte`` file of a workload for one normalised image.

    A network takes images up to its resolution, as exports do up to a limit, and copies its input; a block has a single
    size and does not. On the time of a run the limit has no effect.
    The stem brings images into the order of the maps, and predictions bring their maps back.
    """
    is_network, writer = isinstance(workload, Arch), _Writer(weights)
    inputs = [writer.input(shape) for shape in shapes_of(workload)]
    if isinstance(workload, NoOp):
        outputs = [writer.without_negatives(inputs[0])]
    else:
        outputs = write_layers(writer, workload, num_keypoints, inputs)
    if isinstance(workload, Arch | PredictionHead):
        outputs = [writer.transposed(value, (0, 3, 1, 2)) for value in outputs]
    return writer.file(outputs, is_network)


class _Writer:
    """Collects the values and nodes of an XNNPACK graph.

    The name of a value is its number; methods that add a node return that of its output.
    """

    def __init__(self, weights: Weights) -> None:
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
        from executorch.exir._serialize._named_data_store import NamedDataStore

        self._schema, self._weights, self._constants = schema, weights, NamedDataStore()
        self._graph = schema.XNNGraph("0", [], [], 0, [], [], [schema.ConstantDataOffset(0, 0)])

    def input(self, shape: Sequence[int]) -> str:
        name = self._value(shape)
        self._make_external(name, _INPUT)
        return name

    def normalised(self, images: str) -> str:
        """Bring images (1, 3, H, W), which are normalised already, into the order of maps."""
        return self.transposed(images, (0, 2, 3, 1))

    def transposed(self, value: str, order: Sequence[int]) -> str:
        shape = self._shape(value)
        kind = partial(self._schema.XNNStaticTranspose, num_dims=len(order), perm=list(order))
        return self._node(kind, [shape[axis] for axis in order], "", input_id=value)

    def without_negatives(self, value: str) -> str:
        return self._node(self._schema.XNNClamp, self._shape(value), "relu", input_id=value)

    def conv(self, value: str, layer: Conv) -> str:
        """Add a convolution."""
        _, height, width, _ = self._shape(value)
        order = (1, 2, 3, 0) if layer.is_depthwise else (0, 2, 3, 1)
        kind = self._schema.XNNDepthwiseConv2d if layer.is_depthwise else self._schema.XNNConv2d
        windows = self._windows(kind, layer.kernel_size, layer.stride, layer.kernel_size // 2)
        groups = layer.inputs if layer.is_depthwise else 1
        return self._node(
            partial(
                windows,
                group_input_channels=layer.inputs // groups,
                group_output_channels=layer.outputs // groups,
                groups=groups,
            ),
            (1, height // layer.stride, width // layer.stride, layer.outputs),
            layer.activation,
            input1_id=value,
            filter_id=self._weight(layer.name, layer.weight_shape, order),
            bias_id=self._bias(layer.name, layer.outputs, layer.bias),
        )

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        _, height, width, _ = self._shape(value)
        windows = self._windows(self._schema.XNNConvTranspose2d, DECONV_SHAPE[0], DECONV_STRIDE, DECONV_PADDING)
        return self._node(
            partial(windows, group_input_channels=inputs, group_output_channels=outputs, groups=1),
            (1, DECONV_STRIDE * height, DECONV_STRIDE * width, outputs),
            "",
            input1_id=value,
            filter_id=self._weight(name, (inputs, outputs, *DECONV_SHAPE), (1, 2, 3, 0)),
            bias_id=self._bias(name, outputs, bias),
        )

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        activation: Activation = "relu" if relu else ""
        return self._node(self._schema.XNNAdd, self._shape(first), activation, input1_id=first, input2_id=second)

    def file(self, outputs: Sequence[str], is_network: bool) -> bytes:
        """Return the file; the sizes of a network are the largest that it takes, and its inputs are copied."""
        from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import serialize_xnnpack_binary
        from executorch.exir import schema
        from executorch.exir._serialize import _PTEFile, _serialize_pte_binary

        for value in outputs:
            self._make_external(value, _OUTPUT)
        graph, used, values = self._graph, 0, []
        for number in (*graph.input_ids, *graph.output_ids):
            shape = self._shape(str(number))
            place = None
            if is_network or number in graph.output_ids:
                place = schema.AllocationDetails(1, used % 2**32, used // 2**32)
                used += -(-4 * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
            dynamism = schema.TensorShapeDynamism.DYNAMIC_BOUND if is_network else schema.TensorShapeDynamism.STATIC
            order = list(range(len(shape)))
            values.append(
                schema.EValue(
                    schema.Tensor(schema.ScalarType.FLOAT, 0, list(shape), order, False, 0, 0, place, dynamism)
                )
            )
        numbers = list(range(len(values)))
        call = schema.Instruction(schema.DelegateCall(0, numbers))
        reference = schema.BackendDelegateDataReference(schema.DataLocation.INLINE, 0)
        plan = schema.ExecutionPlan(
            name="forward",
            container_meta_type=schema.ContainerMetadata("", ""),
            values=values,
            inputs=numbers[: len(graph.input_ids)],
            outputs=numbers[len(graph.input_ids) :],
            chains=[schema.Chain([], [], [call], None)],
            operators=[],
            delegates=[schema.BackendDelegate("XnnpackBackend", reference, [])],
            non_const_buffer_sizes=[0, used],
        )
        delegate = serialize_xnnpack_binary(graph, bytearray())
        program = schema.Program(
            version=0,
            execution_plan=[plan],
            constant_buffer=[schema.Buffer(b"")],
            backend_delegate_data=[schema.BackendDelegateInlineData(delegate)],
            segments=[],
            constant_segment=schema.SubsegmentOffsets(0, []),
        )
        contents = _PTEFile(program, named_data=self._constants.get_named_data_store_output())
        return bytes(_serialize_pte_binary(contents, extract_delegate_segments=True))

    def _windows(self, kind: Any, kernel_size: int, stride: int, padding: int) -> Any:
        """Return ``kind`` with what all nodes have that move a square kernel over a map."""
        sides = dict.fromkeys([f"padding_{side}" for side in ("top", "right", "bottom", "left")], padding)
        pairs = {"kernel": kernel_size, "subsampling": stride, "dilation": 1, "adjustment": 0}
        return partial(kind, **sides, **{f"{key}_{side}": size for key, size in pairs.items() for side in _SIDES})

    def _node(self, kind: Any, shape: Sequence[int], activation: Activation, **values: str) -> str:
        """Add a node, whose output has the given shape."""
        output, limits = self._value(shape), _LIMITS[activation]
        node = kind(**{key: int(value) for key, value in values.items()}, output_id=int(output), flags=0)
        limits = None if limits is None else self._schema.OutputMinMax(*limits)
        self._graph.xnodes.append(self._schema.XNode(node, _NO_SOURCE_LINE, limits))
        return output

    def _weight(self, name: str, shape: tuple[int, ...], order: Sequence[int]) -> str:
        """Add a weight whose axes in XNNPACK are those of PyTorch in the given order."""
        return self._constant(np.asarray(self._weights(f"{name}.weight", shape)).transpose(order))

    def _bias(self, name: str, num: int, bias: bool) -> str:
        return self._constant(np.asarray(self._weights(f"{name}.bias", (num,)))) if bias else str(_NOTHING)

    def _constant(self, values: Array) -> str:
        content = values.tobytes()
        key = f"{hashlib.sha256(content).hexdigest()} {values.shape}"
        self._constants.add_named_data(key, content, _ALIGNMENT)
        self._graph.constant_data.append(self._schema.ConstantDataOffset(_BY_KEY, len(content), key))
        return self._value(values.shape, len(self._graph.constant_data) - 1)

    def _value(self, shape: Sequence[int], constant: int = 0) -> str:
        kind, number = self._schema.XNNDatatype.xnn_datatype_fp32, len(self._graph.xvalues)
        value = self._schema.XNNTensorValue(kind, len(shape), list(shape), constant, _NOTHING, 0, number)
        self._graph.xvalues.append(self._schema.XValue(value))
        return str(number)

    def _make_external(self, name: str, flag: int) -> None:
        """Make a value an input or an output of the graph."""
        graph = self._graph
        tensor = graph.xvalues[int(name)].xvalue_union
        tensor.external_id, tensor.flags = graph.num_externs, flag
        graph.num_externs += 1
        (graph.input_ids if flag == _INPUT else graph.output_ids).append(int(name))

    def _shape(self, value: str) -> tuple[int, ...]:
        return tuple(self._graph.xvalues[int(value)].xvalue_union.dims)
