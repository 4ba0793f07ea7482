"""Genes: encoding and decoding archs, one row per arch, and refused values."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.arch import Stage
from supernet.errors import UserError
from supernet.genes import ABSENT
from supernet.space import SearchSpace

SPACES = {name: SearchSpace.load(name) for name in ("nano", "litepose")}
NANO = SPACES["nano"]
ROW = NANO.encode([NANO.smallest()])


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_archs_come_back_and_are_equal_where_their_rows_are(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(100)]
    archs += [space.mutate(arch, rng, 0.02) for arch in archs]  # some of them equal
    genes = space.encode(archs)
    assert genes.dtype == np.int16
    assert space.decode(genes) == archs
    rows = [tuple(row) for row in genes.tolist()]
    assert 100 < len(set(archs)) < 200
    assert len(set(rows)) == len(set(archs)) == len(set(zip(archs, rows, strict=True)))


def test_a_row_reads_as_documented() -> None:
    # nano: resolution 144, stem 16, ...; stage 1 holds widths 24 and 32, depths 1 and 2, ratios 3/4/6, kernels 3/5/7.
    smallest = NANO.smallest()
    arch = replace(
        smallest, resolution=144, stages=(smallest.stages[0], Stage(32, 2, (4,), (7,)), *smallest.stages[2:])
    )
    first = [1, 0, *(0, 0, 0, 0, -1, -1), *(1, 0, 1, 2, -1, -1)]
    deep = [0, 0, *(0, 0, 0, 0, 0, 0), *(-1, -1)]
    assert NANO.encode([arch]).tolist() == [[*first, *deep, *deep, 0, 0, 0]]
    assert NANO.layout.names[:6] == (
        "resolution",
        "stem width",
        "stage 0: width",
        "stage 0: depth",
        "stage 0, block 0: expand ratio",
        "stage 0, block 0: kernel size",
    )
    assert NANO.layout.choices[0] == (128, 144, 160)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_genes_past_the_depth_do_not_matter(data: st.DataObject) -> None:
    limits = [int(limit) - 1 for limit in NANO.layout.num_choices]
    row = np.array([data.draw(st.tuples(*(st.integers(0, limit) for limit in limits)))])
    (arch,) = NANO.decode(row)
    once = NANO.encode([arch])
    assert np.array_equal(once, NANO.layout.checked(row))
    assert NANO.decode(np.where(once == ABSENT, 99, once)) == [arch]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_drawn_genes_are_archs_of_the_space(space: SearchSpace) -> None:
    genes = space.layout.sample(np.random.default_rng(0), 300)
    archs = space.decode(genes)
    assert all(arch in space for arch in archs)
    assert np.array_equal(space.encode(archs), genes)
    for column, choices in enumerate(space.layout.choices):
        present = genes[genes[:, column] != ABSENT, column]
        share = np.bincount(present, minlength=len(choices)) / len(present)
        assert np.abs(share - 1 / len(choices)).max() < 5 * (0.25 / len(present)) ** 0.5


def test_no_archs_are_no_rows() -> None:
    assert NANO.encode([]).shape == (0, len(NANO.layout.names))
    assert NANO.decode(NANO.encode([])) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resolution": 512}, "resolution is 512, which is outside the space; allowed: 128, 144, 160"),
        ({"stem_width": 8}, "stem width is 8, which is outside the space; allowed: 16"),
        ({"deconv_widths": (32, 32, 17)}, "deconv 2: width is 17, which is outside the space; allowed: 16, 24, 32"),
    ],
)
def test_archs_outside_the_space_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        NANO.encode([NANO.smallest(), replace(NANO.smallest(), **change)])


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        (
            Stage(16, 2, (2, 5), (3, 3)),
            "stage 0, block 1: expand ratio is 5, which is outside the space; allowed: 2, 3",
        ),
        (Stage(16, 2, (2, 2), (3, 7)), "stage 0, block 1: kernel size is 7, which is outside"),
        (Stage(24, 2, (2,), (3,)), "stage 0: width is 24, which is outside"),
        (Stage(16, 2, (2,) * 3, (3,) * 3), "stage 0: depth is 3, which is outside the space; allowed: 1, 2"),
    ],
)
def test_stages_outside_the_space_are_refused(stage: Stage, named: str) -> None:
    smallest = NANO.smallest()
    with pytest.raises(UserError, match=re.escape(named)):
        NANO.encode([replace(smallest, stages=(stage, *smallest.stages[1:]))])


@pytest.mark.parametrize(
    ("column", "gene", "named"),
    [
        (0, 3, "resolution: the gene in row 1 must be from 0 to 2, .*, got 3"),
        (1, -1, "stem width: the gene in row 1 .*, got -1"),
        (3, 2, "stage 0: depth: the gene in row 1 .*, got 2"),
        (3, -1, "stage 0: depth: the gene in row 1 .*, got -1"),
        (3, 1, "stage 0, block 1: expand ratio: the gene in row 1 .*, got -1"),
        (10, 3, "stage 1, block 0: expand ratio: the gene in row 1 .*, got 3"),
        (11, 32767, "stage 1, block 0: kernel size: the gene in row 1 .*, got 32767"),
        (ROW.shape[1] - 1, 3, "deconv 2: width: the gene in row 1 .*, got 3"),
    ],
)
def test_genes_outside_the_space_are_refused_with_their_place(column: int, gene: int, named: str) -> None:
    genes = np.concatenate([ROW, ROW])
    genes[1, column] = gene
    with pytest.raises(UserError, match=f"^{named}$"):
        NANO.decode(genes)


@pytest.mark.parametrize("genes", [ROW[0], ROW[:, :-1], ROW.astype(float), ROW.astype(bool)], ids=str)
def test_other_arrays_are_refused(genes: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"genes of this space must be whole numbers of shape"):
        NANO.decode(genes)
