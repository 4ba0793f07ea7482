"""Draw the people that an exported subnet finds: ``python -m subnet_export.predict`` (options: ``--help``)."""

from subnet_export.command_line import CommandLine, number, whole_number


def main() -> None:
    """Run the entry point."""
    parser = CommandLine(
        "subnet_export.predict",
        "predict",
        "Find people in pictures with an exported subnet, draw their skeletons and write their keypoints as JSON.",
    )
    parser.add_argument(
        "pictures",
        metavar="PICTURE",
        nargs="*",
        help="picture files or folders of them (default: a test picture of the model's own data set, beside the truth)",
    )
    parser.add_argument("--model", metavar="FOLDER", help="an exported model (default: RUNS/export/latest)")
    parser.add_argument(
        "--dataset-index",
        metavar="N",
        type=whole_number(0),
        help="which test picture, from 0, when no picture is given (default: 0)",
    )
    parser.add_argument(
        "--min-score",
        metavar="S",
        type=number(0.0, 1.0),
        default=0.2,
        help="leave out people of a lower score (default: %(default)s)",
    )
    options = parser.parse()
    if options.pictures and options.dataset_index is not None:
        parser.error("give either pictures or --dataset-index, not both")

    from subnet_export.prediction import run  # keeps --help free of torch
    from supernet.cli import guarded

    guarded(lambda: run(options))


if __name__ == "__main__":
    main()
