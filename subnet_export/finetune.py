"""Fine-tune an exported subnet: ``python -m subnet_export.finetune`` (options: ``--help``)."""

from subnet_export.arguments import RESULTS_AND_MACHINE, ModelCommandLine
from subnet_export.deployment.formats import parse_formats
from supernet.cli.arguments import list_of, number, whole_number
from supernet.cli.interrupts import command

KEPT_NUMBERS = (
    ("--steps", whole_number(1), 500, "optimizer steps"),
    ("--batch-size", whole_number(1), 16, "images per step"),
    ("--learning-rate", number(1e-8, 1.0), 2e-3, "peak of Adam's learning rate"),
    ("--distillation-weight", number(0.0, 1e6), 1.0, "weight of the distance to the teacher's heatmaps"),
    ("--seed", whole_number(0), 0, "seed of image order, augmentation and random weights"),
    ("--eval-batch-size", whole_number(1), 32, "images per pass when measuring"),
    ("--checkpoint-every", whole_number(1), 500, "steps between checkpoints"),
)
"""Numeric options that a resumed run keeps: name, type, default and meaning."""


@command
def main() -> None:
    """Run the entry point."""
    parser = ModelCommandLine(
        "subnet_export.finetune",
        "finetune",
        "Train an exported subnet further, calibrate it again, and write the better of before and after as a model of "
        "the same kind. Ctrl-C saves a checkpoint to resume from.",
    )
    kept = [
        parser.output,
        parser.dataset_root,
        parser.add_argument(
            "--model", metavar="FOLDER", help="an exported model or pretrained:NAME (default: RUNS/export/latest)"
        ),
        parser.add_argument(
            "--teacher",
            metavar="PATH",
            help="also learn the heatmaps of an exported model, or of the largest subnet of a training run (its folder "
            "or supernet.pt), or of pretrained:NAME",
        ),
        parser.add_argument(
            "--dataset", metavar="NAME", help="a data set of conf/dataset, such as coco (default: that of the model)"
        ),
        parser.add_argument(
            "overrides",
            metavar="dataset.KEY=VALUE",
            nargs="*",
            help="change options of conf/dataset/NAME.yaml; a data set with other keypoints gets new last layers",
        ),
        parser.add_argument(
            "--from-scratch",
            action="store_true",
            default=None,
            help="start from random weights instead of the model's, to compare",
        ),
        parser.add_argument(
            "--num-images",
            metavar="N",
            type=whole_number(1),
            help="measure on N images of each split (default: all)",
        ),
        parser.add_argument(
            "--augmentation",
            choices=("none", "light", "full"),
            help="how strongly training images are varied (default: light)",
        ),
    ]
    kept += [
        parser.add_argument(name, metavar="N", type=kind, help=f"{meaning} (default: {default})")
        for name, kind, default, meaning in KEPT_NUMBERS
    ]
    parser.add_argument(
        "--format",
        metavar="LIST",
        type=list_of(parse_formats),
        help="formats to write, see python -m subnet_export (default: those of the model it starts from)",
    )
    parser.add_max_int8_loss()
    parser.add_argument(
        "--num-workers",
        metavar="N",
        type=whole_number(0),
        default=0,
        help="processes that load images; 0: the training process itself (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="resume a stopped run, with its own options, from this checkpoint, or from that of the run of this name "
        "in RUNS/finetune; latest: the newest there",
    )
    parser.describe(
        (
            "--steps 800 --teacher runs/train/latest",
            "model=pretrained:photos_small dataset=coco dataset_root=/coco",
        ),
        {
            "where it starts": ("--model", "--teacher", "--from-scratch", "--resume"),
            "data": ("--dataset", "overrides", "--dataset-root", "--augmentation", "--num-images", "--eval-batch-size"),
            "training": ("--steps", "--learning-rate", "--distillation-weight", "--seed", "--checkpoint-every"),
            "formats": ("--format", "--max-int8-loss"),
            **RESULTS_AND_MACHINE,
        },
    )
    options = parser.parse()
    if options.distillation_weight is not None and options.teacher is None and options.resume is None:
        parser.error("--distillation-weight has no effect without --teacher; name a teacher")
    if options.resume is None:
        for name, _, default, _ in KEPT_NUMBERS:
            key = name.lstrip("-").replace("-", "_")
            setattr(options, key, default if getattr(options, key) is None else getattr(options, key))
    else:
        changed = [action for action in kept if getattr(options, action.dest) not in (None, [])]
        if changed:
            name = (changed[0].option_strings or [str(changed[0].metavar)])[0]
            parser.error(f"{name} cannot be changed when resuming, which keeps the run's own options; remove it")

    from subnet_export.finetuning.run import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
