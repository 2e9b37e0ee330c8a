"""The command `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headwater.cli.base import Session, argument, command
from headwater.cli.layout import count
from headwater.cli.output import busy, clean, emit, paint
from headwater.errors import HeadwaterError, IntegrityError, LakeError
from headwater.names import parse_model, quote

if TYPE_CHECKING:
    from headwater.registry import Registry

__all__ = ["verify"]


@command(
    "verify",
    ref=True,
    example="""\
headwater verify
headwater verify flight-delay@champion flights@1.1.0""",
)
@argument("references", "[MODELREF|DATASET]...", complete="anything", nargs=-1)
def verify(session: Session, references: tuple[str, ...]) -> None:
    """Check every byte of models and datasets in the lake.

    Without arguments, of all that are not deleted; a model's name stands for all its versions. The exit status is 5
    where something is missing, altered or too many.
    """
    found: list[dict[str, Any]] = []
    faults: list[HeadwaterError] = []
    with session.open() as registry:
        pinned = registry if session.ref is not None else registry.at(registry.head)
        for reference, elsewhere in _chosen(pinned, references):
            fault = None
            try:
                with busy(f"verifying {reference}"):
                    pinned.verify(reference)
            except (IntegrityError, LakeError) as error:
                if not elsewhere and isinstance(error, LakeError):
                    raise
                fault = error
                faults.append(error)
            message = fault.message if fault is not None else None
            found.append({"reference": reference, "verified": fault is None, "message": message})
            if not session.json:
                emit(_line(reference, message))
    if session.json:
        session.emit(found, list)
    elif not faults:
        emit(f"{count(len(found), 'version')} verified" if found else "there is nothing to verify")
    if faults:
        worst = max(faults, key=lambda each: each.exit_status)
        if len(faults) > 1:
            failed = f"{len(faults)} of {count(len(found), 'version')} could not be verified"
            raise type(worst)(failed, hint="each is named above")
        raise worst


def _line(reference: str, fault: str | None) -> str:
    if fault is None:
        return f"{paint('ok', '32')}     {clean(reference)}"
    return f"{paint('fault', '1;31')}  {clean(reference)}: {clean(fault.removeprefix(f'{reference}: '))}"


def _chosen(registry: Registry, references: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Yield the versions that were asked for, by default all, and whether their bytes are outside the lake."""
    if not references:
        for model in registry.models():
            yield from _all(registry, quote(model.name))
        for dataset in registry.datasets():
            yield from ((each.reference, False) for each in registry.dataset_versions(quote(dataset.name)))
        return
    for reference in references:
        if registry.is_dataset(reference):
            yield registry.dataset(reference).reference, False
            continue
        ref = parse_model(reference)
        if ref.version is None and ref.alias is None:
            yield from _all(registry, reference)
        else:
            version = registry.get(reference)
            yield version.reference, version.external_url is not None


def _all(registry: Registry, name: str) -> Iterator[tuple[str, bool]]:
    return ((version.reference, version.external_url is not None) for version in registry.versions(name))
