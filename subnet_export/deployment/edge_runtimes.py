"""Runs an exported network in the libraries of phones and small boards, on this machine's CPU; floats have 32 bits.

Their files take one image at a time or any batch, and the sizes that :class:`subnet_export.deployment.runtimes.Runtime`
asks for. To add a library, see :mod:`subnet_export.deployment.library_runtimes`.
"""

import contextlib
import functools
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.formats import EXECUTORCH, LITERT, MNN, NCNN
from subnet_export.deployment.runtimes import Precision, check_library, explain_errors, network_input
from supernet.errors import UserError
from supernet.io import files

OUTPUTS = ("low", "high")
INPUT = "images"
NCNN_INPUT, NCNN_OUTPUTS = "in0", ("out0", "out1")
"""Names that pnnx gives."""


class NcnnRuntime:
    """An ncnn network; images of a batch run one after the other, as ncnn has no batches.

    Arguments and errors are those of ``OnnxRuntime``; ``path`` is the ``.param`` file, beside its ``.bin`` file. 16-bit
    storage and arithmetic, which ncnn uses on Arm by default, are switched off.
    """

    precision = "f32"

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        check_library(NCNN, path, precision)
        import ncnn

        self.library = f"ncnn {ncnn.__version__}"
        self._path, self._matrix, self._net = path, ncnn.Mat, ncnn.Net()
        options = self._net.opt
        options.num_threads = torch.get_num_threads()
        options.use_vulkan_compute = False
        for switch in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(options, switch, False)
        weights = path.with_suffix(".bin")
        if self._net.load_param(str(path)) != 0 or self._net.load_model(str(weights)) != 0:
            raise UserError(f"{path} and {weights.name} cannot be run; restore the files or export again")

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs = network_input(images, "float32").contiguous().numpy()
        maps = [self._run(image) for image in inputs]
        low, high = (torch.from_numpy(np.stack(outputs)) for outputs in zip(*maps, strict=True))
        return low, high

    def _run(self, image: Any) -> list[Any]:
        extractor = self._net.create_extractor()
        matrix = self._matrix(image)  # shares the memory of `image`
        status = [extractor.input(NCNN_INPUT, matrix)]
        outputs = []
        for name in NCNN_OUTPUTS:
            code, output = extractor.extract(name)
            status.append(code)
            outputs.append(np.array(output))
        if any(status):
            raise UserError(f"{self._path} cannot be run (ncnn returns {status}); restore the file or export again")
        return outputs


class LiteRtRuntime:
    """A LiteRT file. Another size than the last image's makes the library plan the memory of its layers again.

    Arguments and errors are those of ``OnnxRuntime``.
    """

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        check_library(LITERT, path, precision)
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self.library = f"ai-edge-litert {version('ai-edge-litert')}"
        content = files.read_bytes(path, "model", files.HUGE, "restore the file or export again")
        self._explain_errors = functools.partial(explain_errors, path, ())
        with self._explain_errors():
            self._interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
            runner = self._interpreter.get_signature_runner()
            source, results = runner.get_input_details()[INPUT], runner.get_output_details()
            self._takes: Input = "uint8" if source["dtype"] == np.uint8 else "float32"
            self._input, self._outputs = source["index"], [results[name]["index"] for name in OUTPUTS]
            quantised = any(tensor["dtype"] == np.int8 for tensor in self._interpreter.get_tensor_details())
            self.precision = "int8/f32" if quantised else "f32"
        self._shape: tuple[int, ...] = ()
        self._lock = threading.Lock()  # an interpreter has one set of tensors

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs = network_input(images, self._takes).contiguous().numpy()
        with self._lock, self._explain_errors():
            if inputs.shape != self._shape:
                self._interpreter.resize_tensor_input(self._input, inputs.shape)
                self._interpreter.allocate_tensors()
                self._shape = inputs.shape
            self._interpreter.set_tensor(self._input, inputs)
            self._interpreter.invoke()
            low, high = (torch.from_numpy(self._interpreter.get_tensor(index)) for index in self._outputs)
        return low, high


class MnnRuntime:
    """An MNN network, in what MNN calls high precision. Arguments and errors are those of ``OnnxRuntime``."""

    precision = "f32"

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        check_library(MNN, path, precision)
        with output_of_libraries_on_stderr():
            import MNN as library

            self.library = f"MNN {library.version()}"
            self._expressions = library.expr
            # MNN's binding returns no module and sets no exception for a file that is not a network.
            self._explain_errors = functools.partial(explain_errors, path, (SystemError,))
            settings = {"backend": "CPU", "precision": "high", "numThread": torch.get_num_threads()}
            with self._explain_errors():
                self._manager = library.nn.create_runtime_manager((settings,))
                self._module = library.nn.load_module_from_file(
                    str(path), [INPUT], list(OUTPUTS), runtime_manager=self._manager
                )
        self._lock = threading.Lock()  # the outputs lie in memory of the module

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs = network_input(images, "float32").contiguous().numpy()
        place = self._expressions
        with self._lock, self._explain_errors():
            source = place.const(inputs, list(inputs.shape), place.NCHW, place.float)
            outputs = self._module.forward([source])
            low, high = (torch.from_numpy(np.array(place.convert(maps, place.NCHW).read())) for maps in outputs)
        return low, high


class ExecuTorchProgram:
    """The content of an ExecuTorch file, ready to run.

    Args:
        content: The file.
        threads: Threads of the whole process; the last program that is opened sets their number.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self._content = content  # the module does not copy it
        with silent_stderr():  # it describes the processor, and optional libraries it lacks
            from executorch.extension.pybindings import portable_lib as library

            library._unsafe_reset_threadpool(threads)
            check = library.Verification.InternalConsistency
            self._module = library._load_for_executorch_from_buffer(content, program_verification=check)
        self.input_shape: tuple[int, ...] = self._module.method_meta("forward").input_tensor_meta(0).sizes()
        """Of the first input; its largest one where sizes vary."""

    def __call__(self, inputs: Sequence[Tensor], copies: bool = True) -> list[Tensor]:
        """Return the outputs; without ``copies``, the next run overwrites them."""
        outputs: list[Tensor] = self._module.forward(inputs, clone_outputs=copies)
        return outputs


class ExecuTorchRuntime:
    """An ExecuTorch file, whose layers XNNPACK runs; images of a batch run one after the other.

    Arguments and errors are those of ``OnnxRuntime``. See :class:`ExecuTorchProgram` for the number of threads.
    """

    precision = "f32"

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        check_library(EXECUTORCH, path, precision)
        self.library = f"executorch {version('executorch')}"
        content = files.read_bytes(path, "model", files.HUGE, "restore the file or export again")
        self._path, self._explain_errors = path, functools.partial(explain_errors, path, ())
        with self._explain_errors():
            self._run = ExecuTorchProgram(content, torch.get_num_threads())
        self._lock = threading.Lock()  # a program has one set of tensors

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs, max_side = network_input(images, "float32").contiguous(), max(self._run.input_shape[2:])
        height, width = inputs.shape[2:]
        if max(height, width) > max_side:
            raise UserError(
                f"{self._path} takes images of at most {max_side} px on each side, an image has {width} x {height} px "
                f"after resizing; export it with --max-side {max(height, width)}, or use another format"
            )
        with self._lock, self._explain_errors():
            maps = [self._run([image[None]]) for image in inputs]
            low, high = (torch.cat(outputs) for outputs in zip(*maps, strict=True))
        return low, high


@contextlib.contextmanager
def output_of_libraries_on_stderr() -> Iterator[None]:
    """Send what a library prints to standard output to standard error: MNN greets there, where a command's data go."""
    sys.stdout.flush()
    with _redirected(1, 2):
        yield


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what a library writes to standard error, from C and through Python."""
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with contextlib.redirect_stderr(io.StringIO()), _redirected(2, nowhere):
            yield
    finally:
        os.close(nowhere)


@contextlib.contextmanager
def _redirected(source: int, target: int) -> Iterator[None]:
    """Send what is written to one file descriptor to another one."""
    saved = os.dup(source)
    try:
        os.dup2(target, source)
        yield
    finally:
        os.dup2(saved, source)
        os.close(saved)
