"""Writes an exported model to a folder and reads it: weights in the published format and all that using them takes.

``weights.pt`` is LitePose's state dict, plain tensors under the published names. ``model.json`` describes the network's
inputs and outputs, its calibration, training and measurement, and holds the checksums; ``README.md`` is the model card,
and ``pose.py`` runs the model without this project. Files of further formats may lie next to them::

    from subnet_export.model import load_model
    model = load_model("runs/export/latest")  # format="onnx" runs it in ONNX Runtime, if it was exported so
    people = model.predict(image)
"""

import copy
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from subnet_export.decoding.program import program
from subnet_export.deployment.detectors import DetectorRuntime
from subnet_export.deployment.formats import FORMATS, LITEPOSE, SAFETENSORS, TORCH_EXPORT, format_of, require
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.runtimes import Precision, check_outputs
from subnet_export.exported_model import ExportedModel, FormatRecord
from subnet_export.model_json import describe, from_description
from subnet_export.publish.model_card import PICTURE_FILE, model_card
from supernet.checkpoints import safe_torch
from supernet.checkpoints.container import load_state
from supernet.checkpoints.exported_network import DESCRIPTION_FILE, WEIGHTS_FILE, is_exported, load_net, read_weights
from supernet.checkpoints.pretrained import located
from supernet.errors import UserError
from supernet.io import checksum, files
from supernet.io.new_folder import new_folder
from supernet.litepose import LitePose

CARD_FILE = "README.md"
PROGRAM = "pose.py"
"""Finds people with the model's files and without this project (:mod:`subnet_export.decoding.pose`)."""


def save_model(
    folder: str | Path,
    model: ExportedModel,
    check: Callable[[ExportedModel], None] | None = None,
    write_formats: Callable[[Path, ExportedModel], dict[str, FormatRecord]] | None = None,
    picture: bytes | None = None,
) -> ExportedModel:
    """Write ``model`` to the new folder ``folder``, all or nothing, after loading it back and comparing its maps.

    Args:
        folder: A folder that does not exist yet.
        model: The model, on any device, in evaluation mode.
        check: Called with the model as read back, on the same device; an error it raises prevents the export.
        write_formats: Writes files of other formats into a folder and returns their records
            (:meth:`subnet_export.exporting.format_writer.FormatWriter.write`); an error it raises prevents the export.
        picture: Content of a JPEG file for the model card.

    Returns:
        ``model`` with exactly the formats that were written.

    Raises:
        UserError: The folder exists or cannot be written, or the model read back does not give the same maps.
        ValueError: The network is in training mode.
    """
    if model.network.training:
        raise ValueError("the network is in training mode; calibrate it before exporting it")
    with new_folder(folder) as staging:
        model = replace(
            model, formats=write_formats(staging, model) if write_formats else {}, runtime=None, detector=None
        )
        if picture is not None:
            files.write_bytes(staging / PICTURE_FILE, picture)
        _write(staging, model)
        reloaded = load_model(staging)
        if not _same_maps(copy.deepcopy(model.network).cpu(), reloaded.network):
            raise UserError(
                f"the model for {folder} does not give the same maps when read back; nothing was kept, export again"
            )
        if check is not None:
            reloaded.network.to(model.device)
            check(reloaded)
    return model


def load_model(
    folder: str | Path, device: torch.device | str = "cpu", format: str | None = None, precision: Precision = "f32"
) -> ExportedModel:
    """Read an exported model and check that its files belong together and are intact.

    Args:
        folder: The model's folder, or the file in it to run (``model.onnx``), or a name (``pretrained:photos_small``,
            ``hf://owner/name``, ``hf://owner/name@revision``).
        device: Where PyTorch runs the network; the other libraries run on the CPU.
        format: Which of its formats to run (:mod:`subnet_export.deployment.formats`); LitePose's own by default.
        precision: Precision of the layers in floating point; "bf16" for OpenVINO only.

    Raises:
        UserError: A file is missing, damaged, of another format, or does not fit the other; the model was not exported
            in the format, or its library is not installed.
    """
    if format is not None and format not in list(FORMATS):
        raise UserError(f"there is no format {format!r}; choose among {', '.join(FORMATS)}")
    given, folder = folder, located(folder, () if format is None else FORMATS[format].files)
    if folder.is_file():
        chosen = format_of(folder)
        depth = len(Path(chosen.files[0]).parts) if chosen else 1  # web/network.onnx lies deeper than model.onnx
        file, folder = folder, folder.parents[depth - 1]
        if not is_exported(folder):
            raise UserError(f"{given} is no exported model; name the folder of one, or export a subnet of a supernet")
        if chosen is None and file.name != DESCRIPTION_FILE:
            known = ", ".join(chosen.files[0] for chosen in FORMATS.values())
            raise UserError(f"{file} is not a file of an exported model; give its folder, or one of {known} in it")
        format = format or (chosen.name if chosen else None)
    net = load_net(folder)
    try:
        model = from_description(net)
    except UserError as error:
        raise UserError(f"{folder / DESCRIPTION_FILE}: {error}") from error
    model = replace(model, folder=Path(folder))
    model.network.to(device).eval()
    if precision != "f32" and format in (None, LITEPOSE.name, SAFETENSORS.name):
        raise UserError(f"PyTorch runs this model in f32, not in {precision}; choose f32 or format openvino")
    if format in (None, LITEPOSE.name):
        return model
    called = str(folder if Path(given).exists() else given)  # a name, such as pretrained:photos_small, stays one
    return _in_format(model, (folder, called), format, precision, device)


def _in_format(
    model: ExportedModel, place: tuple[Path, str], name: str, precision: Precision, device: torch.device | str
) -> ExportedModel:
    """Return ``model`` as read from the files of another format; ``place`` is its folder and what the user calls it."""
    folder, called = place
    if FORMATS[name] == TORCH_EXPORT:
        raise UserError(
            "format torch_export is for other programs: reading such a file can run code from it; load litepose, which "
            "is the same network"
        )
    if not FORMATS[name].loads_here:
        raise UserError(f"format {name} does not run here ({FORMATS[name].runs_on}); load litepose, the same network")
    if name not in model.formats:
        export = f"python -m subnet_export --model {shlex.quote(called)} --format {name}"
        raise UserError(f"{called} was not exported as {name}; run {export}")
    for file, sha256 in model.formats[name].files.items():
        if hashlib.sha256(read_weights(folder / file)).hexdigest() != sha256:
            raise UserError(f"{folder / file} is damaged (SHA-256 differs); restore it or export again")
    if model.formats[name].gives == "detections":
        detector = DetectorRuntime(folder, FORMATS[name], model.keypoints.num, model.settings, precision)
        return replace(model, detector=detector)
    if FORMATS[name] != SAFETENSORS:
        runtime = open_runtime(folder, FORMATS[name], precision)
        check_outputs(runtime, folder / FORMATS[name].files[0], model.keypoints.num)
        return replace(model, runtime=runtime)
    require(SAFETENSORS.readers, SAFETENSORS.extra, f"reading format {name}")
    import safetensors
    import safetensors.torch

    path = folder / SAFETENSORS.files[0]
    try:
        state = safetensors.torch.load_file(path, str(device))
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a file of weights ({error}); restore it or export the subnet again") from error
    load_state(model.network, state, path)
    return model


def _same_maps(written: LitePose, read: LitePose) -> bool:
    """Whether two networks on the CPU, where equal weights give equal bits, agree on an image of noise."""
    side = written.arch.resolution
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return all(torch.equal(maps, copies) for maps, copies in zip(written(images), read(images), strict=True))


def _write(folder: Path, model: ExportedModel) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    files.write_bytes(folder / WEIGHTS_FILE, safe_torch.serialize(state))
    write_program(folder)
    describe_in(folder, model)


def write_program(folder: Path) -> None:
    """Write the program that finds people with the files in ``folder``, which are there already."""
    files.write_text(folder / PROGRAM, program([path.name for path in folder.iterdir()]))


def describe_in(folder: Path, model: ExportedModel) -> None:
    """Write the description and the model card of ``model`` into ``folder``, which holds its weights file already."""
    description = describe(model, read_weights(folder / WEIGHTS_FILE))
    files.write_json(folder / DESCRIPTION_FILE, checksum.with_checksum(description))
    files.write_text(folder / CARD_FILE, model_card(model, has_picture=(folder / PICTURE_FILE).exists()))
