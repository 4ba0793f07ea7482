"""Draw the people that an exported subnet finds: ``python -m subnet_export.predict`` (options: ``--help``)."""

from pathlib import Path

from subnet_export.arguments import CommandLine
from subnet_export.deployment.formats import LOADABLE
from supernet.cli.arguments import number, whole_number


def main() -> None:
    """Run the entry point."""
    parser = CommandLine(
        "subnet_export.predict",
        "predict",
        "Find people in images, videos or a camera's image with an exported subnet. The run's folder gets their "
        "skeletons drawn (JPEG and MP4) and people.jsonl, a line per image. Exit status 1: something could not be "
        "used, the rest is done; 2: nothing could.",
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="image or video files, folders of them, quoted patterns ('shots/**/*.jpg'), the number of a camera (0), "
        "or - for the bytes of one image on standard input (default: a test image of the model's own data set, "
        "beside the truth)",
    )
    parser.add_argument("--model", metavar="FOLDER", help="an exported model (default: RUNS/export/latest)")
    parser.add_argument(
        "--format",
        choices=LOADABLE,
        help="which of the formats it was exported in is run (default: litepose, by PyTorch)",
    )
    parser.add_argument(
        "--dataset-index",
        metavar="N",
        type=whole_number(0),
        help="which test image, from 0, when no source is given (default: 0)",
    )
    parser.add_argument(
        "--min-score",
        metavar="S",
        type=number(0.0, 1.0),
        default=0.2,
        help="leave out people of a lower score; 0 to measure AP on the results (default: %(default)s)",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        help="also write the people as COCO results to a new file; image_id is the number that a file is named by, "
        "if all are (000000000139.jpg), else images are counted from 1, as in people.jsonl",
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        type=Path,
        help="also write the lines of people.jsonl to a new file, or - for standard output",
    )
    parser.add_argument("--no-drawings", action="store_true", help="draw nothing")
    parser.add_argument(
        "--show", action="store_true", help="show drawings in a window; q ends, any key shows the next image"
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole_number(1), help="end after N images or frames (default: all)"
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=whole_number(1),
        default=4,
        help="images per pass, and in memory; a camera's go one by one (default: %(default)s)",
    )
    options = parser.parse()
    for name in ("dataset_index", "dataset_root"):
        if options.sources and getattr(options, name) is not None:
            parser.error(f"give either sources or --{name.replace('_', '-')}, not both")

    from subnet_export.prediction.run import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
