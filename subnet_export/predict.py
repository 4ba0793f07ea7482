"""Find people with an exported subnet: ``python -m subnet_export.predict`` (options: ``--help``)."""

from pathlib import Path

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from subnet_export.arguments import RESULTS_AND_MACHINE, ModelCommandLine
    from subnet_export.deployment.formats import LOADABLE
    from supernet.cli.arguments import number, whole_number

    parser = ModelCommandLine(
        "subnet_export.predict",
        "predict",
        "Find people in images, videos or a camera's images with an exported subnet. Writes drawings of their "
        "skeletons (JPEG and MP4) and people.jsonl, with one line per image, to the run's folder. Exit status 1: some "
        "sources could not be read, or the run was stopped; 2: no image was used.",
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="image or video files, folders of them, quoted patterns ('shots/**/*.jpg'), the number of a camera (0), "
        "or - for the bytes of one image on standard input (default: a test image of the model's own data set, "
        "beside its annotations)",
    )
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="an exported model, or a shipped one: pretrained:photos_large, photos_medium or photos_small (default: "
        "RUNS/export/latest; for sources, pretrained:photos_large where there is none)",
    )
    parser.add_argument(
        "--format",
        choices=LOADABLE,
        help="run the model in this format, which it must have been exported in (default: litepose, in PyTorch)",
    )
    parser.add_argument(
        "--dataset-index",
        metavar="N",
        type=whole_number(0),
        help="number of the test image, from 0, if no source is given (default: 0)",
    )
    parser.add_argument(
        "--min-score",
        metavar="S",
        type=number(0.0, 1.0),
        default=0.2,
        help="leave out people with a lower score; use 0 to measure AP on the results (default: %(default)s)",
    )
    parser.add_argument(
        "--min-keypoint",
        metavar="V",
        type=number(0.0, 1.0),
        default=0.2,
        help="draw keypoints above this value only, 0 draws all that were found; people.jsonl and results hold all "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--exif",
        choices=("turned", "stored"),
        help="take images as their EXIF orientation turns them, or as stored (default: turned; with --results as the "
        "model's data set is annotated)",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        help="also write the people as COCO results to a new file, with the category of the model's data set; image_id "
        "is the number in the file's name if all names are numbers (000000000139.jpg), otherwise images are counted "
        "from 1, as in people.jsonl, unless --annotations is given",
    )
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        type=Path,
        help="take the ids of images, by the names of their files, and of the category from a COCO annotation file, so "
        "that results can be compared with it",
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        type=Path,
        help="also write the lines of people.jsonl to a new file, or to standard output (-)",
    )
    parser.add_argument("--no-drawings", action="store_true", help="write no drawings")
    parser.add_argument(
        "--show", action="store_true", help="show drawings in a window; q ends the run, any key shows the next image"
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole_number(1), help="stop after N images or frames (default: all)"
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=whole_number(1),
        default=4,
        help="images per pass, and in memory; always 1 for a camera and with --show (default: %(default)s)",
    )
    parser.describe(
        ("photo.jpg folder/ 'shots/**/*.png' clip.mp4", "val2017/ results=results.json min-score=0 no-drawings=true"),
        {
            "images and model": ("sources", "--model", "--format", "--exif", "--limit"),
            "a test image instead": ("--dataset-index", "--dataset-root"),
            "what is kept": (
                "--min-score",
                "--min-keypoint",
                "--results",
                "--annotations",
                "--jsonl",
                "--no-drawings",
                "--show",
            ),
            **RESULTS_AND_MACHINE,
        },
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
