"""Export a subnet of a trained supernet: ``python -m subnet_export`` (options: ``--help``)."""

from subnet_export.arguments import CommandLine
from subnet_export.deployment.formats import CHECK_IMAGES, FORMATS, parse_formats
from supernet.cli.arguments import list_of, whole_number


def main() -> None:
    """Run the entry point."""
    parser = CommandLine(
        "subnet_export",
        "export",
        "Cut a subnet out of a trained supernet, calibrate and measure it, and write its weights in LitePose's "
        "published format and others, with a description of everything needed to use them. Every file is run and "
        "compared with the network; one that fails ends the export, and nothing is written.",
    )
    parser.add_argument("--arch", metavar="FILE", help="LitePose JSON (default: RUNS/evolve/latest/arch.json)")
    parser.add_argument(
        "--supernet", metavar="PATH", help="a training run's folder or its supernet.pt (default: RUNS/train/latest)"
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="write this exported model anew, in further formats, instead of a new subnet"
    )
    parser.add_argument(
        "--format",
        metavar="LIST",
        type=list_of(parse_formats),
        default="litepose",
        help="comma-separated; "
        + "; ".join(f"{each.name}: {each.purpose}" for each in FORMATS.values())
        + " (litepose is always written; default: %(default)s)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        default="uint8",
        help="what goes into the graphs: RGB images as uint8 (B, H, W, 3), normalised inside, or float32 "
        "(B, 3, H, W), normalised outside (default: %(default)s)",
    )
    parser.add_argument(
        "--check-images",
        metavar="N",
        type=whole_number(1),
        default=CHECK_IMAGES,
        help="test images on which AP of each file is compared with the network's (default: %(default)s)",
    )
    parser.add_max_int8_loss()
    parser.add_argument(
        "--calibration-images",
        metavar="N",
        type=whole_number(1),
        default=128,
        help="training images behind the batch-norm statistics (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=whole_number(1), default=32, help="images per pass (default: %(default)s)"
    )
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=whole_number(1),
        help="measure on the first N test images (default: all)",
    )
    options = parser.parse()
    if options.model and (options.arch or options.supernet):
        parser.error("give either --model or --arch and --supernet, not both")

    from subnet_export.export import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
