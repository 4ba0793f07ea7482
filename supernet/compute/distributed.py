"""One training run in several processes (ranks) that ``torchrun`` starts, on one machine or many.

Every rank holds all weights and does the same steps; only the images are shared out. What the ranks bring together
goes through :class:`Processes`, whose methods do nothing in a run of one process.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from supernet.compute.device import pick_device
from supernet.errors import UserError

_LINGER_SECONDS = 3.0


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        index: This process, from 0.
        count: Processes in all.
        local_index: This process among those of its machine; it takes the GPU of that number.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.index == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Raise UserError if the processes cannot share a batch evenly."""
        if batch_size % self.count:
            raise UserError(
                f"batch_size is {batch_size}, which {self.count} processes cannot share evenly; "
                f"make it a multiple of {self.count}"
            )

    def device(self, name: str) -> torch.device:
        """Return where this process computes in a run on the device called ``name``: of GPUs, each takes its own.

        Raises:
            UserError: No such device, one GPU named for several processes, or more processes than GPUs on a machine.
        """
        device = pick_device(name)
        if self.count == 1 or device.type != "cuda":
            return device
        if ":" in name:
            raise UserError(f"device={name} is one GPU for {self.count} processes; give cuda, each takes its own")
        found = torch.cuda.device_count()
        if self.local_index >= found:
            raise UserError(f"this machine has {found} GPUs; start at most as many processes on it")
        torch.cuda.set_device(self.local_index)
        return torch.device("cuda", self.local_index)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over all ranks, computed in place; shapes must agree."""
        return self.total(tensor).div_(self.count) if self.count > 1 else tensor

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks, computed in place; shapes must agree."""
        if self.count > 1:
            with _told():
                dist.all_reduce(tensor)
        return tensor

    def means(self, scalars: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over all ranks of each scalar, in one exchange."""
        return list(self.mean(torch.stack(list(scalars)))) if self.count > 1 else list(scalars)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return bool(self.total(torch.tensor(float(flag)))) if self.count > 1 else flag

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every rank's tensor (N, ...) on the CPU, in order; N may differ, the rest may not."""
        tensor = tensor.cpu().contiguous()
        if self.count == 1:
            return [tensor]
        with _told():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(tensor)]))
            most = max(int(size) for size in sizes)
            padded = tensor.new_zeros(most, *tensor.shape[1:])
            padded[: len(tensor)] = tensor
            found = [torch.empty_like(padded) for _ in range(self.count)]
            dist.all_gather(found, padded)
        return [each[: int(size)] for each, size in zip(found, sizes, strict=True)]

    def texts(self, text: str) -> list[str]:
        """Return every rank's text, in order."""
        encoded = torch.tensor([*text.encode()], dtype=torch.uint8)
        return [bytes(each.tolist()).decode() for each in self.gather(encoded)]

    def lists(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of all ranks, each once, in order of rank."""
        return list(dict.fromkeys(text for own in self.texts(json.dumps(texts)) for text in json.loads(own)))

    def of_main(self, make: Callable[[], str]) -> str:
        """Return what ``make`` returns on the main rank, the only one to call it.

        Raises:
            UserError: ``make`` raised it; then every rank does.
        """
        told = ""
        if self.is_main:
            try:
                told = "=" + make()
            except UserError as error:
                told = "!" + str(error)
        told = self.texts(told)[0]
        if told.startswith("!"):
            raise UserError(told[1:])
        return told[1:]

    @torch.no_grad()
    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors``, all float32 on one device, with those of the main rank."""
        if self.count > 1:
            tensors = list(tensors)
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with _told():
                dist.broadcast(flat, 0)
            for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def check_same(self, what: str, text: str) -> None:
        """Raise RuntimeError unless ``text``, which describes ``what``, is the same on all ranks."""
        if self.count > 1:
            found = self.texts(text)
            if len(set(found)) > 1:
                other = next(i for i, each in enumerate(found) if each != found[0])
                raise RuntimeError(f"ranks disagree on {what}: rank 0 has {found[0]}, rank {other} has {found[other]}")


SINGLE_PROCESS = Processes()
"""A run of one process."""


@contextmanager
def _told() -> Iterator[None]:
    """Say in place of a network error what it means."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError("another process of this run has ended or does not answer; its message says why") from error


@contextmanager
def process_group(timeout_seconds: float) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started for this run; without it, yield :data:`SINGLE_PROCESS`.

    A mistake of the user's that several ranks find is told by the first of them, and the others end quietly.

    Args:
        timeout_seconds: How long a rank waits for the others before it gives up with an error.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if count == 1:
        yield SINGLE_PROCESS
        return
    timeout = timedelta(seconds=timeout_seconds)
    store, index, count = next(rendezvous("env://", timeout=timeout))
    # Gradients on GPUs go through NCCL; what steers the run stays on CPUs and waits for no GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("ranks", store), rank=index, world_size=count, timeout=timeout)
    try:
        yield Processes(index, count, int(os.environ.get("LOCAL_RANK", "0")))
    except UserError as error:
        if _is_first_to_tell(store, str(error), index, count):
            raise
        raise SystemExit(2) from error
    dist.destroy_process_group()  # not after an error: it would wait for ranks that have ended


def _is_first_to_tell(store: Store, message: str, index: int, count: int) -> bool:
    """Whether no other rank has told ``message`` yet."""
    try:
        is_first = bool(store.add(f"told {message}", 1) == 1)
        store.add("ending", 1)
        if index == 0:  # may keep the store, which the others are about to ask
            end = time.monotonic() + _LINGER_SECONDS
            while store.add("ending", 0) < count and time.monotonic() < end:
                time.sleep(0.05)
    except RuntimeError:
        return True  # the rank that keeps the store has ended
    return is_first


def restarts() -> tuple[int, int]:
    """Return how often ``torchrun`` has restarted this job, and how often it may."""
    environment = os.environ
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")), int(
        environment.get("TORCHELASTIC_MAX_RESTARTS", "0")
    )
