"""The part of a registry that is about what may enter production: every method asks a service and has no rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.audit_model import Audit
    from headwater.dataset_evaluation import DatasetEvaluation
    from headwater.evaluation_model import Evaluated
    from headwater.governance_model import Approval, CardCheck, Check, Evaluation, PolicyText, Promotion
    from headwater.history_model import HistoryEntry, ModelMoment
    from headwater.trust_model import Grant, Key
    from headwater.watch_model import Watched

__all__ = ["Governance"]


class Governance(Services):
    """Stages, gates, traffic and rollback, as methods of a registry."""

    # -- stages and traffic -------------------------------------------------------------------------------------
    def stage(self, reference: str, stage: str, *, reason: str | None = None) -> Promotion:
        """Move a version to a stage by hand; `production` is entered as `promote` does it.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            stage: `development`, `staging`, `production` or `archived`.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: There is no such version.
            InvalidInputError: That is no stage.
            GateFailedError: The stage can't be entered from the one that the version is in, or a gate did not pass.
            PermissionDeniedError: The actor has no role that may do it.
        """
        return self._promotions.stage(reference, stage, reason=reason)

    def promote(
        self,
        reference: str,
        to: str,
        *,
        traffic: float | None = None,
        override: str | None = None,
        reason: str | None = None,
    ) -> Promotion:
        """Let a version enter a stage, if every gate of the policy passes on the numbers of one commit.

        Entering `production` makes the version live there and `champion`, and archives the one before, in one commit.
        A refusal by gates is recorded.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            to: The stage; `production` is entered from `staging`.
            traffic: Percent of production's requests, more than 0: less than 100 makes it a canary beside the version
                in production, which gets the rest.
            override: Why gates that fail are passed over; for admins, and shown for ever.
            reason: Why; kept with the change.

        Returns:
            The promotion, with what each gate found.

        Raises:
            NotFoundError: There is no such version.
            InvalidInputError: That is no stage, or no percentage.
            GateFailedError: A gate did not pass (its `evaluation` tells), or the stage can't be entered from the one
                that the version is in.
            PermissionDeniedError: The actor has no role that may do it.
            ConflictError: It would be a canary beside nothing, or somebody else's promotion landed first.
            IntegrityError: A file of the artifact is missing or altered.
        """
        return self._promotions.promote(reference, to, traffic=traffic, override=override, reason=reason)

    def set_traffic(
        self,
        name: str,
        percent: float,
        *,
        version: int | None = None,
        override: str | None = None,
        reason: str | None = None,
    ) -> Promotion:
        """Give a model's canary another share of production's requests; 100 promotes it, 0 ends it.

        More than it has asks the gates of `production`; less asks none. Where there is no canary, the version behind
        the alias `challenger` becomes it; without gates and roles it need not be in `staging` for that.

        Args:
            name: The model.
            percent: From 0 to 100; the version in production gets the rest.
            version: Which canary, where there are several.
            override: Why gates that fail are passed over; for admins.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: There is no such model, or it has no canary.
            InvalidInputError: That is no percentage, or there are several canaries.
            GateFailedError: A gate did not pass.
            PermissionDeniedError: The actor has no role that may do it.
        """
        return self._promotions.traffic(name, percent, version=version, override=override, reason=reason)

    def rollback(self, name: str, to: int | None = None, *, reason: str | None = None) -> Promotion:
        """Bring the version back to all of production's requests that was there before, in one commit.

        Gates are not asked; roles are. With a canary beside it, that is the version in production itself: the canary
        ends. Versions that were rolled back are not gone back to.

        Args:
            name: The model.
            to: Another version that was in production once.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: There is no such model or version, or nothing to go back to.
            GateFailedError: The version was never in production: what no gate let in can't be rolled back to.
            ConflictError: It is in production already.
            PermissionDeniedError: The actor has no role that may do it.
        """
        return self._promotions.rollback(name, to, reason=reason)

    # -- gates --------------------------------------------------------------------------------------------------
    def set_gates(self, name: str, policy: str | os.PathLike[str], *, reason: str | None = None) -> PolicyText:
        """Make a policy hold: the gates that stand before the stages of a model.

        All policies that match a model hold together: its own, and those of patterns. It takes the place of the one of
        the same name; where that says the same already, only a new reason is written.

        Args:
            name: A model; a pattern of names such as `flight-*`; or `dataset:NAME`, for gates on a dataset's versions.
            policy: A TOML file; or the TOML itself, a text with a `[` or a line break in it. See `docs/gates.md`.
            reason: Why; kept with the change.

        Raises:
            InvalidInputError: The policy can't be read, or says something that no gate can; the message names the line.
            NotFoundError: There is no such model, or no such file.
            PermissionDeniedError: The actor has no role that may do it.
            LakeError: The file can't be read.
        """
        return self._policies.set(name, policy, reason=reason)

    def delete_gates(self, name: str, *, reason: str | None = None) -> None:
        """Take the policy of a model, pattern or dataset away.

        Args:
            name: As for `set_gates`.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: It has none, or there is no such model.
            PermissionDeniedError: The actor has no role that may do it.
        """
        self._policies.delete(name, reason=reason)

    def gates(self, name: str | None = None) -> list[PolicyText]:
        """Return the policies that hold for a model, its own first; of a pattern or `dataset:NAME`, that one.

        Args:
            name: As for `set_gates`; None for every policy of the lake.

        Raises:
            NotFoundError: There is no such model.
            IntegrityError: Something other than Headwater wrote one.
        """
        return self._policies.list() if name is None else self._policies.show(name)

    def check_gates(self, reference: str, to: str = "production", *, traffic: float | None = None) -> Evaluation:
        """Ask the gates that stand before a stage of a version, as `promote` would; nothing is written.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            to: `development`, `staging` or `production`.
            traffic: Percent of production's requests that it would get; all unless given.

        Returns:
            What each gate found: `passed` is whether all passed, also where there is none.

        Raises:
            NotFoundError: There is no such version.
            InvalidInputError: That is no stage that gates stand before, or no percentage.
            ConflictError: Two branches put a version into production each, so there is none to compare with.
        """
        return self._policies.check(reference, to, traffic=traffic)

    def check_dataset(self, reference: str) -> DatasetEvaluation:
        """Ask the gates of a dataset's policy of one version; nothing is written.

        Args:
            reference: `NAME@1.2.0`, or `NAME` for the newest version.

        Returns:
            What each gate found: `passed` is whether all passed, also where there is none.

        Raises:
            NotFoundError: There is no such dataset or version.
            IntegrityError: The policy, or the data, is not what was written.
        """
        return self._dataset_gates.check(reference)

    # -- what people record -------------------------------------------------------------------------------------
    def record_check(
        self, reference: str, name: str, *, passed: bool, url: str | None = None, detail: str | None = None
    ) -> Check:
        """Record a named result for a version, such as that of integration tests; a later one takes its place.

        Where two branches recorded it differently, a failure stands until it is recorded anew.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            name: What the gate that asks for it calls it, such as `integration`.
            passed: Whether it passed.
            url: Where more is to be seen; `https://` or `http://`.
            detail: Up to 10,000 characters.

        Raises:
            NotFoundError: There is no such version.
            InvalidInputError: The name or the URL can't be one.
            PermissionDeniedError: The actor has no role that may do it.
        """
        return self._records.record(reference, name, passed=passed, url=url, detail=detail)

    def checks(self, reference: str) -> list[Check]:
        """Return the checks that were recorded for a version, by name.

        Raises:
            NotFoundError: There is no such version.
        """
        return self._records.checks(reference)

    def approve(self, reference: str, to: str, *, withdraw: bool = False, reason: str | None = None) -> Approval:
        """Say that a version may enter a stage, on this branch; where that was said already, nothing is written.

        Whether it counts is asked when the version is promoted: of whoever holds the policy's role then.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            to: The stage.
            withdraw: Take it back instead.
            reason: Why; kept with it.

        Raises:
            NotFoundError: There is no such version; or nothing that could be taken back.
            PermissionDeniedError: It is the actor's own version, or he has no role that may do it.
            InvalidInputError: That is no stage that anything is approved for.
        """
        return self._records.approve(reference, to, withdraw=withdraw, reason=reason)

    def approvals(self, reference: str) -> list[Approval]:
        """Return what people said of a version, oldest first; what was withdrawn too.

        Raises:
            NotFoundError: There is no such version.
        """
        return self._records.approvals(reference)

    def check_card(self, reference: str) -> CardCheck:
        """Return what a version's card says, and what it lacks to be complete.

        Raises:
            NotFoundError: There is no such version.
        """
        return self._records.check_card(reference)

    # -- history ------------------------------------------------------------------------------------------------
    @overload
    def history(self, name: str, *, limit: int | None = None) -> list[HistoryEntry]: ...

    @overload
    def history(self, name: str, *, at: datetime | str, limit: int | None = None) -> ModelMoment: ...

    def history(
        self, name: str, *, at: datetime | str | None = None, limit: int | None = None
    ) -> list[HistoryEntry] | ModelMoment:
        """Return the story of a model, newest first; or what it was at a time, with its story until then.

        A transaction is one entry, and its gates, approvals, overrides and changes are told in words. The order is that
        in which things reached the branch, whatever any clock said: what was at a time is what `main@{time}` had.

        Args:
            name: The model; for a time, the name may also be the one that it had then.
            at: A time with its zone, or as text (`2026-11-01`, `2026-11-01T12:00:00Z`; without a zone it is UTC).
            limit: No more entries than so many.

        Raises:
            NotFoundError: There is no such model, or there was none yet.
            InvalidInputError: That is no model's name, no time, or it does not say its zone.
        """
        if at is None:
            return self._chronicle.tell(name, limit=limit)
        return self._chronicle.moment(name, at, limit=limit)

    # -- watching -----------------------------------------------------------------------------------------------
    def watch(self, name: str, *, rollback: bool = True) -> Watched:
        """Look once at what serves of a model in production, by the live gates of its policy, and roll back what fails.

        Asked are the gates of `production` over live predictions (`live`, and `latency` with `from = "live"`), of what
        is live and of canaries; and those of shadows, which have no consequence. A gate counts once it has enough
        predictions, of those alone that were logged for what serves now. Where a canary fails, the version in
        production gets all requests again; where that fails, the version before it does. Ask again as often as you
        like.

        Args:
            name: The model.
            rollback: Whether to roll back; else it is only told.

        Raises:
            NotFoundError: There is no such model, or its policy has no such gate.
            InvalidInputError: That is no model's name.
            PermissionDeniedError: Something failed, and the actor has no role that may roll back.
            LakeError: The lake can't be read now; nothing was changed.
        """
        return self._watching.look(name, rollback=rollback)

    # -- evaluating ---------------------------------------------------------------------------------------------
    def evaluate(
        self,
        reference: str,
        *,
        on: str,
        command: Sequence[str] | None = None,
        predict: Callable[[Any], Any] | None = None,
        slices: Sequence[str] = (),
        label: str | None = None,
        task: str | None = None,
        positive: str | None = None,
        timeout: float | None = None,
        echo: Callable[[bytes], None] | None = None,
    ) -> Evaluated:
        """Predict every row of a dataset version with a version, keep the predictions, and compute metrics of them.

        The metrics are the version's, on that dataset version, with the source `computed`. What predicts runs in a
        child process, and ends with all that it started when it takes too long.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            on: The dataset version, `NAME@1.0.0`, or `NAME` for the newest.
            command: Words of a command, in which `{model}`, `{data}` and `{output}` stand for the folder of the
                artifact, the dataset's file (or folder, where it has several) and the file to write; it finds them as
                HEADWATER_MODEL, HEADWATER_DATA and HEADWATER_OUTPUT too. It runs in the current folder. By default the
                version's tag `predict`, which runs in an empty folder. It writes CSV, Parquet or JSON lines: the
                dataset's key (where it has none: row by row, in its order), and `prediction`, or `score`, or both.
            predict: Instead of a command: a function that is given the rows as an Arrow table, in a fork of this
                process, and returns predictions in their order, or a table or dict of columns as a command writes them.
            slices: Columns by whose values it is measured too; `a+b` for two together.
            label: The column that says what is true; by default the one called label, target or y.
            task: `classification` or `regression`, where the values leave it open.
            positive: Of two classes the one that is looked for; by default the greater.
            timeout: Seconds that it may take; an hour by default.
            echo: Takes what the child prints, in bytes.

        Raises:
            NotFoundError: There is no such version, dataset or program.
            InvalidInputError: A column is missing, or predictions are missing, doubled, too many, or of a wrong kind.
            HeadwaterError: The child failed or took too long; nothing is written.
            PermissionDeniedError: The actor has no role that may do it.
            IntegrityError: The artifact or the data is not what was registered.
        """
        return self._evaluations.evaluate(
            reference,
            on=on,
            command=command,
            predict=predict,
            slices=slices,
            label=label,
            task=task,
            positive=positive,
            timeout=timeout,
            echo=echo,
        )

    def evaluation(self, reference: str, *, on: str) -> Evaluated:
        """Return the last evaluation of a version on a dataset version; its `table()` has the predictions.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            on: The dataset version, `NAME@1.0.0`, or `NAME` for the newest.

        Raises:
            NotFoundError: There is no such version or dataset, or no evaluation of the one on the other.
        """
        return self._evaluations.evaluation(reference, on=on)

    # -- roles and keys -----------------------------------------------------------------------------------------
    def grant(self, role: str, who: str, on: str = "*", *, reason: str | None = None) -> list[Grant]:
        """Give somebody a role on some models; one that he holds already is not written again.

        In a signed lake it is bound to his keys. If none is enrolled, and this machine has a public one of his, that is
        enrolled in the same commit.

        Args:
            role: `viewer`, `author`, `reviewer`, `deployer` or `admin`.
            who: The actor's name; `actor:NAME` is the same.
            on: The name of a model, or a pattern in which `*` is any run of characters. It matches the names that
                models were made with, so that a rename gives nobody a right; a present name is looked up.
            reason: Why; kept with the change.

        Returns:
            What he holds now, one for each of his keys.

        Raises:
            InvalidInputError: That is no role, or no pattern.
            NotFoundError: The lake is signed, and there is no key of his.
            ConflictError: The one that this machine has was revoked.
            PermissionDeniedError: The actor is no admin there.
        """
        return self._roles.grant(role, who, on, reason=reason)

    def revoke_role(self, role: str, who: str, on: str = "*", *, reason: str | None = None) -> list[Grant]:
        """Take a role from somebody; what he did while he held it stays.

        Arguments are those of `grant`.

        Raises:
            NotFoundError: He does not hold it.
            ConflictError: Nobody would be left who may govern the lake.
            PermissionDeniedError: The actor is no admin there.
        """
        return self._roles.revoke(role, who, on, reason=reason)

    def roles(self) -> list[Grant]:
        """Return who holds which role, by name."""
        return self._roles.granted()

    def add_key(self, name: str, public: str | None = None, *, reason: str | None = None) -> Key:
        """Enrol a public key in a signed lake: what it signs is that actor's from now on.

        Args:
            name: The actor.
            public: `ed25519 BASE64 NAME`, or the Base64 alone; by default the one that this machine has of him.
            reason: Why; kept with the change.

        Raises:
            InvalidInputError: That is no key, or the lake is not signed.
            NotFoundError: This machine has none of his.
            ConflictError: It was revoked, or stands for another name.
            PermissionDeniedError: The actor is no admin of the whole lake.
        """
        return self._roles.add_key(name, public, reason=reason)

    def revoke_key(self, which: str, *, reason: str | None = None) -> list[Key]:
        """Revoke keys: what they signed before stays, and what they sign from now on has no force.

        Args:
            which: An actor's name, for all of his, or the ID of one.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: There is none.
            ConflictError: Nobody would be left who may govern the lake.
            PermissionDeniedError: The actor is no admin of the whole lake.
        """
        return self._roles.revoke_key(which, reason=reason)

    def keys(self) -> list[Key]:
        """Return the keys that the lake knows, and those that are on this machine only, by name."""
        return self._roles.keys()

    # -- auditing -----------------------------------------------------------------------------------------------
    def audit(self, *, everything: bool = False) -> Audit:
        """Read all commits and events that led here anew, and name what is not as it should be; writes nothing.

        In a signed lake every signature, key and role is judged as of when its event landed. See `docs/trust.md` for
        what that proves.

        Args:
            everything: Read the bytes of every version of models and datasets; by default only of those that are
                staged, serve in production, or have an alias.

        Returns:
            The audit: `clean`, or with `findings`; `notes` tell of overrides.

        Raises:
            LakeError: The lake, or the disk of its cache, can't be used.
        """
        return self._audits.audit(everything=everything)
