"""ONNX Runtime comes from an npm package that is there, checked, or else from a public address."""

import json
from pathlib import Path

import pytest

from subnet_export.browser.onnxruntime_web import ADDRESS, INTEGRITY, PACKAGE, VERSION, page_runtime
from supernet.errors import UserError


def write_package(folder: Path, name: str = PACKAGE, version: str = "1.99.0") -> Path:
    """Write an npm package with files of one byte."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))
    for file in INTEGRITY:
        (folder / "dist" / file).write_bytes(b"0")
    return folder


def test_without_a_package_the_public_address_has_version_and_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = page_runtime()
    assert (runtime.package, runtime.address, runtime.integrity) == (None, ADDRESS, INTEGRITY)
    assert f"@{VERSION}/" in runtime.address


def test_an_installed_package_is_copied_with_its_own_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "node_modules" / PACKAGE)
    runtime = page_runtime()
    assert (runtime.version, runtime.address) == ("1.99.0", "onnxruntime-web/")
    # openssl dgst -sha384 -binary, of the byte "0", in base64
    sha384 = "sha384-X5FVDtsD8LuJF9pX8PiBiXb12pcTB7fuSIa7lRxIkaHxb4QNro9lWqXfcYiE68Fb"
    assert set(runtime.integrity.values()) == {sha384}
    runtime.copy_to(tmp_path)
    assert {path.name for path in (tmp_path / "onnxruntime-web").iterdir()} == set(INTEGRITY)


@pytest.mark.parametrize(
    ("name", "version", "gone", "message"),
    [
        ("other", VERSION, None, "not the npm package onnxruntime-web"),
        (PACKAGE, VERSION, None, f"differs from the published {PACKAGE} {VERSION}"),
        (PACKAGE, "1.2.0", "dist/ort.webgpu.bundle.min.mjs", rf"ort\.webgpu\.bundle.*npm install {PACKAGE}@{VERSION}"),
        (PACKAGE, "1.2.0", "package.json", r"package\.json"),
    ],
)
def test_another_package_is_refused(name: str, version: str, gone: str | None, message: str, tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", name, version)
    if gone:
        (package / gone).unlink()
    with pytest.raises(UserError, match=message):
        page_runtime(package)
