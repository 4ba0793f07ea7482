"""Many short texts in one block of memory, which processes share without copying it."""

from collections.abc import Iterable

import numpy as np

from supernet.pose.data.shared_arrays import SharesArrays


class Texts(SharesArrays):
    """Texts by index; a list of as many objects would take several times the memory.

    Args:
        texts: The texts, in order.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._block = np.frombuffer(bytearray(b"".join(encoded)), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        """The text at ``index``, from 0."""
        start, end = self._ends[index : index + 2].tolist()
        return self._block[start:end].tobytes().decode("utf-8", "surrogatepass")
