"""Long lists are read in batches with the values that the whole file has, or the file is left to be read as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernet.io import json_lists
from supernet.io.json_lists import Unusual, read_lists

FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NAMES = ("images", "annotations")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text('ab},]{["\\é\ud83d\u2028', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("xy},", max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["id", "name", "a},b"]), VALUES, max_size=3)


def read(path: Path) -> dict[str, list[Any]]:
    lists: dict[str, list[Any]] = {}
    for name, batch in read_lists(path, NAMES, 10**9):
        lists.setdefault(name, []).extend(batch)
    return lists


@FUZZ
@given(
    images=st.lists(OBJECTS, max_size=8),
    annotations=st.lists(OBJECTS | VALUES, max_size=8),
    other=VALUES,
    chunk=st.sampled_from([1, 2, 7, 64, 2**22]),
    indent=st.sampled_from([None, 1]),
    data=st.data(),
)
def test_lists_are_those_of_the_json_module(
    images: Any, annotations: Any, other: Any, chunk: int, indent: int | None, data: st.DataObject, tmp_path: Path
) -> None:
    content = {"images": images, "info": other, "annotations": annotations, "more": [other]}
    keys = data.draw(st.permutations(list(content)))
    ascii_only = data.draw(st.booleans())
    text = json.dumps({key: content[key] for key in keys}, indent=indent, ensure_ascii=ascii_only)
    path = tmp_path / "x.json"
    path.write_bytes((b"\xef\xbb\xbf" if chunk == 7 else b"") + text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK_BYTES", chunk)
        patch.setattr(json_lists, "BATCH_SIZE", 3)
        try:
            found = read(path)
        except Unusual:
            with pytest.raises(UnicodeDecodeError):  # half a surrogate pair, which is no UTF-8
                path.read_bytes().decode("utf-8-sig")
            return
    assert found == {"images": images, "annotations": annotations}
    assert [json.dumps(found[name]) for name in NAMES] == [json.dumps(images), json.dumps(annotations)]


@FUZZ
@given(cut=st.integers(0, 200), at=st.integers(0, 10**6), byte=st.integers(0, 255), chunk=st.sampled_from([3, 2**22]))
def test_damaged_files_are_left_to_be_read_as_a_whole(cut: int, at: int, byte: int, chunk: int, tmp_path: Path) -> None:
    text = bytearray(json.dumps({"images": [{"id": 1}, {"id": 2}], "v": 1, "annotations": [{"a": [1.5]}]}).encode())
    text[at % len(text)] = byte
    content = bytes(text[: len(text) - cut])
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK_BYTES", chunk)
        try:
            found = read(path)
        except Unusual:
            return
    whole = json.loads(content.decode("utf-8-sig"))
    assert found == {name: whole[name] for name in NAMES if name in whole}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"images": {}}',
        '{"images": null}',
        '{"images": []} x',
        '{"images": [1,]}',
        '{"images": [1 2]}',
        '{"images": [], "images": [1]}',
        '{"images": [' + "[" * 10**5,
        '{"images": [' + "9" * 5000 + "]}",
    ],
)
def test_other_files_are_unusual(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(Unusual):
        read(tmp_path / "x.json")


def test_missing_and_large_files_and_folders_are_unusual(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": []}')
    assert read(tmp_path / "x.json") == {"images": []}
    for path, most in ((tmp_path / "x.json", 5), (tmp_path / "absent.json", 99), (tmp_path, 99)):
        with pytest.raises(Unusual):
            list(read_lists(path, NAMES, most))
