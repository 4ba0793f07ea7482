"""Fine-tune an exported subnet: ``python -m subnet_export.finetune`` (options: ``--help``)."""

from subnet_export.command_line import CommandLine, number, whole_number


def main() -> None:
    """Run the entry point."""
    parser = CommandLine(
        "subnet_export.finetune",
        "finetune",
        "Train an exported subnet on its own data set with the losses of supernet training, calibrate it anew, and "
        "write the better of before and after as a model of the same kind.",
    )
    parser.add_argument("--model", metavar="FOLDER", help="an exported model (default: RUNS/export/latest)")
    options = (
        ("--steps", whole_number(1), 500, "optimizer steps"),
        ("--batch-size", whole_number(1), 16, "pictures per step"),
        ("--learning-rate", number(1e-8, 1.0), 2e-3, "peak of Adam's learning rate"),
        ("--seed", whole_number(0), 0, "of picture order and augmentation"),
        ("--num-workers", whole_number(0), 0, "processes that load pictures; 0: the training process itself"),
        ("--eval-batch-size", whole_number(1), 32, "pictures per pass when measuring"),
    )
    for name, kind, default, meaning in options:
        parser.add_argument(name, metavar="N", type=kind, default=default, help=f"{meaning} (default: %(default)s)")
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=whole_number(1),
        help="measure on N pictures of each split (default: all)",
    )
    parser.add_argument(
        "--augmentation",
        choices=("none", "light", "full"),
        default="light",
        help="how far training pictures are varied (default: %(default)s)",
    )
    options_given = parser.parse()

    from subnet_export.finetuning import run  # keeps --help free of torch
    from supernet.cli import guarded

    guarded(lambda: run(options_given))


if __name__ == "__main__":
    main()
