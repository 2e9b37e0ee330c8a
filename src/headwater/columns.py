"""Columns of numbers in whatever form people have them, as bytes of `int64` and `float64`; knows no metrics."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import Any

from headwater.errors import InvalidInputError
from headwater.names import shown

__all__ = ["as_mapping", "doubles", "is_column", "steps"]

_NULLS = "leave out what was not measured; NaN is a value"
_NATIVE = "<" if sys.byteorder == "little" else ">"


def as_mapping(table: Any) -> Mapping[str, Any]:
    """Return the columns of a mapping, an Arrow table or batch, or a polars or pandas data frame, by name.

    Raises:
        InvalidInputError: It is none of these.
    """
    if isinstance(table, Mapping):
        return table
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
        import pyarrow as pa

        try:
            found = pa.table(table)
        except (pa.ArrowException, TypeError, ValueError):
            found = None
        if found is not None:
            return dict(zip(found.column_names, found.columns, strict=True))
    raise InvalidInputError(
        f"not columns of metrics: {shown(repr(type(table).__name__))}",
        hint='give a mapping such as {"step": [...], "loss": [...]}, or a table',
    )


def is_column(value: Any) -> bool:
    """Return whether a value is a column, and not one number."""
    if isinstance(value, list | tuple | range | array):
        return True
    if isinstance(value, bool | int | float | str | bytes):
        return False
    shape = getattr(value, "shape", None)
    return len(shape) > 0 if shape is not None else hasattr(value, "__len__")


def doubles(key: str, values: Any) -> bytes:
    """Return a column of numbers as `float64`.

    Raises:
        InvalidInputError: Not all of them are numbers, or it has nulls or more than one dimension.
    """
    return _packed(f"metric {key!r}", values, "d", "float64", "fiu", "numbers")


def steps(values: Any) -> bytes:
    """Return a column of steps as `int64`.

    Raises:
        InvalidInputError: Not all of them are whole numbers from 0.
    """
    packed = _packed("the column 'step'", values, "q", "int64", "iu", "whole numbers")
    if packed and _least(packed) < 0:
        raise InvalidInputError("the column 'step' has a negative number", hint="steps count from 0")
    return packed


def _least(packed: bytes) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pa.Array.from_buffers(pa.int64(), len(packed) // 8, [None, pa.py_buffer(packed)])
    return int(pc.min(numbers).as_py())


def _packed(what: str, values: Any, code: str, type_: str, kinds: str, noun: str) -> bytes:
    """Return values as bytes of one type.

    Args:
        what: How messages call the column.
        values: A list, an Arrow or NumPy array, a Series, a tensor.
        code: The type in the words of `array`.
        type_: The type in the words of NumPy and Arrow.
        kinds: The kinds of NumPy's types that are taken.
        noun: What the values have to be.
    """
    if isinstance(values, list | tuple | range):
        if any(each is True or each is False for each in values[:1]):
            raise _wrong(what, noun, values[0])
        try:
            return array(code, values).tobytes()
        except (TypeError, ValueError, OverflowError):
            wrong = next((each for each in values if not _fits(code, each)), None)
            raise _wrong(what, noun, wrong) from None
    if hasattr(values, "detach"):  # a tensor of PyTorch
        values = values.detach().cpu()
    if hasattr(values, "to_arrow"):  # a Series of polars
        values = values.to_arrow()
    if type(values).__module__.partition(".")[0] == "pyarrow":
        return _from_arrow(what, values, type_, kinds, noun)
    if not hasattr(values, "dtype") or not hasattr(values, "astype"):
        if hasattr(values, "__array__"):
            values = values.__array__()
        elif hasattr(values, "__iter__"):
            return _packed(what, list(values), code, type_, kinds, noun)
        else:
            raise _wrong(what, noun, values)
    if hasattr(values, "to_numpy"):  # a Series of pandas
        values = values.to_numpy()
    if getattr(values, "ndim", 1) != 1:
        raise InvalidInputError(f"{what} has {values.ndim} dimensions", hint="give one column for each metric")
    if values.dtype.kind == "O":
        return _packed(what, values.tolist(), code, type_, kinds, noun)
    if values.dtype.kind not in kinds:
        raise _wrong(what, noun, values[0] if len(values) else values.dtype)
    packed: bytes = values.astype(_NATIVE + {"d": "f8", "q": "i8"}[code]).tobytes()
    return packed


def _from_arrow(what: str, values: Any, type_: str, kinds: str, noun: str) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = "f" if pa.types.is_floating(column.type) else "i" if pa.types.is_integer(column.type) else "?"
    if column.null_count:
        raise InvalidInputError(f"{what} has {column.null_count} nulls", hint=_NULLS)
    if kind not in kinds:
        raise _wrong(what, noun, column[0] if len(column) else column.type)
    column = pc.cast(column, type_, safe=kind == "i" and type_ == "int64")
    buffer = column.buffers()[1]
    return bytes(buffer.slice(column.offset * 8, len(column) * 8)) if buffer is not None else b""


def _fits(code: str, value: Any) -> bool:
    try:
        array(code, [value])
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _wrong(what: str, noun: str, value: object) -> InvalidInputError:
    if value is None:
        return InvalidInputError(f"{what} has nulls", hint=_NULLS)
    return InvalidInputError(f"{what} has something in it that is not one of {noun}: {shown(repr(value))}", hint=_HINT)


_HINT = "give a list, an array or a Series of numbers"
