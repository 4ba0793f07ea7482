"""Export a subnet of a trained supernet: ``python -m subnet_export`` (options: ``--help``)."""

from pathlib import Path

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from subnet_export.arguments import RESULTS_AND_MACHINE, ModelCommandLine
    from subnet_export.deployment.formats import CHECK_IMAGES, EXECUTORCH, FORMATS, WEB, parse_formats
    from supernet.cli.arguments import list_of, whole_number

    parser = ModelCommandLine(
        "subnet_export",
        "export",
        "Extract a subnet from a trained supernet, calibrate and measure it, and write its weights in LitePose's "
        "published format and others, with a description of everything needed to use them. Every file is run and "
        "compared with the network; if one differs, the export fails and writes nothing.",
    )
    parser.add_argument("--arch", metavar="FILE", help="LitePose JSON (default: RUNS/evolve/latest/arch.json)")
    parser.add_argument(
        "--supernet",
        metavar="PATH",
        help="a training run's folder, its supernet.pt, or pretrained:photos (default: RUNS/train/latest)",
    )
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="export this model, such as pretrained:photos_small, again, in a new folder and in the formats of LIST, "
        "instead of a new subnet; it keeps its calibration and figures. A model whose images are not here needs none: "
        "its files are then compared by their outputs only",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="calibrate and measure on a data set of conf/dataset, such as coco (default: that of the supernet); with "
        "--model, compare its files on these images, and quantise with them",
    )
    parser.add_argument(
        "overrides", metavar="dataset.KEY=VALUE", nargs="*", help="change options of conf/dataset/NAME.yaml"
    )
    parser.add_argument(
        "--format",
        metavar="LIST",
        type=list_of(parse_formats),
        default="litepose",
        help="comma-separated; "
        + "; ".join(f"{chosen.name}: {chosen.purpose}" for chosen in FORMATS.values())
        + " (litepose is always written; default: %(default)s)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        default="uint8",
        help="input of the graphs: RGB images as uint8 (B, H, W, 3), normalised inside, or float32 "
        "(B, 3, H, W), normalised outside (default: %(default)s)",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="graphs (onnx, openvino, web) find the detections themselves: output detections (B, K, M, 4), the M best "
        "of each keypoint as x, y, value, tag, in place of maps; see docs/decoding.md",
    )
    parser.add_argument(
        "--onnxruntime-web",
        metavar="FOLDER",
        type=Path,
        help="npm package that format web copies into its folder (default: node_modules/onnxruntime-web; without one, "
        "the page loads it from a public address)",
    )
    parser.add_argument(
        "--max-side",
        metavar="PX",
        type=whole_number(1),
        help="longest side of the images that the file of format executorch takes; the memory that it takes grows with "
        "the square (default: four times the resolution, at the largest scale)",
    )
    parser.add_argument(
        "--check-images",
        metavar="N",
        type=whole_number(0),
        default=CHECK_IMAGES,
        help="test images on which the AP of each file is compared with the network's; 0: compare outputs only "
        "(default: %(default)s)",
    )
    parser.add_max_int8_loss()
    parser.add_argument(
        "--calibration-images",
        metavar="N",
        type=whole_number(1),
        help="training images from which batch-norm statistics are computed (default: 128; with --model only for an "
        "imported checkpoint)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=whole_number(1), default=32, help="images per pass (default: %(default)s)"
    )
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=whole_number(1),
        help="measure on the first N test images (default: all; with --model only for an imported checkpoint or "
        "--dataset)",
    )
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="licence of the weights for the model card, as hubs name it, such as mit, cc-by-4.0 or other (default: "
        "that of --model, else unknown)",
    )
    parser.describe(
        ("--arch runs/evolve/latest/arch.json --format onnx,openvino", "model=runs/export/latest format=safetensors"),
        {
            "what is exported": ("--supernet", "--arch", "--model"),
            "formats": (
                *("--format", "--input", "--decode", "--onnxruntime-web", "--max-side", "--check-images"),
                "--max-int8-loss",
            ),
            "model card": ("--license",),
            "data": ("--dataset", "overrides", "--dataset-root", "--calibration-images", "--num-images"),
            **RESULTS_AND_MACHINE,
        },
    )
    options = parser.parse()
    if options.model and (options.arch or options.supernet):
        parser.error("--model cannot be combined with --arch or --supernet; leave one out")
    if options.onnxruntime_web and WEB not in options.format:
        parser.error("--onnxruntime-web is for --format web; add that or leave it out")
    if options.max_side and EXECUTORCH not in options.format:
        parser.error("--max-side is for --format executorch; add that or leave it out")

    from subnet_export.exporting.run import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
