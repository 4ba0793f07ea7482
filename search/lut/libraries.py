"""Opens and runs the graphs of a kit in the library that it is for; part of the kit, beside ``measure.py``.

Like that script it needs nothing else of the project that made the kit. Builds of tables use it, too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], object]
Shapes = Sequence[Sequence[int]]
CPU = "CPUExecutionProvider"


class LibraryError(ValueError):
    """A library cannot be used here, or cannot use a graph; the message is one sentence."""


class OnnxRuntimeLibrary:
    """Opens and runs files ``.onnx``. The other libraries have the same interface.

    Attributes:
        version: Of the library.
        place: Where it runs, if that is not the processor.
    """

    def __init__(self, threads: int, provider: str = CPU) -> None:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            available = ", ".join(onnxruntime.get_available_providers())
            raise LibraryError(f"there is no provider {provider} here; choose among {available}")
        self.version: str = onnxruntime.__version__
        self.place = "" if provider == CPU else f" ({provider})"
        self._session, self._options = onnxruntime.InferenceSession, onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._providers = [provider]

    def open(self, path: Path) -> Any:
        """Return what runs the file."""
        (provider,) = self._providers
        try:
            opened = self._session(str(path), self._options, providers=self._providers)
        except Exception as error:  # its errors have no other type in common
            raise _cannot_open(path, f"ONNX Runtime {self.version}") from error
        if provider not in opened.get_providers():  # it falls back to the processor by itself
            raise LibraryError(
                f"{provider} does not start here, so ONNX Runtime would use the processor; install what the provider "
                "needs (such as CUDA and cuDNN of its version), or leave out --provider"
            )
        return opened

    def runner(self, opened: Any, shapes: Shapes) -> Run:
        """Return a function that runs an opened file once, on noise of the given shapes."""
        return runner(opened, shapes)


class NcnnLibrary:
    """Opens and runs files ``.param``, in 32-bit floats and with zeros for weights, as ncnn's own benchmark does."""

    place = ""

    def __init__(self, threads: int, provider: str = CPU) -> None:
        _check_provider(provider, "ncnn")
        import ncnn

        self.version: str = ncnn.__version__
        self._ncnn, self._threads = ncnn, threads

    def open(self, path: Path) -> Any:
        return self.open_text(path.read_text(encoding="utf-8"))

    def open_text(self, param: str) -> Any:
        """Return what runs the content of a file."""
        net = self._ncnn.Net()
        net.opt.num_threads = self._threads
        net.opt.use_vulkan_compute = False
        for switch in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, switch, False)
        if net.load_param_mem(param) or net.load_model(self._ncnn.DataReaderFromEmpty()):
            raise LibraryError(f"ncnn {self.version} cannot open a graph; install a newer version")
        return net

    def runner(self, opened: Any, shapes: Shapes) -> Run:
        # A copy has memory of its own, in ncnn's alignment: a layer that works in place needs both.
        maps = [self._ncnn.Mat(noise(shape[1:])).clone() for shape in shapes]
        inputs = list(zip(opened.input_names(), maps, strict=True))
        outputs, num_images = opened.output_names(), shapes[0][0]

        def run() -> list[Any]:
            for _ in range(num_images):  # ncnn has no batches
                extractor = opened.create_extractor()
                for name, matrix in inputs:
                    extractor.input(name, matrix)
                results = [extractor.extract(name) for name in outputs]
            if any(status for status, _ in results):
                raise LibraryError(f"ncnn {self.version} cannot run a graph; install a newer version")
            return [values for _, values in results]

        return run


class MnnLibrary:
    """Opens and runs files ``.mnn``, in 32-bit floats."""

    place = ""

    def __init__(self, threads: int, provider: str = CPU) -> None:
        _check_provider(provider, "MNN")
        import MNN

        self.version: str = MNN.version()
        self._mnn = MNN
        settings = {"backend": "CPU", "precision": "high", "numThread": threads}
        self._manager = MNN.nn.create_runtime_manager((settings,))

    def open(self, path: Path) -> Any:
        try:
            return self._mnn.nn.load_module_from_file(str(path), [], [], runtime_manager=self._manager)
        except SystemError as error:
            raise _cannot_open(path, f"MNN {self.version}") from error

    def runner(self, opened: Any, shapes: Shapes) -> Run:
        expressions = self._mnn.expr
        names = opened.get_info()["inputNames"]
        places = [sorted(names).index(name) for name in names]
        maps = [(noise(shapes[place]), list(shapes[place])) for place in places]

        def run() -> list[Any]:
            inputs = [expressions.const(*values, expressions.NCHW, expressions.float) for values in maps]
            return [expressions.convert(output, expressions.NCHW).read() for output in opened.forward(inputs)]

        return run


class LiteRtLibrary:
    """Opens and runs files ``.tflite``, whose layers LiteRT's XNNPACK delegate runs."""

    place = ""

    def __init__(self, threads: int, provider: str = CPU) -> None:
        _check_provider(provider, "LiteRT")
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self.version = version("ai-edge-litert")
        self._interpreter, self._threads = Interpreter, threads

    def open(self, path: Path) -> Any:
        return self.open_content(path.read_bytes())

    def open_content(self, content: bytes) -> Any:
        """Return what runs the content of a file."""
        try:
            return self._interpreter(model_content=content, num_threads=self._threads)
        except ValueError as error:
            raise LibraryError(f"LiteRT {self.version} cannot open a graph; install a newer version") from error

    def runner(self, opened: Any, shapes: Shapes) -> Run:
        inputs = []
        for entry, shape in zip(opened.get_input_details(), shapes, strict=True):
            opened.resize_tensor_input(entry["index"], shape)
            inputs.append((entry["index"], values_of(shape, entry["dtype"] is np.uint8)))
        try:
            opened.allocate_tensors()
        except RuntimeError as error:
            raise LibraryError(f"LiteRT {self.version} cannot run a graph; install a newer version") from error
        outputs = [entry["index"] for entry in opened.get_output_details()]

        def run() -> list[Any]:
            for index, values in inputs:
                opened.set_tensor(index, values)
            opened.invoke()
            return [opened.get_tensor(index) for index in outputs]

        return run


def _cannot_open(path: Path, library: str) -> LibraryError:
    return LibraryError(f"{library} cannot open {path.name}; unpack the kit again, or install a newer version")


def _check_provider(provider: str, library: str) -> None:
    """Raise LibraryError for a provider of ONNX Runtime that another library does not have."""
    if provider != CPU:
        raise LibraryError(f"{library} has no provider {provider}; leave out --provider, it is of onnxruntime only")


def runner(session: Any, shapes: Shapes) -> Run:
    """Return a function that runs an ONNX Runtime session once, on noise of the given shapes."""
    inputs = zip(session.get_inputs(), shapes, strict=True)
    feeds = {entry.name: values_of(shape, "uint8" in entry.type) for entry, shape in inputs}
    return lambda: session.run(None, feeds)


def values_of(shape: Sequence[int], is_image: bool) -> Any:
    """Return noise for an input: pixels in uint8 or :func:`noise`."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8) if is_image else noise(shape)


def noise(shape: Sequence[int]) -> Any:
    """Return normally distributed float32 numbers."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


LIBRARIES: dict[str, Any] = {
    "onnxruntime": OnnxRuntimeLibrary,
    "ncnn": NcnnLibrary,
    "mnn": MnnLibrary,
    "litert": LiteRtLibrary,
}
"""What runs the graphs of a kit, by the runtime in its manifest."""
