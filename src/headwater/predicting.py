"""How what predicts is told where things are, and how what a function predicts is written; knows no lake."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError
from headwater.evaluation_rows import GIVEN

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DATA", "MODEL", "OUTPUT", "Predict", "call", "filled", "words_of"]

Predict = Callable[[Any], Any]
"""A function of the rows of a dataset, as an Arrow table, that returns what it predicts of them."""

MODEL, DATA, OUTPUT = "HEADWATER_MODEL", "HEADWATER_DATA", "HEADWATER_OUTPUT"
"""Tell a command where the artifact's folder is, the dataset's file or folder, and the file that it is to write."""


def filled(command: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Return a command with the values of `{model}`, `{data}` and so on in the place of these words."""
    done = []
    for word in command:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        done.append(word)
    return done


def words_of(text: str, what: str) -> list[str]:
    """Return the words of a command that is one text, as a shell would split it.

    Raises:
        InvalidInputError: It can't be split, or has none.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidInputError(f"{what} is no command: {error}", hint="quote it as a shell would") from None
    if not words:
        raise InvalidInputError(f"{what} is empty", hint="name a program")
    return words


def call(predict: Predict, table: pa.Table, key: Sequence[str], output: Path) -> None:
    """Write what a function predicts, in the child; what it returns as values is of the rows in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = predict(table)
    if isinstance(found, Mapping):
        found = pa.table(dict(found))
    elif not isinstance(found, pa.Table):
        if hasattr(found, "__arrow_c_stream__") and hasattr(found, "columns"):
            found = pa.table(found)
        else:
            values = found if isinstance(found, pa.ChunkedArray) else pa.array(found)
            if len(values) != len(table):
                raise ValueError(f"{len(values)} predictions for {len(table)} rows")
            columns = {each: table.column(each) for each in key if each not in GIVEN}
            found = pa.table({**columns, "prediction": values})
    pq.write_table(found, output)
