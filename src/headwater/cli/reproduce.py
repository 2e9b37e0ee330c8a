"""The command `reproduce`: what it runs is said before it runs, and what came out beside what was recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import fields, table
from headwater.cli.output import clean, dim, note, paint, strong
from headwater.names import quote

if TYPE_CHECKING:
    from headwater.reproduction import Reproduction

__all__ = ["reproduce"]


@command(
    "reproduce",
    ref=True,
    example="""\
headwater reproduce flight-delay@champion
headwater reproduce flight-delay/7 /tmp/seven --install
headwater reproduce flight-delay/7 --repository ~/src/flights --no-run""",
)
@argument("reference", "MODELREF", complete="version")
@argument("dest", "[DEST]", required=False, type=click.Path())
@option("--repository", metavar="PATH", help="Another clone of the code's repository: a folder or a URL.")
@option("--install", is_flag=True, help="Build a virtual environment of the recorded packages, and run in it.")
@option("--no-run", is_flag=True, help="Put everything into place, and run nothing.")
@option("--force", is_flag=True, help="Replace an earlier reproduction in DEST.")
def reproduce(
    session: Session,
    reference: str,
    dest: str | None,
    repository: str | None,
    install: bool,
    no_run: bool,
    force: bool,
) -> None:
    """Make a version again from its lineage, and compare.

    Into DEST (by default NAME-VERSION-reproduced) go the code at its commit with its patch applied, every dataset
    version, and the environment as a pinned requirements.txt. Then the recorded command is run: this runs code that
    the lake names, on this machine and as you. It sees a lake of its own in DEST and writes nothing to this one; its
    metrics and its artifact's digest are compared with the recorded ones.
    """

    def echo(chunk: bytes) -> None:
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()

    with session.open() as registry:
        found = registry.reproduce(
            reference,
            dest,
            repository=repository,
            install=install,
            run=not no_run,
            force=force,
            tell=lambda text: note(dim(clean(text))),
            echo=None if session.json else echo,
        )
    session.emit(found, lambda: _lines(found))


def _lines(found: Reproduction) -> Iterator[str]:
    verb = "was made again" if found.ran else "is ready to be made again"
    yield f"{strong(f'{quote(found.name)}/{found.version}')} {verb} in {os.fspath(found.dest)}"
    same = {True: paint("the same", "32"), False: paint("differs", "33"), None: ""}
    yield from fields(
        [
            ("code", f"{found.repository} at {found.commit[:12]}"),
            ("data", "  ".join(found.data)),
            ("command", " ".join(found.command)),
            ("folder", os.fspath(found.folder)),
            ("took", f"{found.seconds:.1f} s" if found.seconds is not None else ""),
        ]
    )
    if found.ran:
        yield f"{dim('metrics')} {same[found.metrics_equal] or 'none were recorded'}"
        yield f"{dim('digest')} {same[found.digest_equal] or 'no artifact was registered'}"
    if found.metrics:
        rows = [(m.key, *("" if v is None else repr(v) for v in (m.recorded, m.found)), m.slice) for m in found.metrics]
        yield ""
        yield from table(("metric", "recorded", "found", "on"), rows, right=("recorded", "found"), first=False)
    for label, sentences in (("differs", found.differences), ("was missing", found.missing)):
        if sentences:
            yield ""
            yield from (f"{dim(label)} {clean(each)}" for each in sentences)
