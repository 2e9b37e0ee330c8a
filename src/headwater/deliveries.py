"""One try to deliver: what is sent, the secrets and permissions of this machine, and when the next try comes."""

from __future__ import annotations

import json
import os
import random
import stat
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError
from headwater.ids import from_micros, now_micros
from headwater.names import counted, shown
from headwater.notification_model import Delivery, Notification, NotificationTarget
from headwater.outbox import Kept, Progress, Queue

if TYPE_CHECKING:
    from headwater.webhook import Answer

__all__ = ["DELIVERING", "Sender", "document"]

DELIVERING = "HEADWATER_DELIVERING"
"""Set for the commands that actions run: what they do with the lake is delivered by whoever runs them."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0
"""Seconds: after each try that failed three times as long, with jitter."""

TRIES, PATIENCE = 10, 24 * 3600
"""A notification is given up after so many tries, and not before so many seconds."""

_WEBHOOK_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_SECRET_BYTES = range(16, 4097)


def document(it: Notification, lake: str) -> dict[str, Any]:
    """Return what a webhook is posted, and a command gets on its standard input.

    Args:
        it: The notification.
        lake: The lake's own UUID.
    """
    return {
        "event": it.event,
        "text": it.text,
        "model": it.model,
        "version": it.version,
        "stage": it.stage,
        "previous": it.previous,
        "traffic": it.traffic,
        "gates": list(it.gates),
        "actor": it.actor,
        "reason": it.reason,
        "commit": it.commit,
        "time": it.landed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "position": it.position,
        "branch": it.branch,
        "lake": lake,
        "model_id": it.model_id,
        "version_id": it.version_id,
        "action": it.action,
        "idempotency_key": it.key,
    }


class Sender:
    """Sends what a queue has first, from this machine, with the secrets and permissions that it has."""

    def __init__(self, lake_id: str, *, allow_commands: bool) -> None:
        self._lake_id = lake_id
        self._all = allow_commands
        self._allowed: frozenset[tuple[str, ...]] | None = None

    def send(self, queue: Queue, left: float | None) -> tuple[list[Delivery], Progress | None]:
        """Send a queue's first step; return what came of each notification, and how far the queue has got.

        Where this machine may not or can not send it there is nothing to record: another one might.

        Args:
            queue: The queue.
            left: Seconds that there are for it; as many as it takes if not given.
        """
        step = queue.steps[0]
        tried = queue.progress if queue.progress is not None and queue.progress.tx == step.tx else None
        moment = now_micros()
        tries, since = (tried.tries if tried else 0) + 1, tried.since if tried else moment
        deliveries: list[Delivery] = []
        failed: str | None = None
        for it in step.notifications:
            answer, output = self._answer(queue.kept, it, left)
            it = replace(it, tries=tries)
            if answer.outcome == "blocked":
                return [*deliveries, Delivery(it, "blocked", answer.detail)], None
            if answer.outcome == "waiting":
                if tries < TRIES or moment - since < PATIENCE * 1_000_000:
                    pause = min(FIRST_PAUSE * 3 ** (tries - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.5)
                    again = moment + int(max(pause, answer.pause or 0.0) * 1_000_000)
                    deliveries.append(Delivery(it, "waiting", answer.detail, from_micros(again), output))
                    return deliveries, Progress(step.tx, "waiting", tries, since, again, answer.detail)
                failed = f"{answer.detail}; given up after {counted(tries, 'try', 'tries')}"
                deliveries.append(Delivery(it, "failed", failed, None, output))
            elif answer.outcome == "failed":
                failed = answer.detail
                deliveries.append(Delivery(it, "failed", failed, None, output))
            else:
                deliveries.append(Delivery(it, "delivered", None, None, output))
        return deliveries, Progress(step.tx, "failed" if failed else "delivered", tries, since, None, failed)

    def _answer(self, kept: Kept, it: Notification, left: float | None) -> tuple[Answer, str]:
        from headwater import action_command, webhook

        body = json.dumps(document(it, self._lake_id), ensure_ascii=False, separators=(",", ":")).encode()
        target = kept.target
        if target.command:
            try:
                if not self._all and target.command not in self._commands():
                    line = action_command.as_line(target.command)
                    return webhook.Answer("blocked", f"this machine does not allow the command: {line}"), ""
            except InvalidInputError as error:
                return webhook.Answer("blocked", error.message), ""
            return action_command.run(target.command, body, self._variables(it, body), seconds=_COMMAND_SECONDS)
        if target.webhook is None:
            return webhook.Answer("blocked", "the action says neither URL nor command"), ""
        try:
            secret = _secret(target)
        except InvalidInputError as error:
            return webhook.Answer("blocked", error.message), ""
        seconds = _WEBHOOK_SECONDS if left is None else min(_WEBHOOK_SECONDS, max(left, 1.0))
        answer = webhook.post(
            target.webhook,
            body,
            key=it.key,
            secret=secret,
            allow_private=target.allow_private,
            seconds=seconds,
        )
        return answer, ""

    def _commands(self) -> Collection[tuple[str, ...]]:
        from headwater.action_command import allowed_commands

        if self._allowed is None:
            self._allowed = allowed_commands()
        return self._allowed

    def _variables(self, it: Notification, body: bytes) -> Mapping[str, str]:
        return {
            DELIVERING: "1",
            "HEADWATER_NOTIFICATION": body.decode(),
            "HEADWATER_EVENT": it.event,
            "HEADWATER_MODEL": it.model,
            "HEADWATER_VERSION": "" if it.version is None else str(it.version),
            "HEADWATER_STAGE": it.stage or "",
            "HEADWATER_IDEMPOTENCY_KEY": it.key,
        }


def _secret(target: NotificationTarget) -> bytes | None:
    """Return the secret that signs, as this machine has it; None where nothing signs.

    Raises:
        InvalidInputError: It is not here, or not fit to be one; nothing of it is said.
    """
    if target.secret_env is not None:
        secret = os.environ.get(target.secret_env, "").encode("utf-8", "surrogateescape")
        where = f"variable {shown(target.secret_env)}"
        if not secret:
            raise InvalidInputError(f"this machine has no secret in the {where}")
    elif target.secret_file is not None:
        where = f"file {shown(target.secret_file)}"
        try:
            # Whoever writes to the lake names the file: it must be one that is kept as a secret, and not block.
            descriptor = os.open(target.secret_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077 or about.st_uid != os.geteuid():
                    raise InvalidInputError(f"the secret in the {where} is open to others: chmod 600")
                secret = file.read(_SECRET_BYTES.stop).rstrip(b"\r\n")
        except OSError as error:
            raise InvalidInputError(f"this machine has no secret in the {where}: {error.strerror}") from None
    else:
        return None
    if len(secret) not in _SECRET_BYTES:
        least, most = _SECRET_BYTES[0], _SECRET_BYTES[-1]
        raise InvalidInputError(f"the secret in the {where} has not {least} to {most} bytes")
    return secret
