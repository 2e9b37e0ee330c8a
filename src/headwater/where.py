"""A condition on runs, as people write it, into SQL over the view `runs`; reads text and runs nothing.

`metrics.auc`, `params.depth`, `tags.team` and `metrics."val/auc"` name entries of the view's maps. What would make more
of a condition than a condition is refused: statements, sub-queries, comments, and parentheses that do not match.
"""

from __future__ import annotations

import re

from headwater.errors import InvalidInputError
from headwater.names import shown
from headwater.sqltext import literal

__all__ = ["rewritten"]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--|/\*)
  | (?P<string>[eE]?'(?:[^'\\]|''|\\.)*')
  | (?P<quoted>"(?:[^"]|"")+")
  | (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d]\w*)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<sign>[-+*/%<>=!~^&|,.:@])
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(r"'(?:[^']|'')*'")
_MAPS = frozenset({"metrics", "params", "tags"})
_STATEMENTS = frozenset(
    "select insert update delete drop create alter attach detach copy export import install load call pragma set"  # noqa: SIM905
    " reset with values union intersect except begin commit rollback execute prepare use vacuum pivot unpivot"
    " describe show summarize explain checkpoint table".split()
)
_HINT = "write a condition such as: metrics.auc > 0.7 and params.depth = '6'"
_CLOSES = {")": "(", "]": "["}


def rewritten(condition: str) -> str:
    """Return a condition on the view `runs` as SQL that is one expression, whatever was written.

    A metric that is NaN compares as if it were not there.

    Raises:
        InvalidInputError: It is no single condition.
    """
    tokens = _tokens(condition)
    parts: list[str] = []
    opened: list[str] = []
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        before = next((tokens[i][1] for i in range(at - 1, -1, -1) if tokens[i][0] != "space"), "")
        if kind == "open":
            opened.append(text)
        elif kind == "close" and (not opened or opened.pop() != _CLOSES[text]):
            raise _refused(condition, f"{text!r} closes nothing")
        elif kind == "word" and before != ".":
            word = text.lower()
            if word in _MAPS and at + 2 < len(tokens) and tokens[at + 1][1] == ".":
                parts.append(_entry(condition, word, tokens[at + 2]))
                at += 3
                continue
            if word in _STATEMENTS or (word == "from" and before == "("):
                raise _refused(condition, f"{text!r} is not a part of a condition")
        parts.append(text)
        at += 1
    if opened:
        raise _refused(condition, f"{opened[-1]!r} is not closed")
    if not any(kind != "space" for kind, _ in tokens):
        raise _refused(condition, "it is empty")
    return f"({''.join(parts)})"


def _tokens(condition: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(condition):
        token = _TOKEN.match(condition, at)
        if token is None and (plain := _PLAIN.match(condition, at)):
            found.append(("string", plain[0]))
            at = plain.end()
            continue
        if token is None:
            raise _refused(condition, f"{shown(condition[at])} has no place in a condition")
        kind = token.lastgroup or ""
        if kind == "comment":
            raise _refused(condition, "a comment has no place in it")
        if kind == "string" and "\\" in token[0] and token[0][0] not in "eE":
            # a backslash means itself in a plain string, so it may be the string's last character
            plain = _PLAIN.match(condition, at)
            if plain is None:
                raise _refused(condition, "a string is not closed")
            found.append((kind, plain[0]))
            at = plain.end()
            continue
        found.append((kind, token[0]))
        at = token.end()
    return found


def _entry(condition: str, name: str, key: tuple[str, str]) -> str:
    kind, text = key
    if kind == "quoted":
        text = text[1:-1].replace('""', '"')
    elif kind != "word":
        raise _refused(condition, f"{name}. needs a key after it")
    entry = f"{name}[{literal(text)}]"
    return f"nullif({entry}, 'NaN'::DOUBLE)" if name == "metrics" else entry


def _refused(condition: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"not a condition on runs: {shown(condition)}: {why}", hint=_HINT)
