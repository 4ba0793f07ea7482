"""Reads body sides in the names of keypoints: which two names are each other's mirror image."""

import re
from collections.abc import Collection, Sequence

from supernet.errors import UserError

Pairs = tuple[tuple[int, int], ...]

_MIDLINE = frozenset(
    (
        *("nose", "neck", "head", "top", "chin", "throat", "mouth", "lip", "lips", "forehead", "face", "spine"),
        *("back", "chest", "thorax", "sternum", "belly", "navel", "torso", "trunk", "body", "pelvis", "root"),
        *("crotch", "tail", "snout", "muzzle", "center", "centre", "middle", "mid", "withers"),
    )
)
"""Words of body parts on the plane of symmetry, each its own mirror image."""


def words_of(name: str) -> tuple[str, ...]:
    """Split a name into words in lower case; left_eye, LeftEye and "left eye" give the same two."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", spaced.lower()) if word)


def sources_of(names: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Return for each of ``names`` the index of the same keypoint in ``others``, or None.

    Upper and lower case and what separates words do not matter, unless the very same name is there as well.
    """
    exact = {name: index for index, name in reversed(list(enumerate(others)))}
    by_words = {words: index for index, name in reversed(list(enumerate(others))) if (words := words_of(name))}
    return [exact.get(name, by_words.get(words_of(name))) for name in names]


def sides_of(names: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Return the indices of the left and of the right keypoints, for each body part whose names have a side."""
    parts: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for index, name in enumerate(names):
        side, part = _side(name)
        if side:
            parts.setdefault(part, {"left": [], "right": []})[side].append(index)
    return [(part["left"], part["right"]) for part in parts.values()]


def derived_pairs(names: Sequence[str], unpaired: Collection[str] = ()) -> Pairs:
    """Derive the pairs (left, right) of ``names`` that differ in their side only: left_eye, right_eye; l1, r1; tl, tr.

    Args:
        names: Of all keypoints.
        unpaired: Those that get no pair.

    Raises:
        UserError: A side has no counterpart, so that mirrored training images would be wrong.
    """
    alone = {index for index, name in enumerate(names) if name in unpaired}
    parts = [
        ([left for left in lefts if left not in alone], [right for right in rights if right not in alone])
        for lefts, rights in sides_of(names)
    ]
    parts = [part for part in parts if any(part)]
    for lefts, rights in parts:
        if len(lefts) != 1 or len(rights) != 1:
            ambiguous = ", ".join(repr(names[index]) for index in (*lefts, *rights))
            raise UserError(
                f"the names do not pair {ambiguous}, which must be one left and one right; set flip_pairs, or list in "
                "unpaired what has no counterpart, so that images are not mirrored"
            )
    pairs = [(lefts[0], rights[0]) for lefts, rights in parts]
    paired = {end for pair in pairs for end in pair}
    others = {words_of(name): index for index, name in enumerate(names) if index not in paired | alone}
    for words, index in others.items():
        counterparts = [others[twin] for twin in _right_twins(words) if twin in others]
        if len(counterparts) == 1:
            pairs.append((index, counterparts[0]))
    ends = [end for pair in pairs for end in pair]
    return tuple(pair for pair in pairs if all(ends.count(end) == 1 for end in pair))


def without_mirror_image(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that say nothing about their mirror image, where no name has a side; empty otherwise.

    Names on the plane of symmetry, and a single keypoint, are their own mirror images. Where some names have a side,
    the others are taken for such, unless the annotations show that they lie on one side
    (:func:`supernet.pose.coco.mirror_images.on_one_side`).
    """
    if len(names) == 1 or derived_pairs(names):
        return ()
    return tuple(name for name in names if not is_midline(name))


def is_midline(name: str) -> bool:
    """Whether a name is that of a body part on the plane of symmetry, such as nose or head_top."""
    words = words_of(name)
    return any(word in _MIDLINE for word in words) and not any(word.isdigit() for word in words)


def _side(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the side in a name, "left", "right" or "", and the other words of the name."""
    words = words_of(name)
    for place, word in enumerate(words):
        for side in ("left", "right"):
            if word == side[0] or word.startswith(side):
                rest = "" if word == side[0] else word[len(side) :]
                return side, (*words[:place], rest, *words[place + 1 :])
    return "", words


def _right_twins(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the names that differ from ``words`` in one letter, r for an l that begins or ends a word's letters."""
    twins = []
    for place, word in enumerate(words):
        letters = len(word.rstrip("0123456789"))
        for at in sorted({0, letters - 1} & set(range(letters))):
            if word[at] == "l":
                twins.append((*words[:place], f"{word[:at]}r{word[at + 1 :]}", *words[place + 1 :]))
    return twins
