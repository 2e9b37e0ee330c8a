"""The Python that is running: its version, platform and installed packages; knows nothing of models."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata

__all__ = ["Environment", "capture"]


@dataclass(frozen=True, slots=True)
class Environment:
    """Python's version, the platform, and the installed packages as sorted lines `name==version`."""

    python: str
    platform: str
    packages: bytes

    @property
    def digest(self) -> str:
        """The sha256 of `packages`."""
        return sha256(self.packages).hexdigest()


@cache
def capture() -> Environment:
    """Return the environment of this process; looked at once."""
    lines = set()
    for package in metadata.distributions():
        name = package.metadata["Name"]
        if name:
            lines.add(f"{name.lower()}=={package.version}\n")
    return Environment(platform.python_version(), platform.platform(), "".join(sorted(lines)).encode())
