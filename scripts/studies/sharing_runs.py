"""The trainings and scores of the study ``python -m scripts.studies.weight_sharing``, saved so that it can continue."""

import json
import math
import shutil
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import torch

from scripts.studies.new_head import with_new_head
from scripts.studies.sharing_archs import single_arch_space, spread_archs
from scripts.studies.sharing_plan import ALONE, RECIPE, Part, StudyPlan
from supernet.checkpoints.supernet_file import load_supernet, save_supernet
from supernet.cli.console import progress_bar
from supernet.cli.hydra_app import compose_config
from supernet.cli.signals import stop_request
from supernet.compute.device import pick_device
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from supernet.space import SearchSpace
from supernet.training.assembly import new_objective, new_supernet
from supernet.training.launch import start_or_resume
from supernet.training.phases import Phase, ScheduledPhase, schedule
from supernet.training.planning.step_costs import step_macs
from supernet.training.settings import TrainSettings
from supernet.training.setup import build_setup

FEW_IMAGES = 16
"""Images of the report that a training makes by itself; the study scores on all of them."""
SAMPLED_SEEDS = 4
"""Seeds over which the multiply-adds of random subnets are averaged."""
TUNING_RATE = 0.2
"""Rate of fine-tuning, relative to the last phase of a training alone."""


class Study:
    """A study in its folder.

    Args:
        folder: Folder of the study.
        plan: Options of the study.
        threads: Threads of the network on a CPU, None for all cores.

    Raises:
        UserError: The options of the plan are wrong or do not fit together.
    """

    def __init__(self, folder: Path, plan: StudyPlan, threads: int | None) -> None:
        self.folder, self.plan, self.threads = folder, plan, threads
        if (
            not plan.prices
            or not all(0 < price < math.inf for price in plan.prices)
            or plan.steps < 1
            or plan.tuning_steps < 0
        ):
            raise UserError(
                f"prices and steps must be finite and above 0, tuning_steps at least 0, got {list(plan.prices)}, "
                f"{plan.steps} and {plan.tuning_steps}"
            )
        if RECIPE in plan.strategies and plan.experiment is None:
            raise UserError(f"strategy {RECIPE} is that of an experiment; add --experiment NAME")
        overrides = [f"space={plan.space}", "report_random=0"]
        overrides += [*plan.changes, f"threads={'null' if threads is None else threads}"]
        recipe = ["phases=progressive" if plan.experiment is None else f"experiment={plan.experiment}", *overrides]
        self.base = compose_config("train", recipe)
        if plan.new_head and self.base["init"] is None:
            raise UserError("--new-head needs trained weights for the backbone; add --set init=CHECKPOINT")
        self._phases = {
            kind: self.base["phases"] if kind == RECIPE else compose_config("train", [f"phases={kind}"])["phases"]
            for kind in plan.strategies
        }
        self._phases[ALONE] = phases_of_largest(self.base["phases"])
        last_rate = self._phases[ALONE][-1]["learning_rate"]
        tuning = {"name": "tuning", "share": 1, "elastic": [], "subnets": ["largest"]}
        self._tuning_phases = [tuning | {"learning_rate": last_rate * TUNING_RATE}]
        if threads is not None:
            torch.set_num_threads(threads)
        cv2.setNumThreads(0)
        self.space = SearchSpace.from_dict(self.base["space"])
        self._macs_by_training: dict[tuple[str, int | None, bool], float] = {}
        self.keypoints = build(self.base["dataset"], "train").keypoints
        self.archs = spread_archs(self.space, plan.num_archs, self.keypoints.num, plan.arch_seed)
        for part in self.parts([0]):  # checks all options before anything is written
            from_mapping(TrainSettings, self.config(part), "")
            self.scheduled(part)

    def parts(self, seeds: Iterable[int]) -> list[Part]:
        """Return all parts by seed: supernets, archs alone, fine-tunings."""
        numbers = range(len(self.archs))
        parts = []
        for seed in seeds:
            supernets = [
                Part(kind, seed, None, price) for kind in self.plan.strategies for price in sorted(self.plan.prices)
            ]
            parts += [*supernets, *(Part(ALONE, seed, i) for i in numbers)]
            if self.plan.tuning_steps:
                parts += [Part(part.kind, seed, i, part.price) for part in supernets for i in numbers]
        return parts

    def config(self, part: Part) -> dict[str, Any]:
        """Return the plain configuration of ``python -m supernet.train`` for the training of ``part``."""
        config = self.base | {"seed": part.seed, "runs": str(self.folder / "runs"), "name": part.file_name}
        config |= {
            "steps": self.steps(part),
            "phases": self._tuning_phases if part.is_tuning else self._phases[part.kind],
        }
        if part.arch is not None:
            config["space"] = single_arch_space(self.archs[part.arch], f"{self.space.name}_{part.arch}").to_dict()
        if part.is_tuning:
            config["init"] = str(self.run_folder(part.supernet))
        elif self.base["init"] is not None:
            config["init"] = str(self.initial_supernet)
        dataset = config["dataset"]
        if "num_images" in dataset["test"]:
            few = min(FEW_IMAGES, dataset["test"]["num_images"])
            config["dataset"] = dataset | {"test": dataset["test"] | {"num_images": few}}
        return config

    def steps(self, part: Part) -> int:
        """Return the optimizer steps of the training of ``part``; those of a supernet follow from its price."""
        if part.price is None:
            return self.plan.steps
        if part.is_tuning:
            return self.plan.tuning_steps
        return max(1, round(part.price * self.mean_macs / self._step_macs(part)))

    def macs(self, part: Part) -> float:
        """Return the multiply-adds of the training of ``part``, for each image of a step."""
        return self.steps(part) * self._step_macs(part)

    @cached_property
    def mean_macs(self) -> float:
        """Multiply-adds of the training of an arch alone, for each image of a step, mean over the archs."""
        parts = (Part(ALONE, 0, number) for number in range(len(self.archs)))
        return statistics.mean(self.plan.steps * self._step_macs(part) for part in parts)

    def scheduled(self, part: Part) -> list[ScheduledPhase]:
        """Return the phases of ``part`` with their steps."""
        return self._scheduled(part, self.steps(part))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values of everything that must not change when the study continues."""
        return {"plan": self.plan.to_dict(), "phases": self._phases, "archs": [arch.to_dict() for arch in self.archs]}

    @property
    def num_threads(self) -> int:
        """Threads of the network on a CPU."""
        return torch.get_num_threads()

    @property
    def initial_supernet(self) -> Path:
        """The supernet from which all trainings start, if the recipe starts from trained weights."""
        return self.folder / "initial.pt"

    def run_folder(self, part: Part) -> Path:
        """Return the run folder of the training of ``part``."""
        return self.folder / "runs" / "train" / part.file_name

    def is_trained(self, part: Part) -> bool:
        """Whether the training of ``part`` is finished."""
        return (self.run_folder(part) / "summary.json").exists()

    def steps_done(self, part: Part) -> int:
        """Return the number of logged steps of ``part``."""
        if self.is_trained(part):
            return self.steps(part)
        with suppress(OSError, ValueError, IndexError):  # no log yet, or its last line is incomplete
            lines = (self.run_folder(part) / "train.jsonl").read_text("utf-8").splitlines()
            return int(json.loads(lines[-1])["step"]) + 1
        return 0

    def arch_numbers(self, part: Part) -> list[int]:
        """Return the numbers of the archs that ``part`` scores."""
        return list(range(len(self.archs))) if part.arch is None else [part.arch]

    def score(self, part: Part, arch: int) -> dict[str, float] | None:
        """Return the metrics of arch number ``arch`` after the training of ``part``, None if there are none yet."""
        path = self._score_file(part, arch)
        if not path.exists():
            return None
        metrics: dict[str, float] = files.read_json(path, "score")["metrics"]
        return metrics

    def ap(self, part: Part, arch: int) -> float | None:
        """Return the AP of arch number ``arch`` after the training of ``part``, None if there is none yet."""
        metrics = self.score(part, arch)
        return None if metrics is None else metrics["AP"]

    def train_seconds(self, part: Part) -> float | None:
        """Return the seconds of the training of ``part`` without its final scores, None if it is not finished."""
        path = self.run_folder(part) / "summary.json"
        if not path.exists():
            return None
        seconds: float = files.read_json(path, "summary")["train_seconds"]
        return seconds

    def is_done(self, part: Part) -> bool:
        """Whether ``part`` is trained and all its scores exist."""
        return all(self._score_file(part, arch).exists() for arch in self.arch_numbers(part))

    def train(self, part: Part) -> None:
        """Train ``part``, or continue where an interrupted run of it stopped; fine-tuning needs its supernet trained.

        Raises:
            UserError: The training was stopped or failed, or its supernet is missing.
        """
        folder = self.run_folder(part)
        if self.is_trained(part):
            return
        if part.is_tuning and not self.is_trained(part.supernet):
            raise UserError(f"part {part.name} needs the supernet of part {part.supernet.name}; run that one first")
        config = self.config(part)
        if any(folder.glob("checkpoint*")):
            resumed = config | {"resume": str(folder)}
            start_or_resume(resumed, [f"resume={folder}", f"threads={self.threads}"])
            return
        if folder.exists():  # stopped before its first checkpoint
            shutil.rmtree(folder)
        if config["init"] is not None and not part.is_tuning:
            self._save_initial_supernet()
        start_or_resume(config, [])

    def run(self, part: Part) -> None:
        """Train and score ``part``, or continue where an interrupted run of it stopped.

        Raises:
            UserError: The training or scoring was stopped, or the training failed.
        """
        self.train(part)
        trained = load_supernet(self.run_folder(part))
        settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
        supernet = trained.supernet.to(pick_device(self.base["device"]))
        scorer = SubnetScorer(supernet, *self._images, settings, self.base["num_calibration_images"])
        missing = [arch for arch in self.arch_numbers(part) if not self._score_file(part, arch).exists()]
        with progress_bar() as progress, stop_request() as stop_requested:
            task = progress.add_task("scoring", total=len(missing), note="")
            for arch in missing:
                metrics = scorer(self.archs[arch]).metrics
                value = {"part": part.name, "seed": part.seed, "arch": self.archs[arch].to_dict(), "metrics": metrics}
                files.write_json(self._score_file(part, arch), value)
                progress.update(task, advance=1, note=f"arch {arch}: AP {metrics['AP']:.3f}")
                if stop_requested():
                    raise UserError(f"stopped after a score of {part.name}; run the same command to continue")

    @cached_property
    def _images(self) -> tuple[CachedDataset, CachedDataset]:
        """Images to calibrate subnets on, and images to score them on."""
        return CachedDataset(build(self.base["dataset"], "train")), CachedDataset(build(self.base["dataset"], "test"))

    def _scheduled(self, part: Part, steps: int) -> list[ScheduledPhase]:
        values = self._tuning_phases if part.is_tuning else self._phases[part.kind]
        phases = [from_mapping(Phase, phase, "phases") for phase in values]
        return schedule(phases, self._space(part), steps)

    def _space(self, part: Part) -> SearchSpace:
        return self.space if part.arch is None else single_arch_space(self.archs[part.arch], self.space.name)

    def _step_macs(self, part: Part) -> float:
        """Return the multiply-adds per image of a mean step of ``part``."""
        key = (part.kind, part.arch, part.is_tuning)
        if key not in self._macs_by_training:
            largest, num, steps = self._space(part).largest(), self.keypoints.num, self.plan.steps
            self._macs_by_training[key] = statistics.mean(
                (phase.stop - phase.start) / steps * step_macs(phase, largest, num, seed) * len(phases)
                for phases in [self._scheduled(part, steps)]
                for phase in phases
                for seed in range(SAMPLED_SEEDS)
            )
        return self._macs_by_training[key]

    def _save_initial_supernet(self) -> None:
        """Write the supernet that the recipe's ``init`` gives, from which archs alone can be cut."""
        if self.initial_supernet.exists():
            return
        settings = from_mapping(TrainSettings, self.base, "")
        torch.manual_seed(0)
        setup = build_setup(settings, SINGLE_PROCESS)
        supernet = new_supernet(setup, SINGLE_PROCESS, is_resumed=False)
        if self.plan.new_head:
            with_new_head(supernet, seed=0)
        evaluation, objective = asdict(settings.evaluation), new_objective(setup)
        state = supernet.state_dict()
        save_supernet(self.initial_supernet, self.space, state, setup.keypoints, setup.dataset, evaluation, objective)

    def _score_file(self, part: Part, arch: int) -> Path:
        return self.folder / "scores" / f"{part.file_name}_arch_{arch}.json"


def phases_of_largest(phases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of a supernet's phases that train its largest subnet alone; without any, all, as if they did.

    They are the training recipe of a single network, with the same learning rates and share of small inputs. Shares of
    phases are relative, so without the other phases they are stretched to all steps.
    """
    alone = []
    for value in phases:
        phase = from_mapping(Phase, value, "phases")
        if set(phase.subnets) == {"largest"} and phase.teacher == "none":
            alone.append(value)
    return alone or [{**value, "subnets": ["largest"], "teacher": "none"} for value in phases]
