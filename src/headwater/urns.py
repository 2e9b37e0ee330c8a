"""URNs, the names of lineage nodes: what they look like and how they are written; parses text and looks nothing up.

A URN is written with names and numbers (`model:flight-delay/7`) and stored with IDs (`model:019...`); which is which
only a registry can tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headwater.errors import InvalidInputError
from headwater.names import ModelRef, parse_dataset, parse_model, quote, shown

__all__ = ["KINDS", "Urn", "dataset_urn", "is_id", "kind_of", "model_urn", "parse_urn"]

KINDS = ("model", "dataset", "run", "code", "deployment", "prediction", "object")
"""The kinds of lineage nodes."""

_FORMS = {
    "model": "model:NAME/7, model:NAME@ALIAS or model:NAME",
    "dataset": "dataset:NAME@1.1.0 or dataset:NAME",
    "run": "run:ID",
    "code": "code:REPOSITORY@COMMIT",
    "deployment": "deployment:ID",
    "prediction": "prediction:ID",
    "object": "object:PATH@COMMIT",
}
_KIND = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PART_OF_ID = re.compile(r"[0-9a-f-]{8,36}")
_COMMIT = {"code": re.compile(r"[0-9a-fA-F]{4,64}"), "object": re.compile(r"[0-9A-Za-z_.~-]+")}
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Urn:
    """A URN taken apart: its kind, what it names, and for code and objects at which commit.

    Attributes:
        kind: One of `KINDS`; empty where a bare name may be a model's or a dataset's.
        name: What follows the kind: a reference, an ID or the beginning of one, a repository, a path.
        commit: The commit of code or of an object, in full or not; else empty.
    """

    kind: str
    name: str
    commit: str = ""

    def __str__(self) -> str:
        where = f"@{self.commit}" if self.commit else ""
        return (f"{self.kind}:" if self.kind else "") + self.name + where


def kind_of(text: str) -> str:
    """Return the kind that a text begins with, in `KINDS` or not; empty where it begins with none.

    `models:/NAME/7` is MLflow's way to write a model.
    """
    found = _KIND.match(text)
    if found is None:
        return ""
    return "model" if found[1] == "models" else found[1]


def is_id(text: str) -> bool:
    """Return whether a text is a whole ID."""
    return _ID.fullmatch(text) is not None


def parse_urn(text: str) -> Urn:
    """Parse a URN, or a reference to a model or dataset without its kind.

    Raises:
        InvalidInputError: It is malformed, or of a kind that there is not; the message names the part that is wrong.
    """
    if not text or len(text) > _LONGEST or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InvalidInputError(f"not a URN: {shown(text)}", hint=f"write {_FORMS['model']}, or prediction:ID, say")
    kind = kind_of(text)
    if kind and kind not in KINDS:
        raise InvalidInputError(f"there is no kind of URN {shown(kind)}", hint=f"the kinds are {', '.join(KINDS)}")
    rest = text.partition(":")[2] if kind else text
    if kind == "model":
        return Urn(kind, str(parse_model(text)))
    if kind == "dataset":
        return Urn(kind, str(parse_dataset(text)))
    if kind in ("run", "deployment", "prediction"):
        return Urn(kind, _id(kind, rest))
    if kind in ("code", "object"):
        # A repository may have an @ in it, and a commit has none.
        name, _, commit = rest.rpartition("@")
        if not name or not _COMMIT[kind].fullmatch(commit):
            raise InvalidInputError(f"not a URN: {shown(text)}", hint=f"write {_FORMS[kind]}")
        return Urn(kind, name, commit.lower() if kind == "code" else commit)
    return _bare(text)


def _id(kind: str, text: str) -> str:
    found = text.strip().lower()
    if not _PART_OF_ID.fullmatch(found):
        raise InvalidInputError(
            f"not the ID of a {kind}: {shown(text)}", hint=f"write {_FORMS[kind]}, in full or 8 or more of its digits"
        )
    return found


def _bare(text: str) -> Urn:
    """Tell a model from a dataset by how it is written; a name alone may be either."""
    after = text.rpartition('"')[2] if text.startswith('"') else text
    if "/" in after:
        return Urn("model", str(parse_model(text)))
    if "@" in after:
        if after.rpartition("@")[2][:1].isdigit():
            return Urn("dataset", str(parse_dataset(text)))
        return Urn("model", str(parse_model(text)))
    return Urn("", str(parse_model(text)))


def model_urn(name: str, version: int | None = None) -> str:
    """Return how a model, or a version of it, is written."""
    return f"model:{ModelRef(name, version)}"


def dataset_urn(name: str, semver: str) -> str:
    """Return how a dataset version is written."""
    return f"dataset:{quote(name)}@{semver}"
