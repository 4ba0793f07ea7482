"""Weights prepared for the package are those of the source in 16 bits, without the folders of this machine."""

import shutil
from pathlib import Path

import pytest
import torch

from scripts import ship_supernet
from scripts.ship_supernet import ship_export
from subnet_export.model import load_model
from supernet.checkpoints.exported_network import WEIGHTS_FILE, load_net
from supernet.checkpoints.lineage import IMAGENET
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from tests.helpers.evaluated_supernet import export_smallest, write_supernet


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Call the script as from a command line."""
    monkeypatch.setattr("sys.argv", ["ship_supernet", *map(str, arguments)])
    ship_supernet.main()


def test_a_supernet_keeps_all_but_the_precision_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_supernet(tmp_path)
    source, output = load_supernet(tmp_path), tmp_path / "shipped.pt"
    run(monkeypatch, "supernet", tmp_path, output)
    shipped = load_supernet(output)
    assert str(tmp_path).encode() in (tmp_path / "supernet.pt").read_bytes()
    assert str(tmp_path).encode() not in output.read_bytes()
    assert shipped.dataset == {**source.dataset, "root": None}
    assert (shipped.evaluation, shipped.objective) == (source.evaluation, source.objective)
    assert (shipped.keypoints, shipped.trained_on) == (source.keypoints, source.trained_on)
    exact, weights = source.supernet.state_dict(), dict(source.supernet.named_parameters())
    for name, value in shipped.supernet.state_dict().items():
        assert torch.equal(value, exact[name].half().float() if name in weights else exact[name])
    run(monkeypatch, "supernet", tmp_path, output, "--imagenet")
    assert load_supernet(output).trained_on == (IMAGENET, *source.trained_on)


def test_an_export_keeps_its_outputs_exactly_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_supernet(tmp_path)
    with pytest.raises(UserError, match="16 bits do not hold"):
        ship_export(export_smallest(tmp_path), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    run(monkeypatch, "round", tmp_path / "model", tmp_path / "rounded")
    ship_export(tmp_path / "rounded", tmp_path / "shipped_rounded")
    rounded, exact_state = load_net(tmp_path / "shipped_rounded"), load_net(tmp_path / "model").network.state_dict()
    assert any(not torch.equal(value, exact_state[name]) for name, value in rounded.network.state_dict().items())
    assert (
        load_model(tmp_path / "rounded").measurement.num_images == load_model(tmp_path / "model").measurement.num_images
    )
    shutil.rmtree(tmp_path / "model")
    run(monkeypatch, "supernet", tmp_path, tmp_path / "supernet.pt")
    trained = load_supernet(tmp_path)
    with torch.no_grad():  # smaller kernels are products, which 16 bits do not hold
        for name, weight in trained.supernet.network.named_parameters():
            if name.endswith("depth_conv.0.weight"):
                weight.zero_()
    rooted = {**trained.dataset, "root": str(tmp_path)}
    monkeypatch.setattr("tests.helpers.evaluated_supernet.load_supernet", lambda _: trained)
    trained.dataset.update(rooted)
    source = export_smallest(tmp_path)
    run(monkeypatch, "export", source, tmp_path / "shipped", "--notes", "../notes.md")
    before, after = load_net(source), load_net(tmp_path / "shipped")
    state = after.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.network.state_dict().items())
    assert (tmp_path / "shipped" / WEIGHTS_FILE).stat().st_size < (source / WEIGHTS_FILE).stat().st_size
    assert after.dataset == {**before.dataset, "root": None}
    changed = ("dataset", "weights", "checksum")
    for key, value in before.description.items():
        assert key in changed or after.description[key] == value
    assert load_model(tmp_path / "shipped").measurement == load_model(source).measurement
    for path in (tmp_path / "shipped").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    assert (tmp_path / "shipped" / "README.md").read_text().endswith("See [../notes.md](../notes.md).\n")
    assert f"{tmp_path / 'shipped' / WEIGHTS_FILE}: " in capsys.readouterr().out
