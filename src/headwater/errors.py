"""The error tree: one class for each thing that a caller would do about a failure.

HeadwaterError
├── InvalidInputError    (ValueError)   what was asked for is not well formed
├── NotFoundError        (LookupError)  the thing is not there
├── AlreadyExistsError                  the thing is there already
├── ConflictError                       somebody else's change stands in the way: settle it or try again
│   └── RaceLostError                   another writer landed first: running again may succeed
├── GateFailedError                     a gate of a policy did not pass
├── PermissionDeniedError               the actor, or the lake's credentials, may not do this
├── IntegrityError                      bytes or history are not what they were
└── LakeError                           the environment: a server, a disk, a file that cannot be used
"""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "ConflictError",
    "GateFailedError",
    "HeadwaterError",
    "IntegrityError",
    "InvalidInputError",
    "LakeError",
    "NotFoundError",
    "PermissionDeniedError",
    "RaceLostError",
]


class HeadwaterError(Exception):
    """Anything that Headwater raises on purpose.

    Args:
        message: One sentence that names the thing that is wrong.
        hint: One sentence on what to do about it, or empty.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInputError(HeadwaterError, ValueError):
    """What was asked for is not well formed: a name, a ref, a number, a file."""

    exit_status = 2


class NotFoundError(HeadwaterError, LookupError):
    """The model, version, alias, dataset, ref or object is not there."""


class AlreadyExistsError(HeadwaterError):
    """Something of that name is there already."""


class ConflictError(HeadwaterError):
    """Another change stands in the way; it has to be settled, or the work done again."""

    exit_status = 4


class RaceLostError(ConflictError):
    """Another writer landed first; the same work on the new head may succeed."""


class GateFailedError(HeadwaterError):
    """A gate of the policy did not pass."""

    exit_status = 3


class PermissionDeniedError(HeadwaterError):
    """The actor, or the credentials for the lake, may not do this."""

    exit_status = 3


class IntegrityError(HeadwaterError):
    """Bytes or history are not what they were when they were written."""

    exit_status = 5


class LakeError(HeadwaterError):
    """The lake cannot be used as it is: unreachable, locked, full, read-only, or not a lake of ours."""
