"""Where a lakeFS repository is and with which keys it is opened; knows nothing of what is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headwater.errors import InvalidInputError, LakeError

__all__ = ["Address", "Credentials", "load_credentials"]

_FORM = "a lakeFS lake is written lakefs://HOST[:PORT]/REPOSITORY, or lakefss:// for TLS"
_KEYS = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"
_PORTS = {"lakefs": 8000, "lakefss": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A pair of lakeFS keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """A repository on a server. Without a port, `lakefs` is 8000 (lakeFS's own default) and `lakefss` is 443."""

    scheme: str
    host: str
    port: int
    repository: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL part by part.

        Raises:
            InvalidInputError: A part is wrong; the message names it.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme.lower() not in _PORTS:
            raise InvalidInputError(f"{_safe(url)!r} does not begin with lakefs:// or lakefss://", hint=_FORM)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InvalidInputError(f"the host or the port in {_safe(url)!r} is not well formed", hint=_FORM) from None
        if "@" in parts.netloc:
            raise InvalidInputError(
                f"{_safe(url)!r} has a user or a password in it", hint=f"keys are read from {_KEYS}, or ~/.lakectl.yaml"
            )
        if not host or not _HOST.fullmatch(host):
            raise InvalidInputError(f"{_safe(url)!r} names no host, or one that is not well formed", hint=_FORM)
        if port == 0:
            raise InvalidInputError(f"port 0 in {url!r} is no port", hint=_FORM)
        if parts.query or parts.fragment or "?" in url or "#" in url:
            raise InvalidInputError(f"{_safe(url)!r} has something after the repository", hint=_FORM)
        repository = unquote(parts.path.removeprefix("/").removesuffix("/"))
        if not repository:
            raise InvalidInputError(f"{url!r} names no repository", hint=_FORM)
        if "/" in repository:
            hint = "a branch is named with --branch or --ref; " + _FORM
            raise InvalidInputError(f"{url!r} has more than a repository in its path", hint=hint)
        if not _REPOSITORY.fullmatch(repository):
            hint = "a repository's name has 3 to 63 small letters, digits and hyphens, and does not begin with a hyphen"
            raise InvalidInputError(f"{repository!r} is no name of a lakeFS repository", hint=hint)
        name = parts.scheme
        return cls(name, host, port or _PORTS[name], repository)

    @property
    def endpoint(self) -> str:
        """The server's HTTP address, which is also its S3 gateway's."""
        return f"{'https' if self.scheme == 'lakefss' else 'http'}://{self._authority}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self._authority}/{self.repository}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _safe(url: str) -> str:
    """Return a URL that may be shown: whatever stands before an @ could be a password."""
    scheme, separator, rest = url.partition("://")
    secret, at, shown = rest.rpartition("@")
    return f"{scheme}{separator}…@{shown}" if at and secret else url


def load_credentials(environ: Mapping[str, str], home: Path) -> Credentials:
    """Find lakeFS keys where every lakeFS tool finds them: the environment, else `~/.lakectl.yaml`.

    Args:
        environ: The environment.
        home: The user's home folder.

    Raises:
        LakeError: There are none, there is only half of a pair, or the file cannot be read.
    """
    path = home / ".lakectl.yaml"
    access = environ.get("LAKECTL_CREDENTIALS_ACCESS_KEY_ID")
    secret = environ.get("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")
    if not access or not secret:
        kept = _read_lakectl(path)
        access = access or kept.get("access_key_id")
        secret = secret or kept.get("secret_access_key")
    if not access or not secret:
        lacking = "secret access key" if access else "access key ID" if secret else "keys"
        raise LakeError(f"there are no lakeFS {lacking}", hint=f"set {_KEYS}, or run `lakectl config`")
    return Credentials(access, secret)


def _read_lakectl(path: Path) -> dict[str, str]:
    import yaml  # 20 ms that most commands can do without

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise LakeError(f"{path} cannot be read as YAML", hint="run `lakectl config` to write it anew") from None
    keys = content.get("credentials") if isinstance(content, dict) else None
    if not isinstance(keys, dict):
        return {}
    return {str(name): str(value) for name, value in keys.items() if value is not None}
