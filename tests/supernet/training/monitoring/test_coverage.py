"""Coverage: choices trained per phase, and weights that never had a gradient."""

import copy
from collections import Counter

import pytest
import torch

from supernet.pose.keypoints import COCO
from supernet.space import SearchSpace
from supernet.training.monitoring.coverage import Coverage, untrained_weights
from supernet.training.monitoring.monitor import warn_untrained
from supernet.training.phases import Phase
from tests.helpers.training import EVERY, PHASES, SPACE, steps, tiny_trainer


def test_choices_are_counted_per_phase_and_weights_left_out_are_known() -> None:
    trainer = tiny_trainer()
    coverage = Coverage(trainer.scheduled)
    expected: Counter[tuple[str, str, int]] = Counter()
    for report in steps(trainer):
        coverage.follow(report)
        for arch in report.archs:
            expected[report.phase, "stages[2].depth", len(arch.stages[2].kernel_sizes)] += 1
            expected[report.phase, "stages[1].width", arch.stages[1].width] += 1
            expected[report.phase, "resolution", arch.resolution] += 1
            for size in arch.stages[0].kernel_sizes:
                expected[report.phase, "stages[0].kernel_size", size] += 1
    for (phase, place, choice), count in expected.items():
        assert coverage.counts[phase][place][choice] == count
    assert sum(coverage.counts["width"]["stages[1].width"].values()) == 6 * 3
    assert coverage.counts["largest"]["stages[1].width"] == {16: 4}  # no choice there yet
    assert coverage.never_trained() == []
    # Every weight of this space was part of some subnet, and had a gradient at least once.
    untrained = untrained_weights(trainer)
    assert untrained["num_never_trained"] == 0, untrained
    assert untrained["num_weights"] == sum(weight.numel() for weight in trainer.weights.values())


def test_choices_and_weights_that_no_step_trained_are_named() -> None:
    smallest = Phase("smallest", 1, EVERY, ("smallest",), 1e-2)
    trainer = tiny_trainer((smallest,), 2)
    coverage = Coverage(trainer.scheduled)
    for report in steps(trainer):
        coverage.follow(report)
    expected = {"stages[0].kernel_size 5", "stages[1].width 16", "stages[2].depth 2", "stages[3].expand_ratio 2"}
    assert set(coverage.never_trained()) - {"resolution 32", "resolution 48"} == expected
    # The weights that the smallest subnet does not read have no gradient of the sum of those it reads.
    probe = copy.deepcopy(trainer.supernet)
    arch = probe.space.smallest()
    slices = probe.slices(arch, probe.templates(arch, True), buffers=False)
    torch.stack([value.sum() for value in slices.values()]).sum().backward()  # type: ignore[no-untyped-call]
    idle = sum(int((w.grad == 0).sum()) if w.grad is not None else w.numel() for w in probe.parameters())
    # A few more have no gradient: those of channels that were negative everywhere in both batches.
    assert 0 < idle <= untrained_weights(trainer)["num_never_trained"] < 1.01 * idle


def test_what_lies_on_the_way_to_the_smallest_kernels_and_is_cut_off_is_not_untrained() -> None:
    plain = SPACE.to_dict()
    plain["stages"][0]["kernel_sizes"] = [3, 7]
    space, phases = SearchSpace.from_dict(plain), (Phase("both", 1, EVERY, ("largest", "smallest"), 1e-2),)
    trainer = tiny_trainer(phases, 2, space=space)
    trained = untrained_weights(trainer)["num_weights"]
    assert trained == sum(weight.numel() for weight in trainer.weights.values()) - 25 * (25 - 9)
    for _ in steps(trainer):
        pass
    assert not any("kernel_transforms" in name for name in untrained_weights(trainer)["never_trained"])


def test_tags_that_had_nothing_to_learn_from_are_no_matter_of_elastic_dimensions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = tiny_trainer()
    for _ in steps(trainer):
        pass
    by_name = trainer.adam.moments_by_name(trainer.weights)[1]
    for layer in ("final_refined", "final_raw"):  # as after steps on single people of one keypoint
        by_name[f"network.{layer}.0.conv.3.weight"][COCO.num :] = 0.0
    summary = {"choices_never_trained": [], "weights": untrained_weights(trainer)}
    warn_untrained(summary)
    assert "of the tags were never trained" in caplog.text
    by_name["network.first.0.0.weight"][0] = 0.0
    caplog.clear()
    warn_untrained(summary | {"weights": untrained_weights(trainer)})
    assert "make their dimension elastic" in caplog.text


def test_counts_go_on_after_a_resume_and_phases_on_other_sizes_leave_out_resolution() -> None:
    scaled = Phase("scaled", 1, EVERY, ("random",), 1e-2, resolution_scale=1.0)
    scheduled = tiny_trainer((*PHASES, scaled), 16).scheduled
    before, resumed = Coverage(scheduled), Coverage(scheduled)
    assert "resolution" not in before.counts["scaled"]
    before.counts["width"]["resolution"][32] = 5
    resumed.load_state(before.state())
    assert resumed.counts == before.counts
