"""Turn a checkpoint of the published LitePose code into an exported model.

Run as ``python -m subnet_export.import_litepose CHECKPOINT ARCH --keypoints crowdpose``; no code in the checkpoint is
executed. Published networks take RGB images with the same normalisation as ours, so weights and batch-norm statistics
are used unchanged.
"""

import argparse

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.arguments import RunCommandLine

    parser = RunCommandLine(
        "python -m subnet_export.import_litepose",
        "export",
        "Turn a checkpoint of the published LitePose code into an exported model, to predict with and to fine-tune. "
        "No code in the checkpoint is executed.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights as published (.pth.tar)")
    parser.add_argument("arch", metavar="ARCH", help="the architecture of the weights, in LitePose's own JSON")
    parser.add_argument(
        "--keypoints",
        required=True,
        choices=("coco", "crowdpose"),
        help="keypoints that the network was trained to predict",
    )
    parser.describe(
        ("model_best.pth.tar arch.json --keypoints crowdpose", "model.pth arch.json keypoints=coco output=my_model"),
        {"the checkpoint": ("checkpoint", "arch", "--keypoints"), "results": ("--runs", "--output")},
    )
    options = parser.parse()

    from supernet.cli.console import run_command  # keeps --help free of torch

    run_command(lambda: _import(options))


def _import(options: argparse.Namespace) -> None:
    import shlex

    from subnet_export.model import save_model
    from subnet_export.published_checkpoint import published_model
    from supernet.arch import Arch
    from supernet.cli.console import CONSOLE
    from supernet.cli.runs import point_latest, write_summary
    from supernet.io.new_folder import check_new

    check_new(options.folder)
    model = published_model(options.checkpoint, Arch.load(options.arch), options.keypoints)
    save_model(options.folder, model)
    summary = {"checkpoint": options.checkpoint, "arch_file": options.arch, "costs": model.costs}
    write_summary(options.folder, summary | {"model": str(options.folder), "arch": model.arch.to_dict()})
    if options.is_default_folder:
        point_latest(options.folder)
    CONSOLE.print(
        f"{model.arch.describe()}, {model.keypoints.num} keypoints of {model.keypoints.name}, "
        f"{model.costs['params']:,} parameters: {options.folder}\n"
        f"to use it: python -m subnet_export.predict --model {shlex.quote(str(options.folder))} IMAGE\n"
        "its AP was not measured; to fine-tune it, give subnet_export.finetune the data set with --dataset-root",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
