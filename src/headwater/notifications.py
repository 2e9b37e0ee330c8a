"""Actions and their deliveries: who is told what of a model, in order, at least once, and only when it has landed."""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.access import WRITE, check_pattern
from headwater.context import Context
from headwater.deliveries import DELIVERING, Sender
from headwater.errors import ConflictError, InvalidInputError, NotFoundError
from headwater.ids import from_micros, new_id, now_micros
from headwater.lake.base import HIDDEN_PREFIX
from headwater.lookup import model_id_of
from headwater.names import check_name, counted, parse_model, quote, shown
from headwater.notification_model import EVENTS, Action, Delivery, Notification, NotificationTarget
from headwater.outbox import PATTERN, Outbox, Progress, Queue, Step, described
from headwater.sealing import principal_of

if TYPE_CHECKING:
    from headwater.state import Fold
    from headwater.transaction import Transaction

__all__ = ["Notifications"]

_SIDE_BY_SIDE = 8
"""Queues that are sent from at a time."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Notifications:
    """The service for actions: kept in the lake, delivered by whoever asks for it.

    Args:
        context: The lake, the branch, and who acts.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lake_id = ""

    # -- actions --------------------------------------------------------------------------------------------------
    def add(
        self,
        model: str,
        name: str,
        on: Sequence[str],
        *,
        webhook: str | None = None,
        command: str | None = None,
        secret_env: str | None = None,
        secret_file: str | os.PathLike[str] | None = None,
        allow_private: bool = False,
    ) -> Action:
        """Keep an action; one of that name is replaced, and goes on where it is. `Registry.add_action` tells more."""
        check_name(name, "action")
        wanted = tuple(dict.fromkeys(on))
        unknown = [each for each in wanted if each not in EVENTS]
        if unknown or not wanted:
            what = f"nothing is called {shown(unknown[0])}" if unknown else "an action is for something"
            raise InvalidInputError(what, hint=f"name some of {', '.join(EVENTS)}")
        target = _target(webhook, command, secret_env, secret_file, allow_private)
        value = {
            "on": wanted,
            "branch": self._context.branch,
            "webhook": target.webhook,
            "secret_env": target.secret_env,
            "secret_file": target.secret_file,
            "allow_private": target.allow_private or None,
            "command": target.command or None,
        }
        text = json.dumps({key: each for key, each in value.items() if each is not None})

        def work(tx: Transaction) -> None:
            subject = _subject(tx.fold, model)
            tx.event(subject, "action", text, key=name)
            tx.subject = model
            tx.message = f"notify {name} of what happens to {model}"

        self._context.write("notify", work)
        with self._context.reading() as fold:
            subject = _subject(fold, model)
            for kept in self._outbox(fold).actions():
                if (kept.subject, kept.name) == (subject, name):
                    return described(fold, kept)
        raise ConflictError(f"action {name!r} was taken away by another writer", hint="add it again")

    def list(self) -> list[Action]:
        """Return all actions, for whichever branch they are."""
        with self._context.reading() as fold:
            return [described(fold, kept) for kept in self._outbox(fold).actions(everywhere=True)]

    def remove(self, model: str, name: str) -> None:
        """Take an action away; what it has not told yet is told by nobody."""

        def work(tx: Transaction) -> None:
            subject = _subject(tx.fold, model)
            if all(value is None for _, value in tx.fold.standing(subject, "action", name)):
                raise NotFoundError(f"{quote(model)} has no action {shown(name)}", hint="`headwater notify list`")
            tx.event(subject, "action", None, key=name)
            tx.subject = model
            tx.message = f"notify {name} no more of what happens to {model}"

        self._context.write("notify", work)

    # -- the outbox -----------------------------------------------------------------------------------------------
    def pending(self) -> builtins.list[Notification]:
        """Return what is still to be told, in the order of landing."""
        with self._context.reading() as fold:
            queues = self._outbox(fold).queues()
        found = [each for queue in queues for step in queue.steps for each in step.notifications]
        return sorted(found, key=lambda each: (each.position, each.action))

    def deliver(
        self,
        *,
        allow_commands: bool = False,
        now: bool = False,
        within: float | None = None,
        wait: float = 30.0,
        tell: Callable[[Delivery], None] | None = None,
    ) -> builtins.list[Delivery]:
        """Deliver what is pending, and record how far that went. `Registry.deliver_notifications` tells more."""
        context = self._context
        context.check_writable()
        if context.writer.only is not None or context.branch.startswith(HIDDEN_PREFIX):
            return []
        started = time.monotonic()
        with contextlib.ExitStack() as held:
            with context.reading() as fold:
                if not self._outbox(fold).actions():
                    return []
            place = context.lake.cache / "notify" / f"{context.branch}.lock"
            if not held.enter_context(_alone(place, 0.0 if os.environ.get(DELIVERING) else wait)):
                raise ConflictError(
                    "another process delivers notifications", hint="it delivers these too; or try later"
                )
            return self._rounds(
                Sender(self._id(), allow_commands=allow_commands),
                now=now,
                end=None if within is None else started + within,
                tell=tell or _ignore,
            )

    def _rounds(
        self, sender: Sender, *, now: bool, end: float | None, tell: Callable[[Delivery], None]
    ) -> builtins.list[Delivery]:
        """Send the first step of each queue, record what came of it, and so on until none is left that can be sent."""
        from concurrent.futures import ThreadPoolExecutor

        made: list[Delivery] = []
        stuck: set[tuple[str, str]] = set()
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="headwater-notify") as pool:
            while end is None or end - time.monotonic() >= 1.0:
                moment = now_micros()
                with self._context.reading() as fold:
                    queues = [
                        each
                        for each in self._outbox(fold).queues(first=True)
                        if (each.subject, each.model_id) not in stuck and (now or (each.waits_until or 0) <= moment)
                    ]
                    mute = [each for each in queues if not self._may_record(fold, each)]
                for queue in mute:
                    # What can't be recorded would be sent again and again.
                    stuck.add((queue.subject, queue.model_id))
                    why = f"{self._context.actor} may not record deliveries of {quote(queue.model)}: that needs a role"
                    made.append(Delivery(queue.steps[0].notifications[0], "blocked", why))
                    tell(made[-1])
                queues = [each for each in queues if each not in mute]
                if not queues:
                    break
                left = None if end is None else end - time.monotonic()
                # One step of each: after a crash no more than these are sent twice.
                sent = list(pool.map(sender.send, queues, [left] * len(queues)))
                recorded = []
                for queue, (deliveries, progress) in zip(queues, sent, strict=True):
                    for each in deliveries:
                        tell(each)
                    made += deliveries
                    if progress is not None:
                        recorded.append((queue, progress))
                    if progress is None or progress.outcome == "waiting":
                        stuck.add((queue.subject, queue.model_id))
                if recorded:
                    self._record(recorded)
        return made

    def _may_record(self, fold: Fold, queue: Queue) -> bool:
        judge = fold.judge()
        return judge.may(principal_of(fold, self._context.actor), WRITE, judge.name_of(queue.model_id))

    def _record(self, results: Sequence[tuple[Queue, Progress]]) -> None:
        """Write how far deliveries went; what another process has got further is left as it is."""

        def work(tx: Transaction) -> None:
            outbox = self._outbox(tx.fold)
            names = []
            for queue, progress in results:
                stands = outbox.progress(queue.subject, queue.model_id)
                if stands is not None:
                    ours = (outbox.place(progress.tx), progress.outcome != "waiting", progress.tries)
                    if (outbox.place(stands.tx), stands.outcome != "waiting", stands.tries) >= ours:
                        continue
                tx.event(queue.subject, "delivered", progress.text(), key=queue.model_id)
                names += [each.model for step in queue.steps[:1] for each in step.notifications[:1]]
            if names:
                tx.subject = names[0] if len(set(names)) == 1 else ""
                tx.message = f"record {counted(len(names), 'notification')}"

        self._context.write("deliver", work)

    def test(self, model: str, name: str, *, allow_commands: bool = False) -> Delivery:
        """Deliver a made-up notification; nothing is recorded. `Registry.test_action` tells more."""
        if self._context.writer.only is not None:
            raise InvalidInputError("a test can't be rehearsed", hint="what was told can't be taken back")
        with self._context.reading() as fold:
            subject = _subject(fold, model)
            found = [each for each in self._outbox(fold).actions(everywhere=True) if each.subject == subject]
            kept = next((each for each in found if each.name == name), None)
            if kept is None:
                raise NotFoundError(f"{quote(model)} has no action {shown(name)}", hint="`headwater notify list`")
            commit = fold.commit
        it = Notification(
            key=new_id().replace("-", ""),
            action=name,
            event="test",
            model=model,
            model_id=subject.removeprefix(PATTERN),
            version=None,
            version_id=None,
            stage=None,
            previous=None,
            traffic=None,
            gates=(),
            actor=self._context.actor,
            reason=None,
            commit=commit,
            tx="",
            position=0,
            landed_at=from_micros(now_micros()),
            branch=kept.branch,
        )
        (made,), _ = Sender(self._id(), allow_commands=allow_commands).send(
            Queue(kept, it.model_id, model, None, [Step("", (it,))]), None
        )
        return made

    # -- helpers --------------------------------------------------------------------------------------------------
    def _outbox(self, fold: Fold) -> Outbox:
        return Outbox(fold, self._context.branch, self._id())

    def _id(self) -> str:
        """Return the lake's own UUID, which a copy of the lake has too."""
        if not self._lake_id:
            from headwater.marker import found

            body = found(self._context.lake)
            self._lake_id = str(json.loads(body)["lake"]) if body is not None else ""
        return self._lake_id


def _target(
    webhook: str | None,
    command: str | None,
    secret_env: str | None,
    secret_file: str | os.PathLike[str] | None,
    allow_private: bool,
) -> NotificationTarget:
    """Return what an action does, looked at as far as that is possible here.

    Raises:
        InvalidInputError: It is not one thing, or not one that is ever done.
    """
    if (webhook is None) == (command is None):
        raise InvalidInputError("an action posts to a URL or runs a command", hint="give one of both")
    if command is not None:
        if secret_env is not None or secret_file is not None or allow_private:
            raise InvalidInputError("a secret and a private address are for URLs", hint="leave them out")
        from headwater.action_command import check_command

        return NotificationTarget(command=check_command(command))
    assert webhook is not None
    from headwater.webhook_address import parse_url

    parse_url(webhook, allow_private=allow_private)
    if secret_env is not None and secret_file is not None:
        raise InvalidInputError("a secret is in one place", hint="name the variable or the file")
    if secret_env is not None and not _VARIABLE.fullmatch(secret_env):
        # It may be the secret itself, which must not be shown.
        raise InvalidInputError("that is not the name of an environment variable", hint="give its name, not its value")
    path = os.fspath(secret_file) if secret_file is not None else None
    if path is not None and (not path.startswith("/") or not path.isprintable()):
        raise InvalidInputError("the file of a secret is named by its whole path", hint="it begins with /")
    return NotificationTarget(webhook, secret_env, path, allow_private)


def _subject(fold: Fold, model: str) -> str:
    """Return the subject of an action's events: the model's ID, or the pattern.

    Raises:
        NotFoundError: There is no such model.
        InvalidInputError: It is neither a model nor a pattern.
    """
    if "*" in model:
        return PATTERN + check_pattern(model)
    ref = parse_model(model)
    if ref.version is not None or ref.alias is not None:
        raise InvalidInputError(f"{ref} is a version", hint=f"name the model: {quote(ref.name)}")
    return model_id_of(fold, ref.name)


def _ignore(delivery: Delivery) -> None:
    pass


@contextlib.contextmanager
def _alone(path: Path, patience: float) -> Iterator[bool]:
    """Hold this machine's lock on deliveries; yield whether it was had. Where nothing can be locked, go on without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield True
        return
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    yield False
                    return
                time.sleep(0.05)
            except OSError:
                break
        yield True
    finally:
        os.close(descriptor)
