"""Batches on their way to the device while it computes."""

from collections.abc import Iterable, Iterator

import torch

from supernet.pose.augment import Batch
from supernet.pose.objective import to_device


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield each batch on ``device``.

    A GPU receives a batch beside its computations: the host, which runs ahead of it, sends the next batch while earlier
    steps are still being computed, and only the step that needs it waits for it.
    """
    if device.type != "cuda":
        for batch in batches:
            yield to_device(batch, device)
        return
    sending = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(sending):
            sent = to_device(batch, device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(sending)
        for tensor in (sent.images, sent.people, sent.mask):
            tensor.record_stream(computing)  # its memory is not to be given away before the step has used it
        yield sent
