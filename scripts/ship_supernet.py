"""Prepare weights for ``supernet/pretrained/``: 16 bits, and nothing of the machine that trained them.

- ``python -m scripts.ship_supernet supernet FILE OUTPUT --dataset coco_people`` writes a trained supernet.
- ``python -m scripts.ship_supernet export FOLDER OUTPUT`` writes an exported model whose weights come from such a
  supernet: 16 bits then hold them exactly, so that its measurement stays true.
- ``python -m scripts.ship_supernet round FOLDER OUTPUT --dataset-root DATA`` writes a model that 16 bits hold exactly,
  measured again: for subnets with small kernels, whose weights are products.

Weights are stored in 16 bits, statistics of batch norms in 32. The data set's folder is left out; users of the
files name their own. Both files are read back before the command ends.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from subnet_export.ap_measurement import at_root, measure
from subnet_export.model import CARD_FILE, load_model, save_model
from supernet.checkpoints import container, safe_torch
from supernet.checkpoints.exported_network import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    describe_weights,
    load_net,
)
from supernet.checkpoints.lineage import IMAGENET
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet, save_supernet
from supernet.cli.arguments import CommandLine
from supernet.cli.console import run_command
from supernet.cli.hydra_app import dataset_config
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import split_for
from supernet.io import checksum, files
from supernet.io.new_folder import new_folder
from supernet.pose.datasets import without_root

BATCH_SIZE = 32
MOST_BYTES = 4_000_000
"""Size limit of one file."""
_OTHER_FORMATS = """\
Without this project: `python -m subnet_export --model this/folder --format onnx` writes a folder whose `pose.py` finds
the same people with numpy, OpenCV and ONNX Runtime alone."""


def main() -> None:
    """Run the command."""
    parser = CommandLine("python -m scripts.ship_supernet", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    supernet = commands.add_parser("supernet", help="write a trained supernet in 16 bits")
    supernet.add_argument("source", metavar="FILE", help="a training run's folder or its supernet.pt")
    supernet.add_argument("output", metavar="OUTPUT", type=Path, help="the file to write")
    supernet.add_argument(
        "--dataset", metavar="NAME", help="describe the data set as conf/dataset/NAME.yaml does (default: as the file)"
    )
    supernet.add_argument(
        "--imagenet", action="store_true", help="the training started from an ImageNet backbone, which the file omits"
    )
    export = commands.add_parser("export", help="write an exported model with weights in 16 bits")
    export.add_argument("source", metavar="FOLDER", help="an exported model")
    export.add_argument("output", metavar="OUTPUT", type=Path, help="the new folder")
    export.add_argument("--notes", metavar="FILE", help="path, relative to OUTPUT, that the model card refers to")
    rounded = commands.add_parser("round", help="write an exported model with rounded weights, measured again")
    rounded.add_argument("source", metavar="FOLDER", help="an exported model")
    rounded.add_argument("output", metavar="OUTPUT", type=Path, help="the new folder")
    rounded.add_argument("--dataset-root", metavar="FOLDER", help="the data set's folder, if it has moved")
    options = parser.parse_args()

    def run() -> None:
        if options.command == "supernet":
            dataset = None if options.dataset is None else dataset_config(options.dataset, [])
            ship_supernet(load_supernet(options.source), options.output, dataset, options.imagenet)
            written = [options.output]
        elif options.command == "round":
            round_export(Path(options.source), options.output, options.dataset_root)
            written = sorted(options.output.iterdir())
        else:
            ship_export(Path(options.source), options.output, options.notes)
            written = sorted(options.output.iterdir())
        for path in written:
            print(f"{path}: {path.stat().st_size:,} bytes")

    run_command(run)


def ship_supernet(
    trained: TrainedSupernet, output: Path, dataset: Mapping[str, Any] | None = None, imagenet: bool = False
) -> None:
    """Write ``trained`` to ``output`` with weights in 16 bits and without the folder of its data set.

    Args:
        trained: The supernet.
        output: The file.
        dataset: The data set that it was trained on; by default as ``trained`` describes it.
        imagenet: Whether to name ImageNet as the first of its data sets.

    Raises:
        UserError: A weight does not fit 16 bits, or the file is too large.
    """
    described = without_root(trained.dataset if dataset is None else dataset)
    save_supernet(
        output,
        trained.supernet.space,
        container.in_half(trained.supernet),
        trained.keypoints,
        described,
        trained.evaluation,
        trained.objective,
        started_from=(IMAGENET,) if imagenet else trained.started_from,
    )
    load_supernet(output)
    _check_size(output)


def ship_export(source: Path, output: Path, notes: str | None = None) -> None:
    """Write the exported model in ``source`` to the new folder ``output``, its weights in 16 bits without loss.

    The model card refers to ``notes``, a path relative to ``output``.

    Raises:
        UserError: 16 bits do not hold a weight exactly, the model has further formats, or a file is too large.
    """
    net = load_net(source)
    if net.description.get("formats"):
        raise UserError(f"{source} has further formats, which stay in 32 bits; export it without --format")
    state, exact = container.in_half(net.network), net.network.state_dict()
    rounded = [name for name, value in exact.items() if not torch.equal(state[name].to(value.dtype), value)]
    if rounded:
        raise UserError(
            f"{source}: 16 bits do not hold {rounded[0]} exactly, so that its AP would change; export a subnet with "
            "full kernels of a supernet that was stored in 16 bits, or use the command round first"
        )
    content = bytes(safe_torch.serialize(_in_few_storages(state)))
    paragraphs = files.read_bytes(source / CARD_FILE, "model card").decode().split("\n\n")
    # pose.py needs a file in another format, which is not shipped.
    card = "\n\n".join(_OTHER_FORMATS if text.startswith("Without this project:") else text for text in paragraphs)
    if notes:
        card = f"{card}\n## Recipe, limits and licences\n\nSee [{notes}]({notes}).\n"
    description = {key: value for key, value in net.description.items() if key != checksum.KEY}
    description |= {"dataset": without_root(net.dataset), "weights": describe_weights(content)}
    with new_folder(output) as staging:
        files.write_bytes(staging / WEIGHTS_FILE, content)
        files.write_json(staging / DESCRIPTION_FILE, checksum.with_checksum(description))
        files.write_text(staging / CARD_FILE, card)
        load_model(staging)
        _check_size(staging / WEIGHTS_FILE)


def round_export(source: Path, output: Path, root: str | None = None) -> None:
    """Write the exported model in ``source`` to the new folder ``output``, its weights rounded to 16 bits.

    It is measured again, on the images that ``source`` was measured on.

    Args:
        source: The model.
        output: The new folder.
        root: Folder of the data set; None: as the model describes it.
    """
    model = load_model(source)
    exact = model.network.state_dict()
    state = {name: value.to(exact[name].dtype) for name, value in container.in_half(model.network).items()}
    model.network.load_state_dict(state)
    before = model.measurement
    dataset = at_root(model.dataset, root)
    images = split_for(model.keypoints, dataset, before.split, "the model")
    measured = measure(model.estimator(BATCH_SIZE), images, before.split, before.num_images, "rounded:")
    save_model(output, replace(model, dataset=dataset, measurement=measured))


def _in_few_storages(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return equal tensors that share one storage per precision: each storage costs a file some 250 bytes."""
    shared: dict[str, torch.Tensor] = {}
    for dtype in {tensor.dtype for tensor in state.values()}:
        chosen = {name: tensor for name, tensor in state.items() if tensor.dtype == dtype}
        flat = torch.cat([tensor.reshape(-1) for tensor in chosen.values()])
        parts = torch.split(flat, [tensor.numel() for tensor in chosen.values()])
        shared |= {name: part.view(state[name].shape) for name, part in zip(chosen, parts, strict=True)}
    return {name: shared[name] for name in state}


def _check_size(path: Path) -> None:
    if path.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes, at most {MOST_BYTES:,} are shipped; train a smaller space"
        )


if __name__ == "__main__":
    main()
