"""Which modules may import which, and which calls they may not make.

The tests read the syntax tree of every module, with the imports inside functions, and import nothing.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("supernet", "search", "subnet_export")

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

COMMANDS = {
    "supernet.cli.console": "prints logs, and the error that ends a command",
    "supernet.cli.progress": "prints lines of progress where there is no terminal",
    "supernet.cli.arguments": "prints errors in the command line",
    "supernet.cli.config_command": "prints help, and errors in the command line",
    "supernet.cli.entry.completion": "prints the completion script of a shell",
    "supernet.cli.entry.copy_config": "prints where a copy is",
    "supernet.cli.entry.main": "prints the list of commands",
    "supernet.doctor": "prints its report, also where packages are missing",
    "supernet.pose.check": "prints its report",
    "supernet.evaluation.run": "prints the result of `supernet.evaluate`",
    "supernet.evaluation.subnet_report": "prints the final table of a training run",
    "supernet.training.planning.dry_run": "prints the plan of a training",
    "search.lut.commands": "prints the results of `search.lut`",
    "search.lut.measure": "runs on other devices without this project",
    "search.report.run": "prints what is known of the order of searches",
    "search.runs.evolution_run": "prints the progress of `search.evolve`",
    "search.runs.finish": "prints the result of a search",
    "search.runs.optuna_run": "prints the progress of `search.optuna_search`",
    "subnet_export.deployment.converters.to_coreml": "prints what it wrote, for the process that started it",
    "subnet_export.benchmarking.run": "prints the result of `subnet_export.benchmark`",
    "subnet_export.decoding.pose": "runs without this project",
    "subnet_export.import_litepose": "prints its result",
    "subnet_export.prediction.run": "prints the report of `subnet_export.predict`",
    "subnet_export.publish.run": "prints what was published",
    "subnet_export.serve": "prints the address of the page",
    "subnet_export.run_summary": "prints the summary of an export or fine-tuning run",
}
"""Modules that may print; all others use ``logging``, so that programs can redirect or silence them."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(tree: ast.AST) -> set[str]:
    """Dotted names a module imports: of ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


IMPORTS = {module: imported(tree) for module, tree in TREES.items()}


def below(name: str, parents: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of ``parents`` or inside one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def reached(module: str) -> set[str]:
    """All dotted names that importing ``module`` may import, through modules of this project."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(IMPORTS.get(name, ()))
    return seen


def breaches(of: tuple[str, ...], forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    """Imports of ``forbidden`` names by modules inside ``of``, except ``allowed`` names and their parent packages."""
    return [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if below(module, of)
        for name in sorted(names)
        if below(name, forbidden) and not below(name, allowed) and not any(below(other, (name,)) for other in allowed)
    ]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(tree: ast.AST) -> list[str]:
    """Calls and imports that can run code from a data file or skip a check of it."""
    found = []
    for name, call in calls(tree):
        values = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name.endswith("torch.load") and values.get("weights_only") != "True":
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(f"line {call.lineno}: {name}; use yaml.safe_load")
        if values.get("allow_pickle") == "True":
            found.append(f"line {call.lineno}: allow_pickle=True")
        if values.get("strict") == "False":
            found.append(f"line {call.lineno}: strict=False")
    names = imported(tree)
    # The error that torch.load raises lives in pickle; everything else there reads or writes code.
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {name for name in names if name.startswith("pickle.")}
    found += [f"uses {name}" for name in sorted(used) if below(name, ("hydra.utils", "hydra._internal"))]
    found += [
        f"uses {name}" for name in sorted(used) if name.startswith("pickle.") and name != "pickle.UnpicklingError"
    ]
    risky = ("dill", "cloudpickle", "joblib", "shelve", "marshal", "hydra.utils", "torch.load")
    return found + [f"imports {name}" for name in sorted(names) if below(name, risky)]


WRITES_ELSEWHERE = {
    "supernet.training.run_folder": "the lock's owner, which is only for people",
    "supernet.training.monitoring.log": "appended lines; an incomplete one is dropped",
    "search.report.arch_drawing": "in memory, for a page",
    "supernet.io.jsonl": "appended lines; an incomplete one is dropped",
    "search.lut.measure": "runs on other devices without this project; appended lines",
    "search.lut.devices.merge": "a temporary folder that another reader reads",
    "search.optuna_backend.journal": "Optuna's file, repaired under its lock",
    "supernet.pose.metrics.crowdpose_official": "a temporary folder that another program reads",
    "subnet_export.decoding.pose": "runs without this project; drawings",
    "subnet_export.deployment.writers": "a temporary folder that another program reads or writes",
    "subnet_export.prediction.outputs": "lines that are appended during prediction",
    "supernet.io.new_folder": "a folder that is complete when it is renamed",
    "supernet.cli.interrupts": "a line on standard error, from a signal handler",
    "supernet.cli.runs": "the link `latest`, by renaming",
    "supernet.checkpoints.container": "a damaged file, by renaming",
}
"""Modules that write without :mod:`supernet.io.files`, and why that is safe."""

WRITERS = ("write_text", "write_bytes", "savefig", "tofile", "imwrite", "symlink_to", "copyfile", "move")


def writes(tree: ast.AST) -> list[str]:
    """Calls that write to the disk outside of functions that use ``files.atomic``."""
    covered: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(name.endswith("files.atomic") for name, _ in calls(node)):
            covered.update(ast.walk(node))
    found = []
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        strings = [
            argument.value
            for argument in [*call.args, *(word.value for word in call.keywords)]
            if isinstance(argument, ast.Constant)
        ]
        opens = last == "open" and any(isinstance(mode, str) and set(mode) & set("wxa") for mode in strings)
        # `replace` of a path; that of a string takes two arguments, that of dataclasses keywords.
        renames = name.endswith(".replace") and len(call.args) == 1 and not call.keywords
        renames |= name in ("os.replace", "os.rename", "os.write")
        dumps = name in ("json.dump", "yaml.dump", "np.save", "np.savez", "torch.save", "openvino.save_model")
        is_ours = name in ("files.write_text", "files.write_bytes", "write_bytes", "write_text")
        if (opens or renames or dumps or last in WRITERS) and not is_ours and call not in covered:
            found.append(f"line {call.lineno}: {name}")
    return found


def test_nothing_is_written_around_the_durable_writer() -> None:
    found = {module: calls for module, tree in TREES.items() if (calls := writes(tree))}
    del found["supernet.io.files"]
    # safe_torch writes to memory only.
    assert [call for call in found.pop("supernet.checkpoints.safe_torch") if not call.endswith("torch.save")] == []
    assert found.keys() - WRITES_ELSEWHERE.keys() == set(), found
    assert WRITES_ELSEWHERE.keys() - found.keys() == set(), "no longer needed"


def prints(tree: ast.AST) -> list[str]:
    """Calls that show something to a person without ``logging``; deprecation warnings are allowed."""
    return [
        f"line {call.lineno}: {name}"
        for name, call in calls(tree)
        if (name in ("print", "warnings.warn") or name.lower().endswith("console.print"))
        and "DeprecationWarning" not in ast.unparse(call)
    ]


def test_only_commands_print() -> None:
    found = {module: shown for module, tree in TREES.items() if (shown := prints(tree))}
    assert found.keys() - COMMANDS.keys() == set(), found
    assert COMMANDS.keys() - found.keys() == set(), "no longer needed"
    assert not [module for module, shown in found.items() if any(call.endswith("warnings.warn") for call in shown)]


def test_tensors_are_read_and_written_in_one_place() -> None:
    for module, tree in TREES.items():
        names = {name for name, _ in calls(tree)} & {"torch.load", "torch.save", "torch.jit.load", "np.load"}
        assert not names or module == "supernet.checkpoints.safe_torch", f"{module} calls {names}"


def test_every_package_is_scanned() -> None:
    for package in PACKAGES:
        assert package in TREES
    assert {"supernet.arch", "supernet.pose.training.augmentation", "search.cost"} <= TREES.keys()


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
    for module in TREES:
        around = {name for first in IMPORTS[module] if first in TREES for name in reached(first)}
        assert module not in around, f"{module} is part of an import cycle"


def test_sibling_folders_import_each_other_one_way() -> None:
    def sibling_folders(module: str, other: str) -> tuple[str, str] | None:
        """The folders in which two modules lie, where they first differ; None if one holds the other."""
        first, second = module.split(".")[:-1], other.split(".")[:-1]
        for depth, (name, other_name) in enumerate(zip(first, second, strict=False), start=1):
            if name != other_name:
                return ".".join(first[:depth]), ".".join(second[:depth])
        return None

    pairs = {sibling_folders(module, name) for module in TREES for name in IMPORTS[module] & TREES.keys()}
    both_ways = [pair for pair in pairs if pair is not None and pair[::-1] in pairs]
    assert not both_ways


def test_folders_stay_small() -> None:
    modules = [path for top in (*PACKAGES, "scripts") for path in (ROOT / top).rglob("*.py")]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules if path.stem != "__init__")
    assert not {folder: count for folder, count in counts.items() if count > MOST_FILES}


def test_no_module_can_run_code_from_a_data_file() -> None:
    assert not {module: found for module, tree in TREES.items() if (found := unsafe(tree))}


def test_the_scan_sees_what_it_forbids() -> None:
    wrong = """
import pickle
from joblib import load
def read(path):
    from hydra.utils import instantiate
    hydra.utils.get_class(path)
    network.load_state_dict(torch.load(path), strict=False)
    yaml.load(path)
    np.load(path, allow_pickle=True)
    return pickle.loads(path), torch.load(path, weights_only=False)
"""
    right = """
import pickle
def read(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True), yaml.safe_load(path)
    except pickle.UnpicklingError:
        return None
"""
    assert sorted(unsafe(ast.parse(wrong))) == [
        "imports hydra.utils",
        "imports hydra.utils.instantiate",
        "imports joblib",
        "imports joblib.load",
        "line 10: torch.load without weights_only=True",
        "line 7: strict=False",
        "line 7: torch.load without weights_only=True",
        "line 8: yaml.load; use yaml.safe_load",
        "line 9: allow_pickle=True",
        "uses hydra.utils",
        "uses hydra.utils.get_class",
        "uses pickle.loads",
    ]
    assert not unsafe(ast.parse(right))
    around = """
def report(path, value):
    path.write_text(value)
    with path.open("w") as file, open(path, mode="ab") as other:
        json.dump(value, file)
    text.replace("a", "b").write_bytes(path.open().read())
def image(path):
    with files.atomic(path) as temporary:
        figure.savefig(temporary)
    files.write_text(path, path.read_text())
"""
    shown = "print(1)\nrun.console.print(2)\nwarnings.warn(3)\nwarnings.warn(4, DeprecationWarning)\nlogger.info(5)"
    assert prints(ast.parse(shown)) == ["line 1: print", "line 2: run.console.print", "line 3: warnings.warn"]
    assert sorted(writes(ast.parse(around))) == [
        "line 3: path.write_text",
        "line 4: open",
        "line 4: path.open",
        "line 5: json.dump",
        "line 6: text.replace('a', 'b').write_bytes",
    ]
    assert imported(ast.parse("def f():\n    from a.b import c, d\nimport e.f")) == {"a.b", "a.b.c", "a.b.d", "e.f"}
