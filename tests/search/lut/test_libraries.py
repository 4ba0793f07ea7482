"""What runs the graphs of a kit refuses what it cannot do."""

import pytest

from search.lut.libraries import LibraryError, MnnLibrary, NcnnLibrary


@pytest.mark.parametrize("library", [NcnnLibrary, MnnLibrary])
def test_a_provider_of_onnxruntime_is_refused_by_other_libraries(library: type[NcnnLibrary | MnnLibrary]) -> None:
    with pytest.raises(LibraryError, match="no provider CUDAExecutionProvider"):
        library(1, "CUDAExecutionProvider")
