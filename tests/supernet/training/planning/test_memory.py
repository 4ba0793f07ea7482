"""The predicted memory of a step is what the allocator hands out, and a training that cannot fit does not start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from supernet import depthwise
from supernet.compute.device import DeviceMemory, device_memory
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.live_memory import LiveMemory
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.space import SearchSpace
from supernet.training.assembly import new_objective, new_supernet
from supernet.training.planning import memory
from supernet.training.planning.memory import StepKind, check_memory, kinds, phase_bytes, step_bytes
from supernet.training.settings import TrainSettings
from supernet.training.setup import TrainingSetup, build_setup
from supernet.training.trainer import Trainer
from tests.supernet.test_train import configuration


def setup_of(tmp_path: Path, **changes: Any) -> TrainingSetup:
    return build_setup(from_mapping(TrainSettings, configuration(tmp_path, **changes), ""), SINGLE_PROCESS)


def allocations(events: list[Any], is_operation: bool = False) -> list[tuple[int, int, int]]:
    """Time, address and bytes (negative: freed) of all tensors that a profiler's tree of events allocates and frees.

    What an operation takes and then gives back itself is no tensor but the workspace of its kernel: tens of megabytes
    for the gradient of a large depthwise kernel on a processor with AVX-512, less on others.
    """
    found: list[tuple[int, int, int]] = []
    taken: dict[int, tuple[int, int, int]] = {}
    for event in sorted(events, key=lambda event: event.start_time_ns):
        found += allocations(event.children, is_operation=True)
        if event.tag != torch._C._profiler._EventType.Allocation:
            continue
        address, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if is_operation and size < 0 and address in taken:
            found.remove(taken.pop(address))
            continue
        found.append((event.start_time_ns, address, size))
        if size > 0:
            taken[address] = found[-1]
    return found


def measured_bytes(setup: TrainingSetup, kind: StepKind) -> int:
    """The most that PyTorch's allocator has handed out, by the profiler, in a real step on the CPU."""
    scheduled, settings = memory._phase_of(setup, kind), setup.settings
    batches = [memory._batch(settings.batch_size, kind.resolution, setup.keypoints.num, torch.device("cpu"))] * 2
    for tensor in (batches[0].images, batches[0].people, batches[0].mask):
        tensor.zero_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        supernet = new_supernet(setup, SINGLE_PROCESS, is_resumed=True)
        trainer = Trainer(supernet, new_objective(setup), setup.train_set, [scheduled], settings)
        if kind.has_frozen_teacher:
            trainer.teacher = trainer.averaged()
        batches = [replace(batches[0], images=batches[0].images.clone(), mask=batches[0].mask.clone()) for _ in batches]
        trainer.train_step(scheduled, batches[0], 0.0)
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    events = allocations(recorded.profiler.kineto_results.experimental_event_tree())
    own: set[int] = set()  # addresses; what earlier tests had allocated may be freed meanwhile
    current = peak = 0
    for _, address, size in sorted(events):
        if size > 0:
            own.add(address)
        if address in own:
            current += size
        if size < 0:
            own.discard(address)
        peak = max(peak, current)
    return peak


@pytest.fixture
def native_depthwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depthwise convolutions as on other devices: the weight gradient of a CPU takes more memory for a moment."""
    monkeypatch.setattr(depthwise, "_STRIP", 99)


@pytest.mark.usefixtures("native_depthwise")
@pytest.mark.parametrize(("precision", "accumulate"), [("float32", 1), ("bfloat16", 1), ("float32", 4)])
def test_the_prediction_is_what_a_step_takes(precision: str, accumulate: int, tmp_path: Path) -> None:
    space = SearchSpace.load("nano").to_dict()
    setup = setup_of(tmp_path, space=space, batch_size=8, precision=precision, accumulate=accumulate)
    kind = kinds(setup)[-1]
    assert (kind.resolution, kind.num_subnets, kind.has_frozen_teacher) == (160, 2, True)
    predicted = step_bytes(setup, SINGLE_PROCESS, kind, accumulate)
    assert predicted == pytest.approx(measured_bytes(setup, kind), rel=0.02)


def test_parts_save_what_their_activations_take(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, space=SearchSpace.load("nano").to_dict(), batch_size=32)
    kind = kinds(setup)[-1]
    whole, half, quarter = (step_bytes(setup, SINGLE_PROCESS, kind, accumulate) for accumulate in (1, 2, 4))
    assert whole - half == pytest.approx(2 * (half - quarter), rel=0.05)  # what is left is weights, moments and images
    assert half < 0.6 * whole


def test_processes_divide_the_images(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, batch_size=8)
    halved = replace(setup, settings=replace(setup.settings, batch_size=4))
    kind = kinds(setup)[0]
    assert step_bytes(setup, Processes(0, 2), kind, 1) == step_bytes(halved, SINGLE_PROCESS, kind, 1)


def test_a_phase_has_the_largest_size_of_its_inputs_and_keeps_the_frozen_teacher(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    found = kinds(setup)
    assert [kind.resolution for kind in found] == [max(scheduled.resolutions) for scheduled in setup.scheduled]
    assert [kind.has_frozen_teacher for kind in found] == [False, False, True, True, True, True]
    assert found[1].is_below(found[-1])
    assert not found[-1].is_below(found[1])
    sizes = phase_bytes(setup, SINGLE_PROCESS)
    assert sizes[-1] == max(sizes)


@pytest.fixture
def on_a_gpu(tmp_path: Path) -> TrainingSetup:
    setup = setup_of(tmp_path, batch_size=8, precision="float32")
    return replace(setup, device=torch.device("cuda"))


def set_memory(monkeypatch: pytest.MonkeyPatch, free: int, total: int) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda _: DeviceMemory(free, total))


def test_a_training_that_cannot_fit_is_refused_with_what_helps(
    on_a_gpu: TrainingSetup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind = kinds(on_a_gpu)[-1]
    whole, half = (step_bytes(on_a_gpu, SINGLE_PROCESS, kind, accumulate) for accumulate in (1, 2))
    set_memory(monkeypatch, free=whole, total=whole)
    check_memory(on_a_gpu, SINGLE_PROCESS)
    assert not caplog.records
    set_memory(monkeypatch, free=half, total=half)
    with pytest.raises(UserError, match=rf"phase .* {kind.resolution} px for 8 images.* use accumulate=2$"):
        check_memory(on_a_gpu, SINGLE_PROCESS)
    set_memory(monkeypatch, free=half, total=whole)  # another program takes the rest, perhaps not for long
    check_memory(on_a_gpu, SINGLE_PROCESS)
    assert "use accumulate=2" in caplog.text
    set_memory(monkeypatch, free=1000, total=1000)
    with pytest.raises(UserError, match="lower the largest resolution"):
        check_memory(on_a_gpu, SINGLE_PROCESS)


def test_memory_is_counted_until_it_is_freed() -> None:
    with LiveMemory("cpu") as live:
        first = torch.zeros(1024)
        view = first[10:]
        assert live.current == 4096
        del first
        assert live.current == 4096
        second = view + 1
        del view
        assert (live.current, live.peak) == (-(-4 * 1014 // 512) * 512, 8192)
        del second
    assert live.current == 0


def test_the_memory_of_this_machine_is_known() -> None:
    found = device_memory(torch.device("cpu"))
    assert found is None or 0 < found.free <= found.total
