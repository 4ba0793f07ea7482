"""Command lines of this package's entry points; imports nothing slow, so that ``--help`` is quick."""

from subnet_export.deployment.formats import MAX_INT8_LOSS
from supernet.cli.arguments import FolderCommandLine, number, whole_number


class CommandLine(FolderCommandLine):
    """Of a module of this package, which computes and may need the data set.

    Args:
        module: What follows ``python -m``.
        command: Name of the folder in RUNS that the command writes to.
        description: What the command does.
    """

    def __init__(self, module: str, command: str, description: str) -> None:
        super().__init__(f"python -m {module}", command, description)
        self.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
        self.add_argument("--threads", metavar="N", type=whole_number(1), help="CPU threads (default: all cores)")
        self.dataset_root = self.add_argument(
            "--dataset-root",
            metavar="FOLDER",
            help="where the data set on disk is now, if it moved (not for built-in people)",
        )

    def add_max_int8_loss(self) -> None:
        """Add the option that bounds what quantisation may cost."""
        self.add_argument(
            "--max-int8-loss",
            metavar="AP",
            type=number(0.0, 1.0),
            default=MAX_INT8_LOSS,
            help="AP that format openvino_int8 may cost, on all images measured on (default: %(default)s)",
        )
