"""What an event says, in words, and whether it has to catch the eye; looks nothing up but numbers of versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from headwater.errors import HeadwaterError
from headwater.fold import entries_of

__all__ = ["told"]

Called = Callable[[str | None], str]


def told(
    kind: str, subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    """Return what an event says, and its mark (see `Happening.mark`).

    Args:
        kind: The event's kind.
        subject: What it is about.
        key: Its key.
        value: What it says.
        before: What the events said that it supersedes.
        called: Returns the number of a version by its ID.
    """
    words = _WORDS.get(kind)
    try:
        if words is not None:
            return words(subject, key, value, before, called)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, HeadwaterError):
        return f"{kind} {key} says what can't be read".replace("  ", " "), ""
    what = f"{kind} {key}" if key else kind
    if value is None:
        return f"{what} is taken away", ""
    return f"{what} is {_short(value)}", ""


Words = Callable[[str, str, str | None, Sequence[str | None], Called], tuple[str, str]]


def _stage(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    was = " and ".join(dict.fromkeys(each or "none" for each in before)) or "none"
    return f"{was} -> {value or 'none'}", ""


def _alias(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    was = " and ".join(dict.fromkeys(called(each) for each in before))
    if value is None:
        return f"{key} is no more" + (f", was {was}" if was and was != "nothing" else ""), ""
    return f"{key} is {called(value)}" + (f", was {was}" if was and was != called(value) else ""), ""


def _traffic(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    parts = [
        f"{called(each['version_id'])} {each['mode']}"
        + (f" {each['percent']:g} %" if each["percent"] is not None else "")
        for each in entries_of(value)
    ]
    return f"{key} is served by {', '.join(parts) or 'nothing'}", ""


def _policy(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    from hashlib import sha256

    whose = f"the policy of {subject}" if ":" in subject else "the policy"
    if value is None:
        return f"{whose} is taken away", ""
    had = any(each is not None for each in before)
    return f"{whose} is {'changed' if had else 'set'}, {sha256(value.encode()).hexdigest()[:12]}", ""


def _gate(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    stage, _, gate = key.partition(" ")
    if value is None:
        return f"gate {gate} of {stage} is taken away", ""
    found = json.loads(value)
    passed = found["passed"] is True
    verdict = "passed" if passed else "FAILED"
    text = f"gate {gate} of {stage} {verdict}: required {found['required']}, found {found['found']}"
    return text, "" if passed else "failed"


def _check(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    found: Any = json.loads(value or "null")
    passed = found["passed"] is True
    more = "".join(f", {found[each]}" for each in ("url", "detail") if found.get(each))
    return f"check {key} {'passed' if passed else 'FAILED'}{more}", "" if passed else "failed"


def _approval(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    stage, _, who = key.partition(" ")
    found: Any = json.loads(value or "null")
    given = found is not None and found["given"] is True
    branch = f" on {found['branch']}" if given and found.get("branch") else ""
    return f"{who.removeprefix('actor:')} {'approves it' if given else 'approves it no more'} for {stage}{branch}", ""


def _override(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    return f"OVERRIDE: gates of {key} were passed over: {_short(value or 'no reason was given')}", "override"


def _refusal(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    found: Any = json.loads(value or "null")
    return f"REFUSED for {key} by {', '.join(found['gates']) or 'its gates'}", "refused"


def _role(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    role, _, pattern = key.partition(" ")
    who = subject.removeprefix("actor:")
    return f"{who} is {role} of {pattern}{'' if value == 'granted' else ' no more'}", ""


def _tombstone(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    return "deleted" if value == "hidden" else "brought back", ""


def _name(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    was = " and ".join(dict.fromkeys(each for each in before if each))
    return f"it is called {value}" + (f", was {was}" if was else ""), ""


def _description(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    return f"described: {_short(value)}" if value else "its description is taken away", ""


def _registered(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    return f"its artifact is {(value or '')[:12]}, signed", ""


def _evaluation(
    subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called
) -> tuple[str, str]:
    found: Any = json.loads(value or "null")
    return f"evaluated on {found.get('dataset') or key}, {found['rows']:,} rows", ""


def _action(subject: str, key: str, value: str | None, before: Sequence[str | None], called: Called) -> tuple[str, str]:
    return f"action {key} is {'taken away' if value is None else 'set'}", ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


_WORDS: dict[str, Words] = {
    "action": _action,
    "alias": _alias,
    "approval": _approval,
    "check": _check,
    "description": _description,
    "evaluation": _evaluation,
    "gate": _gate,
    "name": _name,
    "override": _override,
    "policy": _policy,
    "refusal": _refusal,
    "registered": _registered,
    "role": _role,
    "stage": _stage,
    "tombstone": _tombstone,
    "traffic": _traffic,
}
