"""The exported model as a folder: a subnet's weights in the published format and all it takes to use them.

``weights.pt`` is LitePose's state dict, plain tensors under the published names. ``model.json`` says what the network
takes and gives, what it was calibrated, trained and measured on, and the checksum of the weights::

    from subnet_export.model import load_model
    model = load_model("runs/export/latest")
    people = model.predict(image)
"""

import copy
import io
from collections.abc import Callable
from pathlib import Path

import torch

from subnet_export.description import describe, from_description
from subnet_export.exported_model import ExportedModel
from subnet_export.staging import new_folder
from supernet import files
from supernet.errors import UserError
from supernet.exported_net import DESCRIPTION_FILE, WEIGHTS_FILE, load_net
from supernet.litepose import LitePose


def save_model(folder: str | Path, model: ExportedModel, check: Callable[[ExportedModel], None] | None = None) -> None:
    """Write ``model`` to the new folder ``folder``, all or nothing, after loading it back and comparing its maps.

    Args:
        folder: Must not exist.
        model: On any device, in evaluation mode.
        check: Called with the model as read back, on the same device; what it raises prevents the export.

    Raises:
        UserError: The folder exists, cannot be written, or what was written does not give the same maps.
        ValueError: The network is in training mode.
    """
    if model.network.training:
        raise ValueError("the network is in training mode; calibrate it before exporting it")
    with new_folder(folder) as staging:
        _write(staging, model)
        reloaded = load_model(staging)
        if not _same_maps(copy.deepcopy(model.network).cpu(), reloaded.network):
            raise UserError(f"{folder} would not give the same maps when read back; nothing was kept, export again")
        if check is not None:
            reloaded.network.to(model.device)
            check(reloaded)


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> ExportedModel:
    """Read an exported model and check that its files belong together and are as they were written.

    Raises:
        UserError: A file is missing, damaged, of another format, or does not fit the other.
    """
    net = load_net(folder)
    try:
        model = from_description(net)
    except UserError as error:
        raise UserError(f"{Path(folder) / DESCRIPTION_FILE}: {error}") from error
    model.network.to(device)
    return model


def _same_maps(written: LitePose, read: LitePose) -> bool:
    """Whether two networks on the CPU, where equal weights give equal bits, agree on a made-up picture."""
    side = written.arch.resolution
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return all(torch.equal(one, other) for one, other in zip(written(images), read(images), strict=True))


def _write(folder: Path, model: ExportedModel) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    buffer = io.BytesIO()  # first in memory: a full disk then is an OSError with a reason
    torch.save(state, buffer)
    content = buffer.getvalue()
    with files.atomic(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(content)
    files.write_json(folder / DESCRIPTION_FILE, describe(model, content))
