"""Train, search, export and predict from Python, without command lines.

For example::

    from search.api import train

    supernet = train(minutes=10)
    result = supernet.search(macs="80M")
    model = result.best.export("onnx")
    people = model("photo.jpg")
    people.save("people.jpg")

Every step writes the same run folder as its command, so that both can continue from what the other has done. Options
have the names and defaults of the files in ``conf/``. A mistake raises :class:`supernet.errors.UserError` with one
sentence; Ctrl-C stops at a clean point and raises it, too. Importing this module is quick: torch comes with the first
call.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from search.api_options import Values, as_path, dataset_values, plain, search_config
from supernet.errors import UserError

if TYPE_CHECKING:
    from subnet_export.exported_model import ExportedModel
    from supernet.arch import Arch
    from supernet.checkpoints.supernet_file import TrainedSupernet
    from supernet.pose.keypoints import KeypointSet
    from supernet.space import SearchSpace

Quantity = str | int | float | None
"""A number, with a unit such as "80M", "30ms", "64MB", or a share of the largest subnet's ("40%")."""


def train(
    *,
    space: Values = None,
    dataset: Values = None,
    phases: str | None = None,
    experiment: str | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    show: bool = True,
    **options: Any,
) -> "Supernet":
    """Train a supernet: what ``litepose train`` does.

    Args:
        space: The search space: a name in ``conf/space`` or its values; "nano" by default.
        dataset: The data set: a name in ``conf/dataset`` or its values; the built-in people by default.
        phases: How to train: "elastic" (the default), "progressive" or "sandwich".
        experiment: A recipe in ``conf/experiment``.
        dataset_options: Changes of the data set, such as ``{"root": "/data/coco"}``.
        show: Whether to show progress and the final table.
        **options: Any other option of ``conf/train.yaml``, such as ``steps=2000``, ``minutes=60``, ``seed=1``,
            ``init="pretrained:photos"``, ``name="mine"`` or ``resume="latest"``. Mappings change single entries of
            nested options: ``augmentation={"flip_probability": 0.0}``.

    Returns:
        The supernet in its run folder, ``runs/train/<time or name>``.

    Raises:
        UserError: An option is wrong, a file is missing, or the run was stopped; the message says how to continue.
    """
    from supernet.cli.console import console_shown
    from supernet.cli.extras import TRAINING, require
    from supernet.cli.hydra_app import compose_values

    require("train", "training", TRAINING)
    from supernet.training.launch import start_or_resume
    from supernet.training.settings import TrainSettings

    chosen = plain({"space": space, "dataset": dataset, "phases": phases, "experiment": experiment})
    changed = {} if dataset_options is None else {"dataset": plain(dataset_options, "dataset_options")}
    values = plain(options) | changed
    config = compose_values("train", chosen, values)
    known = TrainSettings.__dataclass_fields__
    if misplaced := [name for name in options if name not in known and name in config["dataset"]]:
        name = misplaced[0]
        raise UserError(f'{name} is an option of the data set; write dataset_options={{"{name}": ...}}')
    if config["dry_run"]:
        raise UserError("dry_run=true trains nothing and so gives no supernet; use it with the command litepose train")
    given = [*values, *(name for name, value in chosen.items() if value is not None)]
    with console_shown(show):
        return Supernet.load(start_or_resume(config, [f"{name}={values.get(name)}" for name in given]))


@dataclass(frozen=True)
class Supernet:
    """A trained supernet.

    Attributes:
        path: Its file, ``supernet.pt``.
    """

    path: Path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return a supernet by the folder of its training run, its file, or its name (``pretrained:photos``).

        Raises:
            UserError: There is no such file, or it is not a supernet.
        """
        from supernet.checkpoints.supernet_file import load_supernet

        trained = load_supernet(path)
        supernet = cls(trained.path.absolute())  # a notebook may change its folder
        supernet.__dict__["trained"] = trained  # what the cached property below would read again
        return supernet

    @cached_property
    def trained(self) -> "TrainedSupernet":
        """The weights with the data set, the objective and the evaluation settings."""
        from supernet.checkpoints.supernet_file import load_supernet

        return load_supernet(self.path)

    @property
    def space(self) -> "SearchSpace":
        """The search space."""
        return self.trained.supernet.space

    @property
    def keypoints(self) -> "KeypointSet":
        """The keypoints that it predicts."""
        return self.trained.keypoints

    def subnet(self, arch: "Arch | str | Path | Literal['largest', 'smallest']") -> "Subnet":
        """Return one subnet: an arch, its file, "largest" or "smallest".

        Raises:
            UserError: The file cannot be read, or the arch is outside the space.
        """
        from supernet.arch import Arch
        from supernet.costs.analytic import params_and_macs

        if isinstance(arch, str) and arch in ("largest", "smallest"):
            arch = self.space.largest() if arch == "largest" else self.space.smallest()
        elif not isinstance(arch, Arch):
            arch = Arch.load(as_path(arch, 'an arch is "largest", "smallest", an Arch or its file'))
        self.space.check(arch)
        return Subnet(self, arch, dict(params_and_macs(arch, self.keypoints.num)), {})

    def search(
        self,
        *,
        macs: Quantity = None,
        params: Quantity = None,
        memory: Quantity = None,
        latency: Quantity = None,
        constraint: Values = None,
        dataset: Values = None,
        dataset_options: Mapping[str, Any] | None = None,
        engine: Literal["evolution", "optuna"] = "evolution",
        show: bool = True,
        **options: Any,
    ) -> "SearchResult":
        """Search the best subnet within a budget: what ``litepose search`` and ``litepose optuna`` do.

        Args:
            macs: Most multiply-adds for one input at the subnet's resolution.
            params: Most parameters.
            memory: Most bytes of activations at a time, float32, with their unit ("64MB").
            latency: Longest latency, with its unit ("30ms"), predicted by ``latency_table=FILE``.
            constraint: Another budget to start from: a class of LitePose in ``conf/constraint`` ("xs", "s", "m", "l").
            dataset: Search on this data set instead of the supernet's: a name in ``conf/dataset`` or its values.
            dataset_options: Changes of the data set.
            engine: "optuna" needs the extra ``optuna``.
            show: Whether to show progress and the final table.
            **options: Any other bound (``macs_paper``, ``weights``, and the least of each with the prefix ``min_``) and
                any option of ``conf/evolve.yaml`` or ``conf/optuna_search.yaml``, such as ``num_images=50``,
                ``objectives=["ap", "macs"]`` or ``seed=1``.

        Raises:
            UserError: An option is wrong, no subnet fits the budget, or the search was stopped; the message says how to
                continue. ``supernet`` is no option here: this supernet is searched.
        """
        from supernet.cli.console import console_shown
        from supernet.cli.extras import SEARCH, require

        require("search", "a search", SEARCH)
        if "supernet" in options:
            raise UserError(
                f"search does not take supernet, because it searches {self.path}; search another supernet with "
                "Supernet.load(PATH).search(...)"
            )
        bounds = {"macs": macs, "params": params, "memory": memory, "latency": latency}
        groups = {"constraint": constraint, "dataset": dataset_values(dataset, dataset_options, self.trained.dataset)}
        config, given = search_config(engine, groups, bounds, options | {"supernet": self.path})
        with console_shown(show):
            if engine == "optuna":
                from search.optuna_search import search

                return SearchResult.load(search(config))
            from search.runs.evolution_run import start_or_resume

            return SearchResult.load(start_or_resume(config, given))


@dataclass(frozen=True)
class Subnet:
    """One subnet of a supernet.

    Attributes:
        supernet: Where its weights are.
        arch: Its architecture.
        costs: By name: ``macs``, ``params`` and, from a search, ``memory``, ``latency_ms`` and others.
        metrics: ``AP``, ``AP50`` and others by the split they were measured on, "val" or "test"; -1 for a stratum
            without people. Empty before a search.
    """

    supernet: Supernet = field(repr=False)
    arch: "Arch" = field(repr=False)
    costs: dict[str, float]
    metrics: dict[str, dict[str, float]]

    def export(
        self,
        *formats: str,
        output: str | Path | None = None,
        dataset: Values = None,
        dataset_options: Mapping[str, Any] | None = None,
        runs: str | Path = "runs",
        device: str = "auto",
        show: bool = True,
        **options: Any,
    ) -> "ExportedModel":
        """Extract the subnet, calibrate and measure it, and write it: what ``litepose export`` does.

        Args:
            *formats: Formats besides LitePose's own, such as "onnx"; every file is compared with the network.
            output: The new folder; ``runs/export/<time>`` by default.
            dataset: Calibrate and measure on this data set instead of the supernet's.
            dataset_options: Changes of the data set.
            runs: Folder of all runs.
            device: "auto", "cpu" or "cuda".
            show: Whether to show progress.
            **options: Fields of :class:`subnet_export.exporting.settings.ExportSettings`, such as ``num_images=100``.

        Returns:
            The model as read back from its folder. It runs in the first of ``formats`` that this project runs, else in
            PyTorch.

        Raises:
            UserError: An option is wrong, a package is missing, or a file does not agree with the network.
        """
        from subnet_export.deployment.formats import LOADABLE, parse_formats
        from subnet_export.exporting.format_options import check_options
        from subnet_export.exporting.run import check_packages, figures_of, write_model
        from subnet_export.exporting.settings import ExportSettings
        from subnet_export.exporting.subnet import measured_subnet
        from subnet_export.model import load_model
        from subnet_export.runs import locked, prepare_process, unlocked_folder, write_model_summary
        from supernet.cli.arguments import free_folder
        from supernet.cli.console import console_shown
        from supernet.evaluation.subnet_scorer import chosen_dataset
        from supernet.io.schema import from_mapping
        from supernet.pose.inference import InferenceSettings

        began = time.perf_counter()
        settings = from_mapping(ExportSettings, plain(options), "")
        try:
            names = [name.strip() for text in formats or ("litepose",) for name in text.split(",")]
            written = parse_formats(",".join(names))
        except AttributeError as error:  # a list of them
            raise UserError(f'formats are given one by one, as in export("onnx", "openvino"), got {formats}') from error
        except ValueError as error:
            raise UserError(str(error)) from error
        check_packages(written)
        default = free_folder(as_path(runs, "runs must be a path") / "export")
        folder = default if output is None else as_path(output, "output must be a path")
        folder = unlocked_folder(folder, output is None)
        used_device = prepare_process(folder, device)
        trained = self.supernet.trained
        other = dataset_values(dataset, dataset_options, trained.dataset)
        chosen_dataset(other, trained.dataset, str(self.supernet.path))
        inference = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
        check_options(settings.for_formats(written), inference, self.arch.resolution)
        trained.supernet.to(used_device)
        with console_shown(show), locked(folder):
            model, test_set = measured_subnet(trained, self.arch, other, settings)
            model = write_model(folder, model, test_set, written, settings)
        figures = {"supernet": str(self.supernet.path), **figures_of(model, began)}
        write_model_summary(folder, model, figures, is_default_folder=output is None)
        return load_model(folder, used_device, next((name for name in names if name in LOADABLE), None))


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        folder: The run's folder, with ``arch.json``, ``report.html`` and the other files of the command.
        supernet: The supernet that was searched.
        summary: The content of ``summary.json``: the figures of the search as plain values.
    """

    folder: Path
    supernet: Supernet
    summary: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the result in the folder of a search run, such as ``runs/evolve/latest``.

        Raises:
            UserError: The search is not finished, or its supernet is missing.
        """
        from supernet.io import files

        folder = as_path(folder, "a search is named by the path of its run")
        summary = files.read_json(folder / "summary.json", "summary of a search")
        if not isinstance(summary, dict) or not {"supernet", "chosen", "finalists"} <= summary.keys():
            raise UserError(f"{folder} is not the folder of a finished search; name one, such as runs/evolve/latest")
        return cls(folder.absolute(), Supernet.load(summary["supernet"]), summary)

    @property
    def best(self) -> Subnet:
        """The chosen subnet, with its metrics on validation and test images."""
        return self._subnet(self.summary["chosen"], self.summary["chosen"]["metrics"])

    @property
    def finalists(self) -> tuple[Subnet, ...]:
        """The best subnets, best first; with several objectives, the Pareto front."""
        return tuple(self._subnet(row, {"val": row["metrics"]}) for row in self.summary["finalists"])

    @cached_property
    def candidates(self) -> tuple[Subnet, ...]:
        """All scored subnets; their metrics are of the images that each was scored on."""
        from supernet.io import files

        rows = files.read_json(self.folder / "candidates.json", "candidates of a search", files.LARGE)
        return tuple(self._subnet(row, {"val": row["metrics"]}) for row in rows)

    @property
    def report(self) -> Path:
        """The page with all charts, for a browser."""
        return self.folder / "report.html"

    def _subnet(self, row: Mapping[str, Any], metrics: Mapping[str, Any]) -> Subnet:
        from supernet.arch import Arch
        from supernet.io.metric_values import without_null

        named = {split: without_null(dict(values)) for split, values in metrics.items()}
        return Subnet(self.supernet, Arch.from_dict(row["arch"]), dict(row["costs"]), named)


def load_model(folder: str | Path = "runs/export/latest", format: str | None = None) -> "ExportedModel":
    """Read an exported model; call it with an image to find people.

    Args:
        folder: The model's folder, or the name of a shipped one, such as ``pretrained:photos_large``.
        format: Which of its formats to run, such as "onnx"; PyTorch by default.

    Raises:
        UserError: A file is missing or damaged, or the model was not exported in the format.
    """
    from subnet_export.model import load_model as load

    return load(folder, format=format)
