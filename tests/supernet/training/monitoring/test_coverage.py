"""What was trained is counted: choices per phase, and weights that never had a gradient."""

import copy
from collections import Counter

import torch

from supernet.training.monitoring.coverage import Coverage, untrained_weights
from supernet.training.phases import Phase
from supernet.training.trainer import StepReport
from tests.helpers.training import EVERY, PHASES, tiny_trainer


def test_choices_are_counted_per_phase_and_weights_left_out_are_known() -> None:
    trainer = tiny_trainer()
    coverage = Coverage(trainer.scheduled)
    seen: Counter[tuple[str, str, int]] = Counter()
    ever: dict[str, torch.Tensor] = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in trainer.weights.items()}

    def on_step(report: StepReport) -> None:
        coverage.follow(report)
        for arch in report.archs:
            seen[report.phase, "stages[2].depth", len(arch.stages[2].kernel_sizes)] += 1
            seen[report.phase, "stages[1].width", arch.stages[1].width] += 1
            seen[report.phase, "resolution", arch.resolution] += 1
            for size in arch.stages[0].kernel_sizes:
                seen[report.phase, "stages[0].kernel_size", size] += 1

    trainer.run(on_step, lambda _: None)
    for (phase, place, choice), count in seen.items():
        assert coverage.counts[phase][place][choice] == count
    assert sum(coverage.counts["width"]["stages[1].width"].values()) == 6 * 3
    assert coverage.counts["largest"]["stages[1].width"] == {16: 4}  # no choice there yet
    assert coverage.never_trained() == []
    # Every weight of this space was part of some subnet, and had a gradient at least once.
    found = untrained_weights(trainer)
    assert found["num_never_trained"] == 0, found
    assert found["num_weights"] == sum(weight.numel() for weight in ever.values())


def test_choices_and_weights_that_no_step_trained_are_named() -> None:
    smallest = Phase("smallest", 1, EVERY, ("smallest",), 1e-2)
    trainer = tiny_trainer((smallest,), 2)
    coverage = Coverage(trainer.scheduled)
    trainer.run(coverage.follow, lambda _: None)
    expected = {"stages[0].kernel_size 5", "stages[1].width 16", "stages[2].depth 2", "stages[3].expand_ratio 2"}
    assert set(coverage.never_trained()) - {"resolution 32", "resolution 48"} == expected
    # All that the smallest subnet does not read, by a gradient of ones on what it does read.
    probe = copy.deepcopy(trainer.supernet)
    arch = probe.space.smallest()
    slices = probe.slices(arch, probe.templates(arch, True), buffers=False)
    torch.stack([value.sum() for value in slices.values()]).sum().backward()  # type: ignore[no-untyped-call]
    idle = sum(int((w.grad == 0).sum()) if w.grad is not None else w.numel() for w in probe.parameters())
    # Besides these a few that it does read: of channels that were negative all over both batches.
    assert 0 < idle <= untrained_weights(trainer)["num_never_trained"] < 1.01 * idle


def test_counts_go_on_after_a_resume_and_phases_on_other_sizes_leave_out_resolution() -> None:
    scaled = Phase("scaled", 1, EVERY, ("random",), 1e-2, resolution_scale=1.0)
    scheduled = tiny_trainer((*PHASES, scaled), 16).scheduled
    one, other = Coverage(scheduled), Coverage(scheduled)
    assert "resolution" not in one.counts["scaled"]
    one.counts["width"]["resolution"][32] = 5
    other.load_state(one.state())
    assert other.counts == one.counts
