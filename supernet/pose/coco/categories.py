"""Chooses the annotated category of a file in COCO's format, or several that have the same keypoints."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.errors import UserError, first_few
from supernet.pose.coco.annotation_rules import Fault
from supernet.pose.coco.identities import own_id, whole_number
from supernet.pose.custom_keypoints import CustomKeypoints, WrongOption, check_names
from supernet.pose.keypoint_names import words_of
from supernet.pose.keypoints import KeypointSet

PERSON = "person"
"""The category that is taken where the configuration names none."""
_MOST_NAMED = 10
"""Categories that a message names."""

CategoryName = str | tuple[str, ...] | None
"""Name of the annotated category; several are merged; None: "person" if it has keypoints, or the only one with some."""


@dataclass(frozen=True, eq=False)
class AnnotatedCategory:
    """The category that people are annotated in.

    Attributes:
        entry: Its entry in the file, of several categories that of the first.
        ids: The ids of all of them, as whole numbers.
        keypoints: The keypoints of its people.
    """

    entry: dict[str, Any]
    ids: frozenset[int]
    keypoints: KeypointSet


class CategoryFault(Exception):
    """No category can be chosen; ``fault`` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.rule)
        self.fault = fault


def choose_category(
    entries: Sequence[Any], used_ids: Iterable[Any], keypoints: KeypointSet | CustomKeypoints, name: CategoryName
) -> AnnotatedCategory:
    """Choose the annotated category.

    Of several with the right name, the one with keypoints is taken, and of those the one that annotations use: some
    tools write a root category of the same name. A person without keypoints is a box beside the skeletons of another
    category.

    Args:
        entries: The list ``categories`` of the file.
        used_ids: The category id of each annotation.
        keypoints: The keypoint set of the annotations; a custom set is completed from the category.
        name: See ``CategoryName``.

    Raises:
        CategoryFault: There is no such category or there are several, or its keypoints are others.
        UserError: The configuration of the keypoints is wrong, whatever the category.
    """
    objects = [entry for entry in entries if isinstance(entry, dict)]
    used: set[int | None] | None = None
    chosen: list[dict[str, Any]] = []
    for wanted in name if isinstance(name, tuple) else (name,):
        candidates = [entry for entry in objects if entry.get("name") == (wanted or PERSON)]
        if wanted is None and not any(entry.get("keypoints") for entry in candidates):
            candidates = [entry for entry in objects if entry.get("keypoints")] or candidates or objects
        if len(candidates) > 1:
            candidates = [entry for entry in candidates if entry.get("keypoints")] or candidates
        if len(candidates) > 1:
            used = {whole_number(category_id) for category_id in used_ids} if used is None else used
            candidates = [entry for entry in candidates if whole_number(entry.get("id")) in used] or candidates
        if len(candidates) != 1:
            raise CategoryFault(Fault("category", "categories", _choice_rule(wanted, candidates, objects)))
        chosen += candidates
    complete = [_complete(entry, _place(entries, entry), keypoints) for entry in chosen]
    for entry, other in zip(chosen, complete, strict=True):
        if [words_of(word) for word in other.names] != [words_of(word) for word in complete[0].names]:
            rule = f"are not those of {chosen[0].get('name')!r}; only categories with the same keypoints can be merged"
            raise CategoryFault(Fault("category", f"{_place(entries, entry)}.keypoints", rule))
    ids = [whole_number(entry.get("id")) for entry in chosen]
    first = {**chosen[0], "id": own_id(chosen[0]["id"])}
    return AnnotatedCategory(first, frozenset(number for number in ids if number is not None), complete[0])


def _complete(entry: Mapping[str, Any], place: str, keypoints: KeypointSet | CustomKeypoints) -> KeypointSet:
    """The keypoints of a category, which agree with those that are configured.

    Raises:
        CategoryFault: They do not, or the category is wrong.
        UserError: The configuration is wrong, whatever the category.
    """
    if whole_number(entry.get("id")) is None:
        raise CategoryFault(Fault("category", f"{place}.id", "must be an integer"))
    try:
        if isinstance(keypoints, CustomKeypoints):
            return keypoints.complete(entry)
        in_file = CustomKeypoints.from_category({"keypoints": entry.get("keypoints")})
        check_names(in_file.names, keypoints.names, keypoints.name)
    except WrongOption as error:
        raise UserError(f"dataset.keypoints.{error}") from error
    except UserError as error:
        raise CategoryFault(Fault("category", f"{place}.keypoints", str(error))) from error
    return keypoints


def _place(entries: Sequence[Any], entry: Mapping[str, Any]) -> str:
    return f"categories[{next(number for number, other in enumerate(entries) if other is entry)}]"


def _choice_rule(
    wanted: str | None, candidates: Sequence[Mapping[str, Any]], objects: Sequence[Mapping[str, Any]]
) -> str:
    """What is wrong with the number of candidates, with their names."""
    names = [repr(entry.get("name"))[:80] for entry in candidates or objects]
    listed = first_few(names, most=_MOST_NAMED)
    if not candidates:
        return f"must contain one named {wanted or PERSON!r}, but contain {listed or 'none'}; set dataset.category=NAME"
    if wanted is not None:
        return f"must contain one named {wanted!r}, but contain {len(candidates)}; give each its own name"
    return (
        f"contain {len(candidates)} that may be annotated: {listed}; choose one with dataset.category=NAME, or merge "
        "some with the same keypoints with dataset.category=[NAME,NAME]"
    )
