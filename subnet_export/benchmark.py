"""Measure the latency of subnets: ``python -m subnet_export.benchmark`` (options: ``--help``)."""

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from subnet_export.arguments import RESULTS_AND_MACHINE, ModelCommandLine
    from subnet_export.deployment.formats import RUNTIMES, parse_runtimes
    from supernet.cli.arguments import list_of, whole_number

    parser = ModelCommandLine(
        "subnet_export.benchmark",
        "benchmark",
        "Measure the latency of exported subnets, or of archs with random weights, in PyTorch, ONNX Runtime, "
        "OpenVINO and others, and the frames per second of the whole pipeline: decode a JPEG, resize, network, "
        "grouping.",
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="an exported model or pretrained:NAME (default: RUNS/export/latest)"
    )
    parser.add_argument(
        "--arch", metavar="FILE", nargs="+", help="LitePose JSON files to measure with random weights instead"
    )
    parser.add_argument(
        "--keypoints",
        choices=("coco", "crowdpose"),
        default="coco",
        help="17 or 14 keypoints for --arch (default: %(default)s)",
    )
    parser.add_argument(
        "--runtimes",
        metavar="LIST",
        type=list_of(parse_runtimes),
        help=f"comma-separated, of {', '.join(RUNTIMES)} (default: those whose packages are installed, bf16 only if "
        "the processor supports it; not those whose converter needs a separate environment)",
    )
    parser.add_argument(
        "--repeats", metavar="N", type=whole_number(10), default=100, help="timed runs (default: %(default)s)"
    )
    parser.add_argument(
        "--images",
        metavar="N",
        type=whole_number(0),
        default=50,
        help="images for timing the whole pipeline; 0: do not time it (default: %(default)s)",
    )
    parser.add_argument(
        "--latency-table",
        metavar="FILE",
        help="table of python -m search.lut for this processor, whose predictions are shown beside the measurements",
    )
    parser.add_argument(
        "--record", action="store_true", help="also write the latencies to the model's model.json and README.md"
    )
    parser.describe(
        ("--model runs/export/latest --record", "arch=runs/evolve/latest/arch.json runtimes=torch repeats=50"),
        {
            "what is measured": ("--model", "--arch", "--keypoints", "--dataset-root"),
            "how": ("--runtimes", "--repeats", "--images", "--latency-table", "--record"),
            **RESULTS_AND_MACHINE,
        },
    )
    options = parser.parse()
    if options.arch and (options.model or options.record):
        parser.error("--arch cannot be combined with --model or --record; leave one out")

    from subnet_export.benchmarking.run import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
