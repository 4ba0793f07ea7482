"""Uploads a folder to a hub, and reads it back.

The files are staged first, without anything of this machine: the folder of a data set and the logs of a run stay here.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from subnet_export.browser.folder import FOLDER as PAGE_FOLDER
from subnet_export.deployment.formats import WEB
from subnet_export.exported_model import ExportedModel
from subnet_export.model import CARD_FILE, load_model, write_program
from subnet_export.publish import picture
from subnet_export.publish.model_card import PICTURE_FILE, model_card
from subnet_export.publish.supernet_card import supernet_card
from supernet.checkpoints import hub
from supernet.checkpoints.exported_network import DESCRIPTION_FILE, WEIGHTS_FILE, load_net, read_weights
from supernet.checkpoints.hub import HubName
from supernet.checkpoints.supernet_file import SAFETENSORS_FILE, TrainedSupernet, load_supernet, save_safetensors
from supernet.errors import UserError
from supernet.io import checksum, files
from supernet.version import PROJECT

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def check_repo(text: str) -> str:
    """Return ``text``; raise UserError unless it is ``owner/name``."""
    if not _REPO.fullmatch(text) or ".." in text or "--" in text:
        raise UserError(f"the repository must be owner/name, in letters, digits, -, _ and ., got {text!r:.80}")
    return text


def stage_model(source: Path, staging: Path, name: str, license: str | None, image: picture.Image | None) -> None:
    """Write the files of an exported model to share into ``staging``.

    Args:
        source: Folder of the model.
        staging: An empty folder.
        name: What commands will call it, ``hf://owner/name``.
        license: Licence of the weights; None for that which the model has.
        image: Drawn on and shown in the card (H, W, 3); by default the picture of ``source``, if there is one.

    Raises:
        UserError: The model or one of its files is damaged.
    """
    model = load_model(source)
    dataset = without_places(model.dataset)
    model = replace(model, dataset=dataset, license=license or model.license)
    old = {key: value for key, value in load_net(source).description.items() if key != checksum.KEY}
    description = {**old, "dataset": dataset, "license": model.license}
    _copy(source, staging, [WEIGHTS_FILE, *_format_files(model, source)])
    if image is not None:
        files.write_bytes(staging / PICTURE_FILE, picture.encoded(picture.photograph(model, image)))
    elif (source / PICTURE_FILE).exists():
        _copy(source, staging, [PICTURE_FILE])
    has_picture = (staging / PICTURE_FILE).exists()
    write_program(staging)
    files.write_json(staging / DESCRIPTION_FILE, checksum.with_checksum(description))
    files.write_text(staging / CARD_FILE, model_card(model, name, has_picture))
    load_model(staging)
    for record in model.formats.values():
        for file, sha256 in record.files.items():
            if hashlib.sha256(read_weights(staging / file)).hexdigest() != sha256:
                raise UserError(f"{source / file} is damaged (SHA-256 differs); restore it or export again")


def stage_supernet(source: str | Path, staging: Path, name: str, license: str) -> None:
    """Write the files of a supernet to share into ``staging``; for the arguments see :func:`stage_model`.

    Raises:
        UserError: There is no supernet, or it is damaged, or safetensors is not installed.
    """
    trained = load_supernet(source)
    save_safetensors(staging / SAFETENSORS_FILE, trained, without_places(trained.dataset))
    files.write_text(staging / CARD_FILE, supernet_card(_shared(trained), name, license))
    load_supernet(staging)


def staged_files(staging: Path) -> list[str]:
    """Return the files in ``staging`` and in its folders, such as a page's, relative to it."""
    return sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file())


def upload(staging: Path, repo: str, private: bool, message: str) -> HubName:
    """Upload the files in ``staging`` as one commit of a model repository, which is made if it does not exist.

    Returns:
        The repository with its new commit, whose files were downloaded again and are the same.

    Raises:
        UserError: The hub refuses, cannot be reached, or returns other files.
    """
    hub.require_library()
    from huggingface_hub import CommitOperationAdd, HfApi

    api, name = HfApi(endpoint=hub.endpoint(), library_name=PROJECT), HubName(repo)
    names = staged_files(staging)
    additions = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=str(staging / file)) for file in names]
    with hub.hub_errors(name, "upload to"):
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, additions, commit_message=message)
    uploaded = HubName(repo, commit.oid)
    folder = hub.fetched(str(uploaded), names)
    for file in names:
        if (folder / file).read_bytes() != (staging / file).read_bytes():
            raise UserError(f"{file} of {uploaded} is not what was uploaded; publish again")
    return uploaded


def without_places(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a data set without its folder; of files elsewhere, only their names are left."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, str) and PurePath(value).is_absolute():
            return PurePath(value).name
        return value

    described: dict[str, Any] = plain(dataset)
    return described | {"root": None} if "root" in dataset else described


def _format_files(model: ExportedModel, source: Path) -> list[str]:
    """The files of all formats, with the whole folder of a page."""
    recorded = [file for record in model.formats.values() for file in record.files]
    page = staged_files(source / PAGE_FOLDER) if WEB.name in model.formats else []
    return sorted({*recorded, *(f"{PAGE_FOLDER}/{file}" for file in page)})


def _shared(trained: TrainedSupernet) -> TrainedSupernet:
    return replace(trained, dataset=without_places(trained.dataset))


def _copy(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        files.write_bytes(target / name, files.read_bytes(source / name, "model file", files.HUGE))
