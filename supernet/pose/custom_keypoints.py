"""Keypoint sets of one's own: from an annotation file's category, from configuration, or from both.

Source: COCO's category entries hold ``keypoints`` (names) and ``skeleton`` (pairs counted from 1); ``sigmas`` and
``flip_pairs`` are read where a file has them. Keypoints are named or counted from 1 everywhere, as COCO does.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.keypoints import BUILT_IN, COCO, CROWDPOSE, MOST_KEYPOINTS, KeypointSet, keypoint_set

DEFAULT_SIGMA = 0.072
"""Of a keypoint that no published set names: the median of COCO's 17."""

_KNOWN_SIGMAS = dict(zip(CROWDPOSE.names, CROWDPOSE.sigmas, strict=True)) | dict(
    zip(COCO.names, COCO.sigmas, strict=True)
)
_IN_CATEGORY = {"keypoints": "names", "sigmas": "sigmas", "flip_pairs": "flip_pairs", "skeleton": "skeleton"}
"""What a category calls the fields of ``CustomKeypoints``."""

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CustomKeypoints:
    """What configuration says about a keypoint set; what is None is taken from the annotation file.

    Attributes:
        name: Name of the set, not that of a built-in one.
        names: K keypoint names.
        sigmas: K standard deviations for OKS.
        flip_pairs: Pairs (left, right) of names, or of numbers from 1.
        skeleton: Pairs that a drawing connects, likewise.
        area_from_box: Whether 0.53 of a person's box stands for the area, as in CrowdPose; else files must hold it.
    """

    name: str = "custom"
    names: tuple[str, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    flip_pairs: tuple[tuple[Any, ...], ...] | None = None
    skeleton: tuple[tuple[Any, ...], ...] | None = None
    area_from_box: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for a name that stands for another set."""
        if not self.name or self.name in BUILT_IN:
            raise UserError(f"a custom keypoint set cannot be called {self.name!r}; choose another name")

    @classmethod
    def from_category(cls, category: Mapping[str, Any]) -> Self:
        """What a category of an annotation file says.

        Raises:
            UserError: An entry is of the wrong kind.
        """
        told = {own: category[key] for key, own in _IN_CATEGORY.items() if category.get(key) is not None}
        return from_mapping(cls, told, "")

    def complete(self, category: Mapping[str, Any]) -> KeypointSet:
        """The keypoint set that this and a category of an annotation file describe together; this goes first.

        Mirror pairs that nobody tells are derived from left and right in the names. An OKS constant that nobody tells
        is the published one of a keypoint of that name, or ``DEFAULT_SIGMA``, with a warning.

        Raises:
            UserError: The two disagree about the names, or an entry is missing, wrong, or contradicts the names.
        """
        file = type(self).from_category(category)
        names = self.names if self.names is not None else file.names
        if not names:
            raise UserError("the names of the keypoints are not known; list them as keypoints of the category")
        if len(names) > MOST_KEYPOINTS:
            raise UserError(f"{len(names)} keypoints are listed; a set has at most {MOST_KEYPOINTS}")
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"the keypoint {repeated[0]!r} is listed more than once; give each its own name")
        if odd := [name for name in names if not name or not name.isprintable()]:
            raise UserError(f"a keypoint is called {odd[0]!r}, which cannot be shown; give it another name")
        check_names(file.names, names, self.name)
        pairs = self.flip_pairs if self.flip_pairs is not None else file.flip_pairs
        bones = self.skeleton if self.skeleton is not None else file.skeleton
        return KeypointSet(
            name=self.name,
            names=names,
            sigmas=_sigmas(self.sigmas if self.sigmas is not None else file.sigmas, names),
            flip_pairs=derived_pairs(names) if pairs is None else _told_pairs(pairs, names),
            skeleton=_pairs(bones or (), names, "skeleton"),
            area_from_box=self.area_from_box,
        )


def from_plain(value: Any) -> KeypointSet:
    """The keypoint set that ``KeypointSet.to_plain`` described, or a built-in one by name.

    Raises:
        UserError: There is no such set, or the description is incomplete or wrong.
    """
    if isinstance(value, str):
        return keypoint_set(value)
    if isinstance(value, Mapping) and (missing := {field.name for field in fields(CustomKeypoints)} - value.keys()):
        raise UserError(
            f"keypoint set {value.get('name')!r} is unknown ({', '.join(BUILT_IN)} are known) and its description has "
            f"no {', '.join(sorted(missing))}; add them"
        )
    return from_mapping(CustomKeypoints, value, "keypoints").complete({})


def to_entry(keypoints: KeypointSet) -> dict[str, Any]:
    """What an exported model says of its keypoints: ``set`` and ``names``, and all the rest of a custom set."""
    plain = keypoints.to_plain()
    if isinstance(plain, str):
        return {"set": plain, "names": list(keypoints.names)}
    return {"set": plain.pop("name"), **plain}


def from_entry(entry: Mapping[str, Any]) -> KeypointSet:
    """The keypoint set that ``to_entry`` described.

    Raises:
        UserError: There is no such set, or the description is incomplete or wrong.
    """
    if entry.get("set") in BUILT_IN:
        return keypoint_set(entry["set"])
    return from_plain({"name": entry.get("set"), **{key: value for key, value in entry.items() if key != "set"}})


def check_names(listed: Sequence[str] | None, names: Sequence[str], name: str) -> None:
    """Refuse a file that lists other keypoints, or in another order, than the set called ``name`` has.

    Case and separators do not count, and a file may list none.

    Raises:
        UserError: They differ.
    """
    if listed is None:
        return
    if len(listed) != len(names):
        raise UserError(f"lists {len(listed)} keypoints, but the keypoint set {name} has {len(names)}")
    for number, (theirs, ours) in enumerate(zip(listed, names, strict=True), start=1):
        if _tokens(theirs) != _tokens(ours):
            raise UserError(f"calls keypoint {number} {theirs!r}, but in the keypoint set {name} it is {ours!r}")


def derived_pairs(names: Sequence[str]) -> Pairs:
    """Pairs (left, right) of ``names`` that differ in their side only, such as left_eye and right_eye, LEye and REye.

    Raises:
        UserError: A side has no counterpart, or no name tells a side, so that mirroring would teach wrong places.
    """
    parts = _sides(names)
    for lefts, rights in parts:
        if len(lefts) != 1 or len(rights) != 1:
            alike = ", ".join(repr(names[index]) for index in (*lefts, *rights))
            raise UserError(f"the names do not tell which keypoint mirrors which of {alike}; set flip_pairs")
    if not parts:
        raise UserError(
            "no keypoint's name tells left or right, so what a mirrored image exchanges is not known; set flip_pairs "
            "(to [] if nothing is exchanged)"
        )
    return tuple((lefts[0], rights[0]) for lefts, rights in parts)


def _told_pairs(told: Sequence[Sequence[Any]], names: Sequence[str]) -> Pairs:
    """Mirror pairs as given, unless they contradict the names (numbers counted from 0 mostly do)."""
    pairs = _pairs(told, names, "flip_pairs")
    if len({end for pair in pairs for end in pair}) != 2 * len(pairs):
        raise UserError("flip_pairs name a keypoint twice; name each once")
    for lefts, rights in _sides(names):
        if len(lefts) == len(rights) == 1 and not {(lefts[0], rights[0]), (rights[0], lefts[0])} & set(pairs):
            left, right = names[lefts[0]], names[rights[0]]
            raise UserError(
                f"flip_pairs do not pair {left!r} with {right!r}; give pairs of names, or of numbers from 1"
            )
    return pairs


def _pairs(told: Sequence[Sequence[Any]], names: Sequence[str], key: str) -> Pairs:
    """Pairs of names or of numbers from 1 as pairs of indices."""
    pairs = []
    for pair in told:
        ends = [names.index(end) if end in names else end - 1 if type(end) is int else -1 for end in pair]
        if len(ends) != 2 or not all(0 <= end < len(names) for end in ends) or ends[0] == ends[1]:
            raise UserError(
                f"{key} holds {list(pair)}, which is no pair of the {len(names)} keypoints; give two names, or two "
                "numbers from 1"
            )
        pairs.append((ends[0], ends[1]))
    return tuple(pairs)


def _sigmas(told: tuple[float, ...] | None, names: Sequence[str]) -> tuple[float, ...]:
    if told is not None:
        if len(told) != len(names) or not all(0 < sigma < math.inf for sigma in told):
            raise UserError(f"sigmas must be {len(names)} numbers above 0, one for each keypoint")
        return told
    known = {_tokens(name): sigma for name, sigma in _KNOWN_SIGMAS.items()}
    unknown = [name for name in names if _tokens(name) not in known]
    if unknown:
        warnings.warn(
            f"the OKS sigmas of {', '.join(unknown)} are not known and taken as {DEFAULT_SIGMA}, the median of COCO's; "
            "AP can be compared only where the same sigmas are used, and dataset.keypoints.sigmas sets them",
            stacklevel=2,
        )
    return tuple(known.get(_tokens(name), DEFAULT_SIGMA) for name in names)


def _tokens(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: of left_eye, LeftEye and "left eye" the same two."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", spaced.lower()) if word)


def _side(name: str) -> tuple[str, tuple[str, ...]]:
    """The side that a name tells, "left", "right" or "", and its words without it."""
    words = _tokens(name)
    for place, word in enumerate(words):
        for side in ("left", "right"):
            if word == side[0] or word.startswith(side):
                rest = "" if word == side[0] else word[len(side) :]
                return side, (*words[:place], rest, *words[place + 1 :])
    return "", words


def _sides(names: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """For each part of the body whose names tell a side, the indices of the left and of the right ones."""
    parts: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for index, name in enumerate(names):
        side, part = _side(name)
        if side:
            parts.setdefault(part, {"left": [], "right": []})[side].append(index)
    return [(part["left"], part["right"]) for part in parts.values()]
