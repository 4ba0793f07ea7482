"""Which modules may import which. Calls that modules may not make are in `test_calls.py`."""

import ast
from collections import Counter
from functools import cache

from tests.contracts.source_trees import PACKAGES, ROOT, below, imported, trees

TORCH_FREE = (
    "supernet.arch",
    "supernet.space",
    "supernet.genes",
    "supernet.costs.analytic",
    "supernet.costs.cost_tables",
    "supernet.costs.latency_blocks",
    "supernet.costs.latency_file",
    "supernet.costs.latency_lookup",
    "supernet.costs.latency_table",
    "supernet.costs.published",
    "search.cost",
    "search.budget",
    "search.candidate",
    "search.feasibility",
    "search.features",
    "search.objectives",
    "search.pareto",
    "search.quantities",
    "search.evolution.engine",
    "search.optuna_backend.search",
    "search.optuna_backend.storage",
    "search.evolution.surrogate",
)
"""Modules that must start fast and run where torch is not wanted, with all they import."""

PLAIN = (
    "subnet_export.__main__",
    "subnet_export.benchmark",
    "subnet_export.finetune",
    "subnet_export.import_litepose",
    "subnet_export.predict",
    "search.lut.__main__",
    "supernet.doctor",
    "supernet.evaluate",
    "supernet.pose.check",
)
"""Commands that a plain install runs, without the extras for training and search."""

OF_EXTRAS = ("matplotlib", "tensorboard", "torch.utils.tensorboard", "plotly", "sklearn")

MOST_FILES = 15
"""Limit on the files in a folder."""

HYDRA = ("supernet.cli.hydra_app", "supernet.cli.text_options")
"""Modules that may import Hydra."""


@cache
def imports() -> dict[str, set[str]]:
    """The dotted names that each module imports."""
    return {module: imported(tree) for module, tree in trees().items()}


def reached(module: str) -> set[str]:
    """All dotted names that importing ``module`` may import, through modules of this project."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(imports().get(name, ()))
    return seen


def breaches(of: tuple[str, ...], forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    """Imports of ``forbidden`` names by modules inside ``of``, except ``allowed`` names and their parent packages."""
    return [
        f"{module} imports {name}"
        for module, names in imports().items()
        if below(module, of)
        for name in sorted(names)
        if below(name, forbidden) and not below(name, allowed) and not any(below(other, (name,)) for other in allowed)
    ]


def test_every_package_is_scanned() -> None:
    for package in PACKAGES:
        assert package in trees()
    assert {"supernet.arch", "supernet.pose.training.augmentation", "search.cost"} <= trees().keys()


def test_package_files_hold_only_a_docstring() -> None:
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")):
        (only,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(only, ast.Expr), path


def test_arch_and_space_need_no_torch() -> None:
    for module in TORCH_FREE:
        heavy = sorted(name for name in reached(module) if below(name, ("torch", "cv2", "scipy", "hydra")))
        assert not heavy, f"{module} reaches {heavy}"


def test_a_plain_install_has_what_commands_other_than_training_and_search_import() -> None:
    """matplotlib, TensorBoard, plotly and scikit-learn come with the extras `train` and `search`."""
    for module in PLAIN:
        extra = sorted(name for name in reached(module) if below(name, OF_EXTRAS))
        assert not extra, f"{module} reaches {extra}"


def test_supernet_knows_neither_search_nor_export() -> None:
    assert not breaches(("supernet",), ("search", "subnet_export"))


def test_pose_knows_nothing_of_architectures() -> None:
    allowed = ("supernet.pose", "supernet.errors", "supernet.io", "supernet.random_streams")
    # Only its entry point may import more: the modules that all commands share.
    entry_point, command = "supernet.pose.check", (*allowed, "supernet.cli")
    found = breaches(("supernet.pose",), ("supernet",), allowed)
    assert not [breach for breach in found if breach.split()[0] != entry_point]
    assert not breaches((entry_point,), ("supernet",), command)


def test_network_and_weight_sharing_know_nothing_of_training() -> None:
    assert not breaches(
        ("supernet.litepose",), ("supernet",), ("supernet.arch", "supernet.depthwise", "supernet.errors")
    )
    allowed = ("supernet.arch", "supernet.space", "supernet.litepose", "supernet.errors")
    assert not breaches(("supernet.subnet_templates",), ("supernet",), allowed)
    assert not breaches(("supernet.weight_sharing",), ("supernet",), (*allowed, "supernet.subnet_templates"))


def test_export_knows_nothing_of_search() -> None:
    # The search may import the export: what it measures must run as exports run.
    assert not breaches(("subnet_export",), ("search",))


def test_only_the_shared_entry_plumbing_imports_hydra() -> None:
    found = breaches(PACKAGES, ("hydra", "omegaconf"))
    assert not [breach for breach in found if breach.split()[0] not in HYDRA]


def test_no_module_imports_itself_through_others() -> None:
    for module in trees():
        around = {name for first in imports()[module] if first in trees() for name in reached(first)}
        assert module not in around, f"{module} is part of an import cycle"


def test_sibling_folders_import_each_other_one_way() -> None:
    def sibling_folders(module: str, other: str) -> tuple[str, str] | None:
        """The folders in which two modules lie, where they first differ; None if one holds the other."""
        first, second = module.split(".")[:-1], other.split(".")[:-1]
        for depth, (name, other_name) in enumerate(zip(first, second, strict=False), start=1):
            if name != other_name:
                return ".".join(first[:depth]), ".".join(second[:depth])
        return None

    pairs = {sibling_folders(module, name) for module in trees() for name in imports()[module] & trees().keys()}
    both_ways = [pair for pair in pairs if pair is not None and pair[::-1] in pairs]
    assert not both_ways


def test_folders_stay_small() -> None:
    modules = [path for top in (*PACKAGES, "scripts") for path in (ROOT / top).rglob("*.py")]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules if path.stem != "__init__")
    assert not {folder: count for folder, count in counts.items() if count > MOST_FILES}
