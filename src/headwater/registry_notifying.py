"""The part of a registry that is about telling others what happened; every method asks a service and has no rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headwater.lake.base import HIDDEN_PREFIX
from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.notification_model import Action, Delivery, Notification

__all__ = ["Notifying"]

_NEWS = frozenset({"approval", "refusal", "stage", "traffic"})
"""Kinds of events that something may have to be told of."""


class Notifying(Services):
    """Actions on what happens to models, and their deliveries, as methods of a registry."""

    def add_action(
        self,
        model: str,
        name: str,
        on: Sequence[str] = ("promoted", "refused", "rolled-back"),
        *,
        webhook: str | None = None,
        command: str | None = None,
        secret_env: str | None = None,
        secret_file: str | os.PathLike[str] | None = None,
        allow_private: bool = False,
    ) -> Action:
        """Have something done when something happens to a model on this branch from now on.

        An action of that name is replaced, and goes on with what it has not told yet.

        Args:
            model: The model's name, or a pattern such as `fraud-*`.
            name: The action's name; `[a-z0-9][a-z0-9._-]{0,127}`.
            on: Some of `promoted`, `refused`, `rolled-back`, `traffic`, `approved`.
            webhook: A URL that a JSON document is posted to: https://, or http:// with `allow_private`.
            command: A program and its arguments, which no shell reads; it gets the document on standard input. Only
                machines that allow it run it.
            secret_env: The environment variable that holds the secret which signs the document (16 to 4096 bytes), on
                the machine that delivers. The secret itself is never kept in the lake.
            secret_file: The whole path of the file there that holds it, mode 0600.
            allow_private: Whether the URL may be of the machine itself or of a private network.

        Raises:
            NotFoundError: There is no such model.
            InvalidInputError: The name, an event, the URL or the command can't be one, or there is not one of both.
            PermissionDeniedError: The actor may not add actions.
        """
        return self._notifications.add(
            model,
            name,
            on,
            webhook=webhook,
            command=command,
            secret_env=secret_env,
            secret_file=secret_file,
            allow_private=allow_private,
        )

    def actions(self) -> list[Action]:
        """Return the actions that stand, whichever branch they are for."""
        return self._notifications.list()

    def remove_action(self, model: str, name: str) -> None:
        """Take an action away; what it has not told yet is not told.

        Args:
            model: The model's name, or the pattern, that it was added to.
            name: The action's name.

        Raises:
            NotFoundError: There is no such action.
            PermissionDeniedError: The actor may not take actions away.
        """
        self._notifications.remove(model, name)

    def notifications(self) -> list[Notification]:
        """Return what actions of this branch have still to tell, in the order in which it landed."""
        return self._notifications.pending()

    def deliver_notifications(
        self,
        *,
        allow_commands: bool = False,
        now: bool = False,
        within: float | None = None,
        wait: float = 30.0,
        tell: Callable[[Delivery], None] | None = None,
    ) -> list[Delivery]:
        """Deliver what is pending on this branch, each model's in order, and record how far that went.

        Nothing is delivered by itself from Python: call this, or let `headwater notify deliver --watch` run. What fails
        is tried again by a later call, after a pause that grows to an hour, and given up after a day. A notification
        may be delivered twice, always with the same idempotency key; it is never left out.

        Args:
            allow_commands: Run the commands of actions, whatever they are; else only those that this machine's user has
                listed in `~/.config/headwater/allowed-commands`.
            now: Try again also what waits for a later time.
            within: Seconds after which nothing more is begun, and within which a URL has to answer.
            wait: Seconds to wait while another process of this machine delivers.
            tell: Called with each delivery as it was tried.

        Returns:
            What came of each try.

        Raises:
            InvalidInputError: This is a view of a commit.
            ConflictError: Another process was delivering all the time.
        """
        return self._notifications.deliver(allow_commands=allow_commands, now=now, within=within, wait=wait, tell=tell)

    def test_action(self, model: str, name: str, *, allow_commands: bool = False) -> Delivery:
        """Deliver a notification of the event `test`, once and now; nothing is recorded.

        Args:
            model: The model's name, or the pattern, that the action was added to.
            name: The action's name.
            allow_commands: As for `deliver_notifications`.

        Raises:
            NotFoundError: There is no such action.
        """
        return self._notifications.test(model, name, allow_commands=allow_commands)

    def take_news(self) -> list[str]:
        """Return the branches on which something has landed from here since this was asked, that may have to be told.

        It costs nothing to ask. Branches of rehearsals are not among them.
        """
        landed = self._context.writer.landed
        found = [branch for branch, kinds in landed.items() if not _NEWS.isdisjoint(kinds)]
        landed.clear()
        return sorted(branch for branch in found if not branch.startswith(HIDDEN_PREFIX))
