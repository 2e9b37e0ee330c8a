"""DuckDB connections that work unseen: they fetch no extension, print nothing, tell times in UTC; knows no query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["aside", "connect"]

Result = TypeVar("Result")


def connect(**settings: Any) -> DuckDBPyConnection:
    """Return a connection of its own; Python's variables are no tables to it unless the settings say so.

    Args:
        settings: DuckDB's, besides those that all have.
    """
    import duckdb

    always = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    connection = duckdb.connect(config={**always, **settings})
    connection.execute("SET TimeZone = 'UTC'")
    try:
        connection.execute("SET enable_progress_bar = false")
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error:
        # In a notebook without ipywidgets DuckDB refuses the setting; there it has no bar to show either.
        pass
    return connection


def aside(connection: DuckDBPyConnection, work: Callable[[], Result], *, timeout: float | None = None) -> Result:
    """Do work on a connection in a thread of its own: in the main thread, DuckDB would hear of Ctrl-C too late.

    Args:
        connection: Is interrupted when nobody waits any more.
        work: What is done.
        timeout: Seconds that it may take.

    Raises:
        TimeoutError: It took longer.
    """
    found: list[Result] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    deadline = None if timeout is None else time.monotonic() + timeout
    threading.Thread(target=run, daemon=True).start()
    try:
        # The signal may reach any thread, and a wait without an end would not let this one look for it.
        while not done.wait(0.1):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
    finally:
        # An interrupt that comes between two statements is lost, so it is sent again.
        while not done.is_set():
            connection.interrupt()
            done.wait(0.05)
    if failed:
        raise failed[0]
    return found[0]
