"""The curves of a run are drawn, whatever was logged."""

import math
from pathlib import Path

import pytest

from supernet.pose.data.image_decoding import read_image
from supernet.training.monitoring.curves import draw_curves, phases_of
from supernet.training.monitoring.curves_page import curves_figure, write_curves_page

pytestmark = pytest.mark.drawings


def rows() -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for step in range(0, 1000, 20):
        phase = "largest" if step < 500 else "width"
        loss = 0.03 * math.exp(-step / 400) + 0.005
        row: dict[str, object] = {"step": step, "phase": phase, "rate": 1e-2, "loss_largest": loss, "data_share": 0.1}
        if phase == "width":
            row |= {"loss_smallest": 1.5 * loss, "loss_random": 1.2 * loss, "loss_gap": 0.5 * loss}
        if step % 200 == 0:
            row |= {"AP_largest": step / 3000, "AP_smallest": step / 4000}
        lines.append(row)
    return lines


def test_curves_are_drawn_of_any_run(tmp_path: Path) -> None:
    bare = [{"step": 0, "phase": "only", "rate": 0.1, "total": 1.0, "data_share": 0.0}]
    for name, lines in (("full", rows()), ("bare", bare), ("empty", [])):
        draw_curves(tmp_path / f"{name}.png", lines, [200])
        image = read_image(tmp_path / f"{name}.png")
        assert image.shape == (1100, 1320, 3)
    full, empty = (read_image(tmp_path / f"{name}.png") for name in ("full", "empty"))
    # Coloured pixels are lines; without any row there are only grey ones.
    assert (full.max(axis=2) - full.min(axis=2) > 60).sum() > 2000
    assert (empty.max(axis=2) - empty.min(axis=2) > 60).sum() == 0


def test_the_page_shows_the_same_curves_with_a_mark_for_each_phase(tmp_path: Path) -> None:
    figure = curves_figure(rows(), [200])
    shown = {trace.name: trace for trace in figure.data}
    assert set(shown) == {
        *("largest subnet", "random subnet", "smallest subnet", "gap within a step"),
        *("largest subnet, AP", "smallest subnet, AP", "learning rate", "waiting for images"),
    }
    losses = [row["loss_largest"] for row in rows()]
    assert [value for value in shown["largest subnet"].y if value is not None] == losses
    # The smallest subnet is not trained in the first phase.
    smallest = shown["smallest subnet"]
    assert [step for step, value in zip(smallest.x, smallest.y, strict=True) if value is None] == [0]
    lines = {shape.x0 for shape in figure.layout.shapes if shape.type == "line"}
    assert lines == {0, 500, 200}
    assert {"largest", "width"} <= {note.text for note in figure.layout.annotations}


def test_a_page_is_written_of_any_run_and_loads_nothing(tmp_path: Path) -> None:
    evil = [{**row, "phase": "<img src=x>"} for row in rows()]
    for name, lines in (("full", evil), ("empty", [])):
        write_curves_page(tmp_path / f"{name}.html", lines, [200])
        text = (tmp_path / f"{name}.html").read_text()
        assert "<img" not in text
        assert "<script src" not in text


def test_phases_end_where_the_next_begins() -> None:
    assert phases_of(rows()) == [("largest", 0, 500), ("width", 500, 980)]


def test_the_page_has_no_empty_panel_where_ap_was_not_measured() -> None:
    without = [{key: value for key, value in row.items() if not key.startswith("AP_")} for row in rows()]
    panels = [{note.text for note in curves_figure(lines, []).layout.annotations} for lines in (rows(), without)]
    assert panels[0] - panels[1] == {"AP, validation"}
