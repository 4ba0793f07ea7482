"""Command lines of this package's entry points. Imports nothing slow, so that ``--help`` is fast."""

from subnet_export.deployment.formats import MAX_INT8_LOSS
from supernet.cli.arguments import RunCommandLine, number, whole_number

RESULTS_AND_MACHINE = {
    "results": ("--runs", "--output"),
    "machine": ("--device", "--threads", "--batch-size", "--num-workers"),
}
"""Headings in help, and their options, that the commands share."""


class ModelCommandLine(RunCommandLine):
    """The command line of a module of this package, with the options that all of them share.

    Args:
        module: Name of the module, for ``python -m``.
        command: Name of the folder in RUNS that the command writes to.
        description: What the command does.
    """

    def __init__(self, module: str, command: str, description: str) -> None:
        super().__init__(f"python -m {module}", command, description)
        self.add_argument(
            "--device", default="auto", help="auto (cuda or cpu), cpu, cuda or mps (default: %(default)s)"
        )
        self.add_argument("--threads", metavar="N", type=whole_number(1), help="CPU threads (default: all cores)")
        self.dataset_root = self.add_argument(
            "--dataset-root",
            metavar="FOLDER",
            help="the data set's folder, if it has moved (not for built-in people)",
        )

    def add_max_int8_loss(self) -> None:
        """Add the option that limits the AP that quantisation may cost."""
        self.add_argument(
            "--max-int8-loss",
            metavar="AP",
            type=number(0.0, 1.0),
            default=MAX_INT8_LOSS,
            help="AP that a format in 8-bit integers may lose, on all images measured on (default: %(default)s)",
        )
