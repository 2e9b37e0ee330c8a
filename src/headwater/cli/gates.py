"""The commands for policies: `gates set`, `show`, `list`, `check` and `delete`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, group, option
from headwater.cli.layout import count, moment, table
from headwater.cli.output import clean, note, paint, strong
from headwater.errors import GateFailedError

if TYPE_CHECKING:
    from headwater.dataset_evaluation import DatasetEvaluation
    from headwater.governance_model import Evaluation, GateResult, PolicyText

__all__ = ["gates", "results"]

_reason = option("--reason", metavar="TEXT", help="Why; kept with the change.")


@group(
    "gates",
    example="headwater gates set flight-delay gates.toml\nheadwater gates check flight-delay/7 --to production",
)
def gates() -> None:
    """Set, show and ask the gates that stand before a stage."""


@gates.group_command(
    "set",
    example="""\
headwater gates set flight-delay gates.toml
headwater gates set 'flight-*' gates.toml
headwater gates set dataset:flights - < flights.toml""",
)
@argument("name", "NAME", complete="model")
@argument("file", "FILE")
@_reason
def gates_set(session: Session, name: str, file: str, reason: str | None) -> None:
    """Make a policy hold for a model, a pattern of models, or a dataset.

    FILE is TOML; - is standard input. All policies that match a model hold together.
    """
    from pathlib import Path

    with session.open() as registry:
        policy = _standard_input() if file == "-" else Path(file)
        found = registry.set_gates(name, policy, reason=reason)
    said = count(found.gates, "gate")
    session.emit(found, lambda: [f"{strong(found.subject)} has {said} now"])


def _standard_input() -> str:
    from headwater.errors import InvalidInputError

    try:
        # As much as no policy has: whatever is behind it need not be read.
        return sys.stdin.buffer.read(1 << 20).decode() or "\n"
    except UnicodeDecodeError:
        raise InvalidInputError("standard input is not text in UTF-8", hint="write the policy as TOML") from None


@gates.group_command("show", ref=True, example="headwater gates show flight-delay")
@argument("name", "NAME", complete="model")
def gates_show(session: Session, name: str) -> None:
    """Show the policies that hold for a model, its own first."""
    with session.open() as registry:
        found = registry.gates(name)

    def lines() -> Iterator[str]:
        if not found:
            note("no gates stand before its stages: `headwater gates set NAME FILE` sets some")
        for each in found:
            told = f"# {each.subject}, set by {each.actor} at {moment(each.recorded_at)}, commit {each.commit[:12]}"
            yield strong(told + (f": {each.reason}" if each.reason else ""))
            yield from (clean(line) for line in each.text.splitlines())

    session.emit(found, lines)


@gates.group_command("list", ref=True, example="headwater gates list")
def gates_list(session: Session) -> None:
    """List every policy that holds."""
    with session.open() as registry:
        found = registry.gates()
    session.emit(found, lambda: _listed(found))


def _listed(found: list[PolicyText]) -> Iterable[str]:
    if not found:
        note("there are no gates: `headwater gates set NAME FILE` sets some")
        return []
    rows = [(each.subject, each.gates, moment(each.recorded_at), each.actor, each.commit[:12]) for each in found]
    return table(("for", "gates", "since (UTC)", "actor", "commit"), rows, right=("gates",))


@gates.group_command(
    "check",
    ref=True,
    example="""\
headwater gates check flight-delay/7 --to production
headwater gates check flight-delay/7 --to production --traffic 25
headwater gates check flights@1.2.0""",
)
@argument("reference", "MODELREF|DATASET", complete="version")
@option("--to", "stage", metavar="STAGE", help="The stage to enter; production unless given.")
@option("--traffic", metavar="PERCENT", type=float, help="The share of production's requests that it would get.")
def gates_check(session: Session, reference: str, stage: str | None, traffic: float | None) -> None:
    """Ask every gate before a stage, or every gate of a dataset.

    A dataset is given as NAME@1.2.0, or dataset:NAME for its newest version. Nothing is written. Exit status 3 if a
    gate does not pass.
    """
    from headwater.model import as_json

    found: Evaluation | DatasetEvaluation
    with session.open() as registry:
        if _is_dataset(reference):
            if stage is not None or traffic is not None:
                raise click.UsageError("a dataset enters no stage and has no traffic", click.get_current_context())
            found = registry.check_dataset(reference)
        else:
            found = registry.check_gates(reference, stage or "production", traffic=traffic)
    session.emit({**as_json(found), "passed": found.passed}, lambda: _checked(found))
    if not found.passed:
        raise GateFailedError(
            f"{count(len(found.failed), 'gate')} of {len(found.results)} refused {_asked(found)}",
            hint="what each found is above",
        )


def _is_dataset(reference: str) -> bool:
    # No alias of a model is a number, so what has one behind an @ is a version of a dataset.
    name, at, version = reference.rpartition("@")
    return reference.startswith("dataset:") or (bool(name and at) and version[:1].isdigit())


def _asked(found: Evaluation | DatasetEvaluation) -> str:
    from headwater.dataset_evaluation import DatasetEvaluation
    from headwater.names import quote

    if isinstance(found, DatasetEvaluation):
        return found.reference
    return f"{quote(found.name)}/{found.version} for {found.stage}"


def _checked(found: Evaluation | DatasetEvaluation) -> Iterator[str]:
    from headwater.dataset_evaluation import DatasetEvaluation
    from headwater.names import quote

    if isinstance(found, DatasetEvaluation):
        reference, to = found.reference, ""
        nothing = f"no gate stands before {strong(reference)}"
    else:
        reference, to = f"{quote(found.name)}/{found.version}", f" to {found.stage}"
        nothing = f"no gate stands between {strong(reference)} and {found.stage}"
    if not found.results:
        yield nothing
        return
    yield from results(found.results)
    failed = len(found.failed)
    verdict = paint(f"{count(failed, 'gate')} of {len(found.results)} failed", "red") if failed else "all gates passed"
    yield f"{strong(reference)}{to} at commit {found.commit[:12]}: {verdict}"


def results(found: Iterable[GateResult]) -> list[str]:
    """Return the lines of a table of what gates found."""
    rows = [(each.gate, each.required, each.found, "pass" if each.passed else "FAIL", each.source) for each in found]
    return table(("gate", "required", "found", "result", "source"), rows)


@gates.group_command("delete", example="headwater gates delete flight-delay")
@argument("name", "NAME", complete="model")
@_reason
def gates_delete(session: Session, name: str, reason: str | None) -> None:
    """Take the policy of a model, a pattern or a dataset away."""
    with session.open() as registry:
        registry.delete_gates(name, reason=reason)
    session.emit({"subject": name, "deleted": True}, lambda: [f"{strong(name)} has no gates of its own any more"])
