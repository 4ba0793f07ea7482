"""What runs the graphs of a kit refuses what it cannot do."""

from pathlib import Path

import pytest

from search.lut.libraries import LIBRARIES, LibraryError, LiteRtLibrary, MnnLibrary, NcnnLibrary


@pytest.mark.parametrize("library", [NcnnLibrary, MnnLibrary, LiteRtLibrary])
def test_a_provider_of_onnxruntime_is_refused_by_other_libraries(
    library: type[NcnnLibrary | MnnLibrary | LiteRtLibrary],
) -> None:
    with pytest.raises(LibraryError, match="no provider CUDAExecutionProvider"):
        library(1, "CUDAExecutionProvider")


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
