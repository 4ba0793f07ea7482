"""What runs the graphs of a kit refuses what it cannot do."""

import pytest

from search.lut.libraries import LibraryError, LiteRtLibrary, MnnLibrary, NcnnLibrary


@pytest.mark.parametrize("library", [NcnnLibrary, MnnLibrary, LiteRtLibrary])
def test_a_provider_of_onnxruntime_is_refused_by_other_libraries(
    library: type[NcnnLibrary | MnnLibrary | LiteRtLibrary],
) -> None:
    with pytest.raises(LibraryError, match="no provider CUDAExecutionProvider"):
        library(1, "CUDAExecutionProvider")


def test_litert_refuses_a_graph_that_it_does_not_know() -> None:
    with pytest.raises(LibraryError, match=r"LiteRT .* cannot open a graph; install a newer version"):
        LiteRtLibrary(1).open_content(b"other" * 100)
