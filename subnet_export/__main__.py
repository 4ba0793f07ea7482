"""Export a subnet of a trained supernet: ``python -m subnet_export`` (options: ``--help``)."""

from subnet_export.command_line import CommandLine, whole_number


def main() -> None:
    """Run the entry point."""
    parser = CommandLine(
        "subnet_export",
        "export",
        "Cut a subnet out of a trained supernet, calibrate and measure it, and write its weights in LitePose's "
        "published format with a description of everything needed to use them.",
    )
    parser.add_argument("--arch", metavar="FILE", help="LitePose JSON (default: RUNS/evolve/latest/arch.json)")
    parser.add_argument(
        "--supernet", metavar="PATH", help="a training run's folder or its supernet.pt (default: RUNS/train/latest)"
    )
    parser.add_argument(
        "--calibration-images",
        metavar="N",
        type=whole_number(1),
        default=128,
        help="training pictures behind the batch-norm statistics (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=whole_number(1), default=32, help="pictures per pass (default: %(default)s)"
    )
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=whole_number(1),
        help="measure on the first N test pictures (default: all)",
    )
    options = parser.parse()

    from subnet_export.extract import run  # keeps --help free of torch
    from supernet.cli import guarded

    guarded(lambda: run(options))


if __name__ == "__main__":
    main()
