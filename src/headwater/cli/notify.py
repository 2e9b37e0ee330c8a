"""The commands of actions: `notify add, list, remove, deliver, test`; and what other commands tell before they end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwater.cli.base import Session, argument, group, option
from headwater.cli.layout import count, moment, table
from headwater.cli.output import busy, clean, emit, flush, json_text, note, strong

if TYPE_CHECKING:
    from headwater.notification_model import Action, Delivery
    from headwater.registry import Registry

__all__ = ["notify", "tell_news"]

_BOUND = 5.0
"""Seconds that a command which changed something spends on telling it."""

_POLL = 2.0


@group(
    "notify",
    example="""\
headwater notify add flight-delay ops --webhook https://example.com/hooks/models --secret-env OPS_SECRET
headwater notify list
headwater notify deliver --watch""",
)
def notify() -> None:
    """Tell others when a model is promoted, refused or rolled back.

    An action posts to a URL or runs a command. Nothing of this is part of the change itself: it is told when it has
    landed, in order for each model, at least once.
    """


@notify.group_command(
    "add",
    example="""\
headwater notify add flight-delay ops --webhook https://example.com/hooks/models --secret-env OPS_SECRET
headwater notify add 'fraud-*' page --on refused,rolled-back --command '/opt/ops/page --team fraud'""",
)
@argument("model", "NAME|PATTERN", complete="model")
@argument("name", "ACTION")
@option(
    "--on",
    metavar="EVENTS",
    default="promoted,refused,rolled-back",
    help="Some of promoted, refused, rolled-back, traffic, approved; by default the first three.",
)
@option("--webhook", metavar="URL", help="Post a JSON document there.")
@option("--command", "program", metavar="COMMAND", help="Run this; it gets the document on standard input.")
@option("--secret-env", metavar="VAR", help="Sign what is posted with what this variable holds where it is delivered.")
@option("--secret-file", metavar="FILE", help="Sign what is posted with what this file holds where it is delivered.")
@option("--allow-private", is_flag=True, help="The URL may be of this machine, or of a private network.")
def notify_add(
    session: Session,
    model: str,
    name: str,
    on: str,
    webhook: str | None,
    program: str | None,
    secret_env: str | None,
    secret_file: str | None,
    allow_private: bool,
) -> None:
    """Have something done when something happens to a model.

    A pattern stands for every model whose name matches, from now on.

    What happens on the branch that this is added on is told. A command runs only on machines whose user allows it.
    """
    with session.open() as registry:
        found = registry.add_action(
            model,
            name,
            [each.strip() for each in on.split(",") if each.strip()],
            webhook=webhook,
            command=program,
            secret_env=secret_env,
            secret_file=secret_file,
            allow_private=allow_private,
        )
    session.emit(
        found, lambda: [f"{strong(found.name)} is told when {clean(found.model)} is {clean(', '.join(found.on))}"]
    )
    if found.command and not session.json:
        from headwater.action_command import allowed_file, as_line

        note(f"a machine runs it only where {allowed_file()} has the line: {clean(as_line(found.command))}")


@notify.group_command("list", ref=True, example="headwater notify list")
def notify_list(session: Session) -> None:
    """List the actions, and how much each has still to tell."""
    with session.open() as registry:
        found = registry.actions()
        pending = registry.notifications() if found else []

    def of(action: Action) -> int:
        return sum(each.action == action.name and _is_of(action, each.model) for each in pending)

    def lines() -> Iterable[str]:
        if not found:
            note("there are no actions: `headwater notify add MODEL ACTION --webhook URL` makes one")
            return []
        return table(
            ("model", "action", "on", "branch", "to tell", "target"),
            [(each.model, each.name, ", ".join(each.on), each.branch, of(each), _target(each)) for each in found],
            right=("to tell",),
        )

    session.emit(found, lines)


def _is_of(action: Action, model: str) -> bool:
    from headwater.access import matches

    return matches(action.model, model) if "*" in action.model else action.model == model


def _target(action: Action) -> str:
    from headwater.action_command import as_line

    return as_line(action.command) if action.command else action.webhook or ""


@notify.group_command("remove", example="headwater notify remove flight-delay ops")
@argument("model", "NAME|PATTERN", complete="model")
@argument("name", "ACTION")
def notify_remove(session: Session, model: str, name: str) -> None:
    """Take an action away; what it has not told yet is not told."""
    with session.open() as registry:
        registry.remove_action(model, name)
    document = {"model": model, "action": name, "removed": True}
    session.emit(document, lambda: [f"{strong(name)} is told nothing more of {clean(model)}"])


@notify.group_command("test", example="headwater notify test flight-delay ops")
@argument("model", "NAME|PATTERN", complete="model")
@argument("name", "ACTION")
@option("--allow-commands", is_flag=True, help="Run its command though this machine's list does not have it.")
def notify_test(session: Session, model: str, name: str, allow_commands: bool) -> None:
    """Deliver a made-up notification, once and now, to see that it arrives."""
    from headwater.errors import LakeError

    with session.open() as registry:
        made = registry.test_action(model, name, allow_commands=allow_commands)
    if made.outcome != "delivered":
        _print_output(made)
        raise LakeError(f"the test was not delivered: {made.detail}", hint="`headwater notify list` shows the target")
    session.emit(made.document(), lambda: [f"the test was delivered to {strong(name)}", *_output(made)])


@notify.group_command("deliver", example="headwater notify deliver\nheadwater notify deliver --watch --allow-commands")
@option("--once", is_flag=True, help="Deliver what there is and end; this is what it does by itself.")
@option("--watch", is_flag=True, help="Go on, and deliver whatever happens, until interrupted.")
@option("--now", is_flag=True, help="Try again also what waits for a later time.")
@option("--allow-commands", is_flag=True, help="Run the commands of actions, whatever they are.")
def notify_deliver(session: Session, once: bool, watch: bool, now: bool, allow_commands: bool) -> None:
    """Deliver what has not been told yet, each model's in order.

    What fails is tried again by a later call, or by --watch, after a pause that grows to an hour; after a day it is
    given up. With --watch and --json each delivery is a document on a line of its own.
    """
    from headwater.errors import InvalidInputError

    if once and watch:
        raise InvalidInputError("--once and --watch exclude each other", hint="give one of them")
    with session.open() as registry:
        if watch:
            _watch(registry, session, now, allow_commands)
            return
        made = registry.deliver_notifications(now=now, allow_commands=allow_commands)
        left = len(registry.notifications())
    for each in made:
        _print_output(each)
    session.emit([each.document() for each in made], lambda: (_line(each) for each in made))
    if not session.json and not made:
        note(f"{count(left, 'notification')} wait for a later time: --now tries them" if left else "nothing is pending")


def _watch(registry: Registry, session: Session, now: bool, allow_commands: bool) -> None:
    """Deliver until interrupted: after every change of the branch, and when what failed is due again."""
    from headwater.errors import ConflictError, InvalidInputError, LakeError

    blocked: set[str] = set()

    def show(each: Delivery) -> None:
        if each.outcome == "blocked":
            # It would be said again every two seconds: nothing was tried.
            if each.notification.key in blocked:
                return
            blocked.add(each.notification.key)
        _print_output(each)
        emit(json_text(each.document()).replace("\n", " ") if session.json else _line(each))
        flush()

    while True:
        try:
            registry.deliver_notifications(now=now, allow_commands=allow_commands, tell=show)
        except InvalidInputError:
            raise
        except (ConflictError, LakeError) as error:
            note(f"{error.message}; trying again")
        now = False
        time.sleep(_POLL)


def _line(each: Delivery) -> str:
    it = each.notification
    why = f": {clean(each.detail)}" if each.detail else ""
    again = f" (again at {moment(each.next_try_at)} UTC)" if each.next_try_at is not None else ""
    return f"{strong(each.outcome)} {clean(it.action)}: {clean(it.text)}{why}{again}"


def _output(each: Delivery) -> list[str]:
    return ["  " + clean(line) for line in each.output.splitlines()]


def _print_output(each: Delivery) -> None:
    note(*_output(each))


def tell_news(registry: Registry, branches: Iterable[str]) -> None:
    """Deliver what a command that has just landed has to tell, for a short time; leave the rest to others.

    The command has done what it was asked to: whatever becomes of this changes neither its output nor its status.
    """
    import sys

    from headwater.errors import HeadwaterError

    # An error of the command's is one or two lines on standard error, and nothing beside them.
    quiet = sys.exception() is not None
    said = []
    for branch in branches:
        try:
            with busy("delivering notifications"):
                made = registry.branch(branch).deliver_notifications(within=_BOUND, wait=_BOUND)
            said += [_line(each) for each in made if each.outcome != "delivered"]
        except HeadwaterError as error:
            said.append(f"notifications wait: {clean(error.message)}")
    if not quiet:
        note(*said)
