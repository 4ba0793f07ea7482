"""Which calls modules may not make: printing, writing around the durable writer, running code from data files."""

import ast

from tests.contracts.source_trees import below, calls, imported, source_of, trees

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
    "subnet_export.runs": "prints the summary of an export or fine-tuning run",
}
"""Modules that may print; all others use ``logging``, so that programs can redirect or silence them."""

WRITES_ELSEWHERE = {
    "supernet.io.locks": "the lock's owner, which is only for people",
    "supernet.training.monitoring.log": "appended lines; an incomplete one is dropped",
    "search.report.arch_drawing": "in memory, for a page",
    "supernet.io.jsonl": "appended lines; an incomplete one is dropped",
    "search.lut.measure": "runs on other devices without this project; appended lines",
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


CHECKED = ("weights_only", "allow_pickle", "strict")
"""Arguments whose value decides whether a call is safe."""


def unsafe(tree: ast.AST) -> list[str]:
    """Calls and imports that can run code from a data file or skip a check of it."""
    found = []
    for name, call in calls(tree):
        values = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg in CHECKED}
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
    used = {source_of(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {name for name in names if name.startswith("pickle.")}
    found += [f"uses {name}" for name in sorted(used) if below(name, ("hydra.utils", "hydra._internal"))]
    found += [
        f"uses {name}" for name in sorted(used) if name.startswith("pickle.") and name != "pickle.UnpicklingError"
    ]
    risky = ("dill", "cloudpickle", "joblib", "shelve", "marshal", "hydra.utils", "torch.load")
    return found + [f"imports {name}" for name in sorted(names) if below(name, risky)]


def writes(tree: ast.AST) -> list[str]:
    """Calls that write to the disk outside of functions that use ``files.atomic``."""
    covered: set[ast.AST] = set()
    safe = {call for name, call in calls(tree) if name.endswith("files.atomic")}
    for node in ast.walk(tree) if safe else ():
        if isinstance(node, ast.FunctionDef) and not safe.isdisjoint(inside := set(ast.walk(node))):
            covered |= inside
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
    found = {module: calls for module, tree in trees().items() if (calls := writes(tree))}
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
    found = {module: shown for module, tree in trees().items() if (shown := prints(tree))}
    assert found.keys() - COMMANDS.keys() == set(), found
    assert COMMANDS.keys() - found.keys() == set(), "no longer needed"
    assert not [module for module, shown in found.items() if any(call.endswith("warnings.warn") for call in shown)]


def test_tensors_are_read_and_written_in_one_place() -> None:
    for module, tree in trees().items():
        names = {name for name, _ in calls(tree)} & {"torch.load", "torch.save", "torch.jit.load", "np.load"}
        assert not names or module == "supernet.checkpoints.safe_torch", f"{module} calls {names}"


def test_no_module_can_run_code_from_a_data_file() -> None:
    assert not {module: found for module, tree in trees().items() if (found := unsafe(tree))}


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
