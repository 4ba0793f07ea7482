"""One training run in several processes that ``torchrun`` starts, on one machine or many.

Every process holds all weights and takes the same steps; only the images are divided among them. They communicate
through :class:`Processes`, whose methods do nothing in a run of one process.
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
"""How long rank 0, which may keep the store, waits at an error for the others to ask it."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        index: Rank of this process, from 0.
        count: Number of processes.
        local_index: Rank among the processes of the same machine; the process takes the GPU of that number.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.index == 0

    def check_batch_size(self, batch_size: int, accumulate: int = 1) -> None:
        """Raise UserError if the processes, and the parts of each, cannot share a batch evenly."""
        if batch_size % self.count:
            raise UserError(f"batch_size must be a multiple of {self.count}, the number of processes, got {batch_size}")
        if batch_size % (self.count * accumulate):
            what = "accumulate" if self.count == 1 else f"accumulate times the {self.count} processes"
            raise UserError(
                f"batch_size must be a multiple of {what}, got batch_size={batch_size} and accumulate={accumulate}; "
                "change one of the two"
            )

    def device(self, name: str) -> torch.device:
        """Return the device of this process in a run on the device called ``name``; each process takes its own GPU.

        Raises:
            UserError: There is no such device, ``name`` is a single GPU for several processes, or the machine has more
                processes than GPUs.
        """
        device = pick_device(name)
        if self.count == 1 or device.type != "cuda":
            return device
        if ":" in name:
            raise UserError(f"device={name} is one GPU for {self.count} processes; use device=cuda, a GPU for each")
        num_gpus = torch.cuda.device_count()
        if self.local_index >= num_gpus:
            raise UserError(f"this machine has {num_gpus} GPUs; start at most that many processes on it")
        torch.cuda.set_device(self.local_index)
        return torch.device("cuda", self.local_index)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes, computed in place; shapes must agree."""
        return self.total(tensor).div_(self.count) if self.count > 1 else tensor

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, computed in place; shapes must agree."""
        if self.count > 1:
            with _explain_lost_process():
                dist.all_reduce(tensor)
        return tensor

    def means(self, scalars: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over all processes of each scalar, in one exchange."""
        return list(self.mean(torch.stack(list(scalars)))) if self.count > 1 else list(scalars)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process. All processes wait here for each other."""
        return bool(self.total(torch.tensor(float(flag)))) if self.count > 1 else flag

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every process's tensor (N, ...) on the CPU, in order; N may differ, the other sizes may not."""
        tensor = tensor.cpu().contiguous()
        if self.count == 1:
            return [tensor]
        with _explain_lost_process():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(tensor)]))
            padded = tensor.new_zeros(max(int(size) for size in sizes), *tensor.shape[1:])
            padded[: len(tensor)] = tensor
            gathered = [torch.empty_like(padded) for _ in range(self.count)]
            dist.all_gather(gathered, padded)
        return [part[: int(size)] for part, size in zip(gathered, sizes, strict=True)]

    def texts(self, text: str) -> list[str]:
        """Return every process's text, in order."""
        encoded = torch.tensor([*text.encode()], dtype=torch.uint8)
        return [bytes(part.tolist()).decode() for part in self.gather(encoded)]

    def lists(self, texts: Sequence[str]) -> list[str]:
        """Return the different texts of all processes, in order of rank."""
        return list(dict.fromkeys(text for own in self.texts(json.dumps(texts)) for text in json.loads(own)))

    def on_main(self, make: Callable[[], str]) -> str:
        """Call ``make`` in the main process only, and return its result in every process.

        Raises:
            UserError: ``make`` raised it; then every process does.
        """
        message = ""
        if self.is_main:
            try:
                message = "=" + make()
            except UserError as error:
                message = "!" + str(error)
        message = self.texts(message)[0]
        if message.startswith("!"):
            raise UserError(message[1:])
        return message[1:]

    @torch.no_grad()
    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors``, all float32 on one device, with those of the main process."""
        if self.count > 1:
            tensors = list(tensors)
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with _explain_lost_process():
                dist.broadcast(flat, 0)
            for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def check_same(self, what: str, text: str) -> None:
        """Raise RuntimeError unless ``text``, which describes ``what``, is the same in all processes."""
        if self.count > 1:
            texts = self.texts(text)
            for rank, other in enumerate(texts):
                if other != texts[0]:
                    raise RuntimeError(f"ranks disagree on {what}: rank 0 has {texts[0]}, rank {rank} has {other}")


SINGLE_PROCESS = Processes()
"""A run of one process."""


@contextmanager
def _explain_lost_process() -> Iterator[None]:
    """Replace a network error by its cause: another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError("another process of this run has ended or does not answer; its message says why") from error


@contextmanager
def process_group(timeout_seconds: float) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started for this run; without it, yield :data:`SINGLE_PROCESS`.

    If several processes raise the same UserError, only the first prints it; the others exit silently.

    Args:
        timeout_seconds: How long a process waits for the others before it ends with an error.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if count == 1:
        yield SINGLE_PROCESS
        return
    timeout = timedelta(seconds=timeout_seconds)
    store, index, count = next(rendezvous("env://", timeout=timeout))
    # Gradients on GPUs go through NCCL; everything else stays on CPUs and waits for no GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("ranks", store), rank=index, world_size=count, timeout=timeout)
    try:
        yield Processes(index, count, int(os.environ.get("LOCAL_RANK", "0")))
    except UserError as error:
        if _raises_first(store, str(error), index, count):
            raise
        raise SystemExit(2) from error
    dist.destroy_process_group()  # not after an error: it would wait for processes that have ended


def _raises_first(store: Store, message: str, index: int, count: int) -> bool:
    """Whether no other process has raised ``message`` yet."""
    try:
        is_first = bool(store.add(f"error {message}", 1) == 1)
        store.add("ending", 1)
        if index == 0:
            end = time.monotonic() + _LINGER_SECONDS
            while store.add("ending", 0) < count and time.monotonic() < end:
                time.sleep(0.05)
    except RuntimeError:
        return True  # the process that keeps the store has ended
    return is_first


def restarts() -> tuple[int, int]:
    """Return how often ``torchrun`` has restarted this job, and how often it may."""
    environment = os.environ
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")), int(
        environment.get("TORCHELASTIC_MAX_RESTARTS", "0")
    )
