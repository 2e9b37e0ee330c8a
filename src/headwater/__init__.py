"""Headwater: a machine-learning model registry that lives inside the data lake.

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.audit_model import Audit, Finding
    from headwater.autologging import autolog
    from headwater.branching import Branch, Tag
    from headwater.conflicts import Conflict, MergeConflictError
    from headwater.diffs import Diff
    from headwater.errors import (
        AlreadyExistsError,
        ConflictError,
        GateFailedError,
        HeadwaterError,
        IntegrityError,
        InvalidInputError,
        LakeError,
        NotFoundError,
        PermissionDeniedError,
    )
    from headwater.evaluation_model import Evaluated
    from headwater.governance_model import Approval, Check, Evaluation, GateResult, Promotion
    from headwater.lineage import Lineage
    from headwater.lineage_nodes import Edge, Node
    from headwater.merge import Merge
    from headwater.model import Alias, ArtifactFile, DatasetVersion, LogEntry, Metric, Model, ModelVersion, RunInfo
    from headwater.opening import create, current_run, open
    from headwater.promotion_rules import RefusedError
    from headwater.query import QueryResult
    from headwater.registry import Registry
    from headwater.run import Run
    from headwater.serving_model import Deployment, LoggedBatch, Prediction
    from headwater.undoing import Revert
    from headwater.watch_model import Watched

__version__ = "0.1.0"

_HOMES = {
    "headwater.errors": (
        "AlreadyExistsError",
        "ConflictError",
        "GateFailedError",
        "HeadwaterError",
        "IntegrityError",
        "InvalidInputError",
        "LakeError",
        "NotFoundError",
        "PermissionDeniedError",
    ),
    "headwater.audit_model": ("Audit", "Finding"),
    "headwater.autologging": ("autolog",),
    "headwater.branching": ("Branch", "Tag"),
    "headwater.conflicts": ("Conflict", "MergeConflictError"),
    "headwater.evaluation_model": ("Evaluated",),
    "headwater.governance_model": ("Approval", "Check", "Evaluation", "GateResult", "Promotion"),
    "headwater.lineage": ("Lineage",),
    "headwater.lineage_nodes": ("Edge", "Node"),
    "headwater.model": (
        "Alias",
        "ArtifactFile",
        "DatasetVersion",
        "LogEntry",
        "Metric",
        "Model",
        "ModelVersion",
        "RunInfo",
    ),
    "headwater.diffs": ("Diff",),
    "headwater.merge": ("Merge",),
    "headwater.promotion_rules": ("RefusedError",),
    "headwater.undoing": ("Revert",),
    "headwater.watch_model": ("Watched",),
    "headwater.query": ("QueryResult",),
    "headwater.opening": ("create", "current_run", "open"),
    "headwater.registry": ("Registry",),
    "headwater.run": ("Run",),
    "headwater.serving_model": ("Deployment", "LoggedBatch", "Prediction"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Alias",
    "AlreadyExistsError",
    "Approval",
    "ArtifactFile",
    "Audit",
    "Branch",
    "Check",
    "Conflict",
    "ConflictError",
    "DatasetVersion",
    "Deployment",
    "Diff",
    "Edge",
    "Evaluated",
    "Evaluation",
    "Finding",
    "GateFailedError",
    "GateResult",
    "HeadwaterError",
    "IntegrityError",
    "InvalidInputError",
    "LakeError",
    "Lineage",
    "LogEntry",
    "LoggedBatch",
    "Merge",
    "MergeConflictError",
    "Metric",
    "Model",
    "ModelVersion",
    "Node",
    "NotFoundError",
    "PermissionDeniedError",
    "Prediction",
    "Promotion",
    "QueryResult",
    "RefusedError",
    "Registry",
    "Revert",
    "Run",
    "RunInfo",
    "Tag",
    "Watched",
    "autolog",
    "create",
    "current_run",
    "open",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
