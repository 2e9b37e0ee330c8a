"""The commands that walk the lineage: `trace` and `impact`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.output import busy, clean, emit, is_terminal, json_text, write
from headwater.errors import LakeError

if TYPE_CHECKING:
    from headwater.lineage import Lineage

__all__ = ["impact", "trace"]

_FORMATS = ("tree", "json", "mermaid", "svg", "openlineage")


@command(
    "trace",
    ref=True,
    example="""\
headwater trace prediction:0192f3a1-6c1e-7cc1-8f6e-3a5d1c2b4e5f
headwater trace flight-delay@champion
headwater trace model:flight-delay/7 --format svg --output lineage.svg
headwater trace flights@1.1.0 --ref main~3""",
)
@argument("urn", "URN", complete="anything")
@option("--format", "form", type=click.Choice(_FORMATS), help="How to show it; a tree by default.")
@option("--output", metavar="FILE", type=click.Path(), help="Write it to a file, which is replaced as a whole.")
def trace(session: Session, urn: str, form: str | None, output: str | None) -> None:
    """Show what something came from, down to data and code.

    From a prediction the way leads over its deployment, model version and run to code and datasets. URN is
    prediction:ID, deployment:ID, model:NAME/7, run:ID, code:REPOSITORY@COMMIT, dataset:NAME@1.1.0, object:PATH@COMMIT,
    or a reference to a model or dataset. A version's stage and aliases are those of the moment that the prediction was
    made. OpenLineage prints an event on each line.
    """
    _check(session, form, output)
    with session.open() as registry:
        found = registry.trace(urn)
    _show(session, found, form, output)


@command(
    "impact",
    ref=True,
    example="""\
headwater impact dataset:flights@1.1.0
headwater impact --rows "origin = 'JFK' and month = 2" dataset:flights@1.0.0
headwater impact code:https://example.org/flights.git@3f2a9c1b --format json""",
)
@argument("urn", "URN", complete="anything")
@option("--rows", metavar="SQL", help="Only what came of rows of the dataset that meet a condition.")
@option("--format", "form", type=click.Choice(_FORMATS), help="How to show it; a tree by default.")
@option("--output", metavar="FILE", type=click.Path(), help="Write it to a file, which is replaced as a whole.")
def impact(session: Session, urn: str, rows: str | None, form: str | None, output: str | None) -> None:
    """Show what came of something, up to its predictions.

    These are datasets, runs, model versions and deployments, and counts of predictions. URN is as for trace. With
    --rows it is asked of the data which of the dataset's versions, from this one on, and which datasets derived from
    them hold such rows, and what learned from those.
    """
    _check(session, form, output)
    with session.open() as registry, busy("asking the data"):
        found = registry.impact(urn, rows=rows)
    _show(session, found, form, output)


def _check(session: Session, form: str | None, output: str | None) -> None:
    if session.json and output is None and form not in (None, "json", "openlineage"):
        raise click.UsageError(f"--json and --format {form} contradict each other", click.get_current_context())


def _show(session: Session, found: Lineage, form: str | None, output: str | None) -> None:
    if output is not None:
        _save(found.render(form or ("json" if session.json else "tree")) + "\n", output)
        document = {"output": output, "nodes": len(found.nodes), "edges": len(found.edges)}
        session.emit(document, lambda: [f"{len(found.nodes)} nodes in {clean(output)}"])
    elif session.json and form == "openlineage":
        import json

        emit(json_text([json.loads(line) for line in found.render("openlineage").splitlines()]))
    elif session.json or form == "json":
        emit(json_text(found.document()))
    else:
        text = found.render(form or "tree")
        # A file gets the text as it is; a terminal would obey it.
        seen = is_terminal(sys.stdout)
        for line in text.splitlines():
            write((clean(line) if seen else line) + "\n")


def _save(text: str, output: str) -> None:
    import os

    place = os.path.realpath(output)
    # What is no plain file, such as /dev/stdout or a pipe, is written to, and not replaced.
    plain = not os.path.lexists(place) or os.path.isfile(place)
    beside = f"{place}.{os.getpid()}.part" if plain else place
    try:
        with open(beside, "x" if plain else "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        if plain:
            os.replace(beside, place)
    except OSError as error:
        raise LakeError(f"{output} can't be written: {error.strerror}", hint="choose another --output") from error
    finally:
        if plain and os.path.lexists(beside):
            os.unlink(beside)
