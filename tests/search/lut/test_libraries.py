"""What runs the graphs of a kit refuses what it cannot do."""

from pathlib import Path

import onnxruntime
import pytest

from search.lut.graphs.inputs import random_weights
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.libraries import (
    CPU,
    LIBRARIES,
    LibraryError,
    LiteRtLibrary,
    MnnLibrary,
    NcnnLibrary,
    OnnxRuntimeLibrary,
)
from search.lut.workloads import NoOp


@pytest.mark.parametrize("library", [NcnnLibrary, MnnLibrary, LiteRtLibrary])
def test_a_provider_of_onnxruntime_is_refused_by_other_libraries(
    library: type[NcnnLibrary | MnnLibrary | LiteRtLibrary],
) -> None:
    with pytest.raises(LibraryError, match="no provider CUDAExecutionProvider"):
        library(1, "CUDAExecutionProvider")


def test_a_provider_that_falls_back_to_the_processor_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "00000.onnx"
    path.write_bytes(graph_of(NoOp(), 17, random_weights()).SerializeToString())
    assert OnnxRuntimeLibrary(1).open(path).get_providers() == [CPU]
    # As where a GPU's package is installed without the libraries that it loads.
    cuda, session = "CUDAExecutionProvider", onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda file, *_, providers: session(file, providers=[CPU]))
    with pytest.raises(LibraryError, match=f"{cuda} does not start here"):
        OnnxRuntimeLibrary(1, cuda).open(path)


@pytest.mark.parametrize("runtime", LIBRARIES)
def test_a_damaged_graph_is_an_error_in_one_sentence(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "00003.graph"
    path.write_bytes(b"other" * 100)
    with pytest.raises(LibraryError) as caught:
        LIBRARIES[runtime](1).open(path)
    assert "\n" not in str(caught.value)


def test_litert_refuses_a_graph_that_it_does_not_know() -> None:
    with pytest.raises(LibraryError, match=r"LiteRT .* cannot open a graph; install a newer version"):
        LiteRtLibrary(1).open_content(b"other" * 100)
