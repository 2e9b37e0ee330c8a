"""What names and references look like, and what is refused; parses text and looks nothing up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from headwater.errors import InvalidInputError

__all__ = [
    "DatasetRef",
    "ModelRef",
    "as_number",
    "as_texts",
    "bare_model",
    "because",
    "canonical_slice",
    "check_alias",
    "check_branch",
    "check_environment",
    "check_key",
    "check_label",
    "check_limit",
    "check_name",
    "check_reason",
    "check_tag",
    "check_text",
    "check_type",
    "counted",
    "parse_dataset",
    "parse_model",
    "parse_number",
    "parse_pair",
    "parse_slice",
    "parse_version",
    "quote",
    "shown",
    "shown_path",
    "slice_values",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_HEX = re.compile(r"[0-9a-fA-F]{8,}")
_SEMVER = re.compile(r"(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,17})", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_NUMBERLIKE = re.compile(r"v?\d+(\.\d+)*([-+].*)?")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_RESERVED = frozenset({"HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD"})

_LONGEST_NAME = 128
_LONGEST_KEY = 250
_LONGEST_TEXT = 1 << 20
_LONGEST_REASON = 10_000


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A registered model, or one version of it by number or by alias."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{quote(self.name)}/{self.version}"
        return f"{quote(self.name)}@{self.alias}" if self.alias is not None else quote(self.name)


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset, or one version of it by its semantic version."""

    name: str
    semver: str | None = None

    def __str__(self) -> str:
        return quote(self.name) + (f"@{self.semver}" if self.semver is not None else "")


def quote(name: str) -> str:
    """Return a name as it is written in a reference; one that was not made here is quoted."""
    return name if _NAME.fullmatch(name) else f'"{name}"'


def shown(text: str, longest: int = 80) -> str:
    """Return any text, safe for a terminal and not too long (in characters), in quotes.

    Letters stay as they were typed; what can't be printed is escaped, and where it is written, what can't be encoded.
    """
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def shown_path(path: str) -> str:
    """Return a path as `shown` does, whole unless it is longer than any that is used."""
    return shown(path, 1024)


def check_name(name: str, what: str) -> str:
    """Return the name of a new model or dataset.

    Raises:
        InvalidInputError: It is not `[a-z0-9][a-z0-9._-]{0,127}`.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        if not name:
            reason = "it is empty"
        elif len(name) > _LONGEST_NAME:
            reason = f"it has {len(name)} characters, and {_LONGEST_NAME} are allowed"
        elif unicodedata.normalize("NFKC", name).casefold() != name and _NAME.fullmatch(
            unicodedata.normalize("NFKC", name).casefold()
        ):
            reason = f"did you mean {unicodedata.normalize('NFKC', name).casefold()!r}?"
        else:
            reason = "use a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        article = "an" if what[0] in "aeiou" else "a"
        raise InvalidInputError(f"not a name for {article} {what}: {shown(name)}", hint=reason)
    return name


def check_alias(alias: str) -> str:
    """Return an alias.

    Raises:
        InvalidInputError: It is not a name, or could be taken for a version.
    """
    if not _NAME.fullmatch(alias):
        raise InvalidInputError(
            f"not an alias: {shown(alias)}", hint="use a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        )
    if alias == "latest" or _NUMBERLIKE.fullmatch(alias):
        raise InvalidInputError(
            f"not an alias: {shown(alias)} could be taken for a version", hint="choose a word, such as 'champion'"
        )
    return alias


def check_type(text: object, what: str) -> str:
    """Return text that a program gave, which may have given anything.

    Raises:
        InvalidInputError: It is no text.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"not a {what}: {shown(repr(text))}", hint="give its name as text")
    return text


def check_branch(branch: str) -> str:
    """Return the name of a new branch.

    Raises:
        InvalidInputError: It is malformed, could be taken for a commit ID, or is Headwater's own.
    """
    check_type(branch, "name for a branch")
    if not _BRANCH.fullmatch(branch) or len(branch) > _LONGEST_KEY:
        raise InvalidInputError(f"not a name for a branch: {shown(branch)}", hint=_branch_hint(branch))
    return _check_ref(branch, "branch")


def _branch_hint(branch: str) -> str:
    if len(branch) > _LONGEST_KEY:
        return f"it has {len(branch)} characters, and {_LONGEST_KEY} are allowed"
    plain = "".join(c for c in unicodedata.normalize("NFKD", branch) if not unicodedata.combining(c))
    likely = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")
    # A letter or two that are left of a word are no name that anybody meant.
    close = f"; {likely!r}, say" if _BRANCH.fullmatch(likely) and len(likely) > 2 else ""
    return f"use letters a-z and A-Z, digits, '_' and '-', and no '-' to begin with{close}"


def check_label(name: str, what: str) -> str:
    """Return the name of something that versions have, such as a check.

    Raises:
        InvalidInputError: It is malformed, or could be taken for a version.
    """
    check_name(check_type(name, f"name for a {what}"), what)
    if name == "latest" or _NUMBERLIKE.fullmatch(name):
        raise InvalidInputError(
            f"not a name for a {what}: {shown(name)} could be taken for a version", hint="put a word before it"
        )
    return name


def check_tag(tag: str) -> str:
    """Return the name of a new tag of the lake.

    Raises:
        InvalidInputError: It is malformed, could be taken for a commit ID or a version, or is Headwater's own.
    """
    what = f"not a name for a tag: {shown(check_type(tag, 'name for a tag'))}"
    if not _NAME.fullmatch(tag):
        if len(tag) > _LONGEST_NAME:
            hint = f"it has {len(tag)} characters, and {_LONGEST_NAME} are allowed"
        elif _NAME.fullmatch(tag.lower()):
            hint = f"use small letters: {tag.lower()!r}"
        else:
            hint = "use a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, such as release-2026-11"
        raise InvalidInputError(what, hint=hint)
    if ".." in tag or tag.endswith((".", ".lock")):
        raise InvalidInputError(what, hint="'..' and '.' or '.lock' at its end mean something to git and file systems")
    if tag == "latest" or _NUMBERLIKE.fullmatch(tag):
        raise InvalidInputError(f"{what} could be taken for a version", hint="put a word before it: 'release-1.0', say")
    return _check_ref(tag, "tag")


def _check_ref(name: str, kind: str) -> str:
    what = f"not a name for a {kind}: {shown(name)}"
    if _HEX.fullmatch(name):
        raise InvalidInputError(f"{what} could be taken for a commit ID", hint="use another letter than a to f, or '-'")
    if name.startswith("_hw_"):
        raise InvalidInputError(f"{what} is Headwater's own", hint="begin it with something else than '_hw_'")
    if name.upper() in _RESERVED:
        raise InvalidInputError(f"{what} means something else to git", hint="choose another name")
    return name


def check_key(key: str, what: str) -> str:
    """Return the key of a param, metric or tag: printable text of up to 250 characters.

    Raises:
        InvalidInputError: It is empty, too long, or has control or invisible characters.
    """
    if not key or len(key) > _LONGEST_KEY or _hidden_characters(key) or key != key.strip():
        raise InvalidInputError(
            f"not a key for a {what}: {shown(key)}", hint=f"use 1 to {_LONGEST_KEY} printable characters"
        )
    return key


def check_text(text: str, what: str) -> str:
    """Return free text: up to a million characters, with no NUL and nothing that cannot be encoded.

    Raises:
        InvalidInputError: It is too long or cannot be stored.
    """
    if len(text) > _LONGEST_TEXT:
        raise InvalidInputError(f"the {what} has {len(text)} characters, and {_LONGEST_TEXT} are allowed")
    if "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise InvalidInputError(f"the {what} is not text that can be stored: {shown(text)}")
    return text


def check_reason(reason: str | None, what: str = "reason") -> None:
    """Refuse a reason that is too long to be shown beside what it is for.

    Raises:
        InvalidInputError: It is, or it cannot be stored.
    """
    if reason is not None and len(check_text(reason, what)) > _LONGEST_REASON:
        raise InvalidInputError(f"the {what} has {len(reason)} characters, and {_LONGEST_REASON} are allowed")


def because(reason: str | None) -> str:
    """Return what a sentence ends with that has a reason."""
    return f": {reason}" if reason else ""


def bare_model(name: str) -> str:
    """Return the name of a model.

    Raises:
        InvalidInputError: It names a version, or nothing.
    """
    ref = parse_model(name)
    if ref.version is not None or ref.alias is not None:
        raise InvalidInputError(f"{ref} is a version", hint=f"name the model: {quote(ref.name)}")
    return ref.name


def check_environment(environment: str) -> str:
    """Return the name of an environment that versions are deployed to.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        return check_alias(environment)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"not an environment: {shown(environment)}", hint="use a word such as 'production'"
        ) from error


def check_limit(limit: int | None) -> None:
    """Refuse a limit that is no count.

    Raises:
        InvalidInputError: It is negative.
    """
    if limit is not None and limit < 0:
        raise InvalidInputError(f"not a limit: {limit}", hint="give a whole number from 0")


def _hidden_characters(text: str) -> bool:
    return any(unicodedata.category(c) in _FORBIDDEN_CATEGORIES for c in text)


def parse_version(text: str) -> int:
    """Return a version number.

    Raises:
        InvalidInputError: It is not a decimal number from 1, in ASCII digits.
    """
    if not _VERSION.fullmatch(text):
        raise InvalidInputError(f"not a version: {shown(text)}", hint="a version is a whole number from 1")
    return int(text)


def _split_name(text: str, what: str) -> tuple[str, str]:
    """Split off a name, which may be quoted, from what follows it."""
    if text.startswith('"'):
        name, quoted, rest = text[1:].partition('"')
        if not quoted or not name:
            raise InvalidInputError(f"not a {what}: {shown(text)}", hint="the quote is not closed")
        return name, rest
    at = min((i for i in (text.find("/"), text.find("@")) if i >= 0), default=len(text))
    return text[:at], text[at:]


def parse_model(text: str) -> ModelRef:
    """Parse `NAME`, `NAME/7`, `NAME@alias`, with `models:/` or `model:` before them if need be.

    Raises:
        InvalidInputError: It is none of these; the message names the part that is wrong.
    """
    bare = text.removeprefix("models:/").removeprefix("model:")
    name, rest = _split_name(bare, "model")
    if not name or len(name) > 1024 or _hidden_characters(name):
        raise InvalidInputError(f"not a model: {shown(text)}", hint="write NAME, NAME/7 or NAME@alias")
    if not rest:
        return ModelRef(name)
    if rest[0] == "/":
        return ModelRef(name, version=parse_version(rest[1:]))
    if rest[0] == "@" and rest[1:] == "latest":
        raise InvalidInputError("there is no alias 'latest'", hint="name a version, or an alias such as 'champion'")
    if rest[0] == "@" and _NAME.fullmatch(rest[1:]):
        return ModelRef(name, alias=rest[1:])
    raise InvalidInputError(f"not an alias: {shown(rest[1:])}", hint="write NAME@alias")


def parse_dataset(text: str) -> DatasetRef:
    """Parse `NAME` or `NAME@1.1.0`, with `dataset:` before it if need be.

    Raises:
        InvalidInputError: It is neither.
    """
    name, rest = _split_name(text.removeprefix("dataset:"), "dataset")
    if not name or len(name) > 1024 or _hidden_characters(name) or rest[:1] == "/":
        raise InvalidInputError(f"not a dataset: {shown(text)}", hint="write NAME or NAME@1.1.0")
    if not rest:
        return DatasetRef(name)
    if not _SEMVER.fullmatch(rest[1:]):
        raise InvalidInputError(f"not a dataset version: {shown(rest[1:])}", hint="write NAME@1.1.0")
    return DatasetRef(name, rest[1:])


def canonical_slice(values: dict[str, object]) -> str:
    r"""Return a slice as text: `column=value,...`, columns sorted, with `\` before each of `\ , = [ ]`."""

    def escape(text: str) -> str:
        return re.sub(r"([\\,=\[\]])", r"\\\1", text)

    return ",".join(f"{escape(check_key(c, 'slice'))}={escape(str(values[c]))}" for c in sorted(values))


def slice_values(text: str) -> dict[str, str]:
    """Return the columns and values of a slice that `canonical_slice` wrote; none of the slice of all rows."""
    found = {}
    for part in re.findall(r"(?:\\.|[^\\,])+", text, re.DOTALL):
        pair = re.fullmatch(r"((?:\\.|[^\\=])+)=((?:\\.|[^\\])*)", part, re.DOTALL)
        if pair is not None:
            column, value = (re.sub(r"\\(.)", r"\1", each, flags=re.DOTALL) for each in pair.groups())
            found[column] = value
    return found


def parse_slice(text: str) -> tuple[str, dict[str, object], float]:
    """Parse `KEY[COL=VAL,COL=VAL]=VALUE` into the metric's key, the slice, and the value.

    Raises:
        InvalidInputError: It is not of that form.
    """
    hint = "write KEY[COLUMN=VALUE]=NUMBER, such as auc[origin=JFK]=0.78"
    found = re.fullmatch(r"([^\[\]]+)\[((?:\\.|[^\\\]])+)\]=(.+)", text, re.DOTALL)
    if found is None:
        raise InvalidInputError(f"not a slice: {shown(text)}", hint=hint)
    values: dict[str, object] = {}
    for part in re.findall(r"(?:\\.|[^\\,])+", found[2], re.DOTALL):
        pair = re.fullmatch(r"((?:\\.|[^\\=])+)=((?:\\.|[^\\])*)", part, re.DOTALL)
        if pair is None:
            raise InvalidInputError(f"not a slice: {shown(text)}", hint=hint)
        column, value = (re.sub(r"\\(.)", r"\1", each, flags=re.DOTALL) for each in pair.groups())
        if column in values:
            raise InvalidInputError(f"the slice names {column!r} twice: {shown(text)}", hint=hint)
        values[column] = value
    return check_key(found[1], "metric"), values, parse_number(found[3])


def parse_number(text: str) -> float:
    """Return a metric's value; NaN and infinities are allowed.

    Raises:
        InvalidInputError: It is not a number.
    """
    try:
        if not text.isascii() or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        hint = "a slice is given with --slice" if "]" in text else "write a value such as 0.81"
        raise InvalidInputError(f"not a number: {shown(text)}", hint=hint) from None


def parse_pair(text: str, what: str) -> tuple[str, str]:
    """Parse `KEY=VALUE`.

    Raises:
        InvalidInputError: There is no `=`, or the key is not one.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError(f"not a {what}: {shown(text)}", hint="write KEY=VALUE")
    return check_key(key, what), check_text(value, what)


def as_number(key: str, value: object) -> float:
    """Return the value of a metric; NaN and infinities are allowed.

    Raises:
        InvalidInputError: It is not a number.
    """
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"metric {key!r} is not a number: {shown(repr(value))}", hint="give a float") from None


def as_texts(values: Mapping[str, object] | None, what: str) -> dict[str, str]:
    """Return params or tags, whose values are kept as text.

    Raises:
        InvalidInputError: A key or value can't be kept.
    """
    return {check_key(key, what): check_text(str(value), what) for key, value in (values or {}).items()}


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 file`, `3 files`, `2 batches`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
