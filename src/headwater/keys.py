"""Ed25519 keys in files of this machine: made, found, read and used to sign; knows no lake and no roles.

Signatures are those of RFC 8032. A private key is a PKCS #8 file (RFC 5958) that its owner alone can read; beside it
lies the public one as a line of text: `ed25519 BASE64 NAME`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from headwater.errors import AlreadyExistsError, InvalidInputError, LakeError, NotFoundError, PermissionDeniedError
from headwater.names import shown, shown_path

__all__ = [
    "KEY",
    "PASSPHRASE",
    "PublicKey",
    "Signer",
    "Verifier",
    "check_found",
    "folder",
    "key_id",
    "local_key",
    "local_keys",
    "make",
    "raw_of",
    "read_public",
    "signer",
    "verifies",
]

KEY = "HEADWATER_KEY"
"""Names the file of the private key that signs, before the folder of keys is looked into."""

PASSPHRASE = "HEADWATER_KEY_PASSPHRASE"

_KIND = "ed25519"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key and whose it is.

    Attributes:
        raw: Its 32 bytes.
        name: The actor that it stands for.
    """

    raw: bytes
    name: str

    @property
    def key_id(self) -> str:
        """The first 32 hex digits of the sha256 of its bytes."""
        return key_id(self.raw)

    @property
    def text(self) -> str:
        """Its bytes in Base64."""
        return base64.b64encode(self.raw).decode()

    @property
    def line(self) -> str:
        """What its file holds."""
        return f"{_KIND} {self.text} {self.name}"

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Return the key of a line as `line` gives it.

        Raises:
            InvalidInputError: It is none.
        """
        kind, _, rest = line.strip().partition(" ")
        text, _, name = rest.partition(" ")
        if kind != _KIND or not name.strip():
            raise InvalidInputError(f"not a public key: {shown(line)}", hint=f"it is `{_KIND} BASE64 NAME`, one line")
        return cls(raw_of(text), name.strip())


def raw_of(text: str) -> bytes:
    """Return the bytes of a public key in Base64.

    Raises:
        InvalidInputError: It is none.
    """
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(text, validate=True)
        if len(raw) == 32:
            return raw
    raise InvalidInputError(
        f"not a public key: {shown(text)}", hint="32 bytes in Base64, as `headwater key new` prints"
    )


def key_id(raw: bytes) -> str:
    """Return the ID of a public key: the first 32 hex digits of its sha256."""
    return hashlib.sha256(raw).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that is ready to sign.

    Attributes:
        public: Its public key.
        sign: Makes a signature of 64 bytes.
    """

    public: PublicKey
    sign: Callable[[bytes], bytes]

    @property
    def key_id(self) -> str:
        """The public key's ID."""
        return self.public.key_id


def verifies(raw: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature of a message was made with the private key of a public one."""
    from cryptography.exceptions import InvalidSignature

    try:
        _loaded(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


Verifier = Callable[[bytes, bytes, bytes], bool]
"""What `verifies` is: a public key, a signature and a message, for whether they belong together."""


@lru_cache(maxsize=64)
def _loaded(raw: bytes):  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(raw)


# -- files ------------------------------------------------------------------------------------------------------------
def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where keys are kept: `$HEADWATER_KEYS`, else `headwater/keys` under the person's configuration."""
    given = environ.get("HEADWATER_KEYS")
    if given:
        return Path(given)
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".config") / "headwater" / "keys"


def _path(actor: str, suffix: str) -> Path:
    # A name is anything printable, `../x` and `.` included; a file's is not.
    name = quote(actor, safe=" @+=,").replace(".", "%2E")
    if len(name) > 200:
        name = f"{name[:100]}%{hashlib.sha256(actor.encode()).hexdigest()[:32]}"
    return folder() / f"{name}{suffix}"


def make(actor: str, passphrase: str | None = None) -> PublicKey:
    """Make a key of an actor's and return the public one.

    Args:
        actor: Whose it is to be.
        passphrase: Encrypts the private key.

    Raises:
        AlreadyExistsError: There is one.
        LakeError: It can't be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    locked = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    body = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    public = PublicKey(private.public_key().public_bytes_raw(), actor)
    path = _path(actor, ".pem")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(path, body, 0o600)
        _path(actor, ".pub").unlink(missing_ok=True)
        _write(_path(actor, ".pub"), f"{public.line}\n".encode(), 0o644)
    except FileExistsError:
        raise AlreadyExistsError(
            f"{actor} has a key already: {shown_path(str(path))}",
            hint="use it; a lost one is revoked with `headwater key revoke` and moved away before another one is made",
        ) from None
    except OSError as error:
        raise LakeError(
            f"a key can't be written to {shown_path(str(path.parent))}: {error.strerror}",
            hint="HEADWATER_KEYS names another folder",
        ) from error
    return public


def _write(path: Path, body: bytes, mode: int) -> None:
    """Write a file that is not there, whole or not at all, which from its first moment others can't read."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.{os.urandom(4).hex()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def local_key(actor: str) -> PublicKey | None:
    """Return the public key that this machine has of an actor, or None.

    Raises:
        InvalidInputError: Its file is not what was written.
    """
    path = _path(actor, ".pub")
    return read_public(path) if path.is_file() else None


def local_keys() -> list[tuple[PublicKey, bool]]:
    """Return the public keys that this machine has, by name, and whether it has the private ones too."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder().glob("*.pub")):
            with contextlib.suppress(InvalidInputError):
                found.append((read_public(path), path.with_suffix(".pem").is_file()))
    return sorted(found, key=lambda each: (each[0].name, each[0].key_id))


def read_public(path: Path) -> PublicKey:
    """Return the public key of a file.

    Raises:
        InvalidInputError: It can't be read, or is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{shown_path(str(path))} can't be read as a public key") from error
    return PublicKey.parse(text)


def signer(actor: str, *, ask: bool = True) -> Signer:
    """Return the private key that signs for an actor.

    Args:
        actor: Who acts.
        ask: Whether a passphrase may be asked for on a terminal.

    Raises:
        PermissionDeniedError: There is no key of his here, or others can read it.
        InvalidInputError: The file is no key, or the passphrase is not its.
    """
    named = os.environ.get(KEY)
    path = Path(named) if named else _path(actor, ".pem")
    try:
        with path.open("rb") as source:
            if stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o077:
                raise PermissionDeniedError(
                    f"others can read the private key {shown_path(str(path))}",
                    hint=f"`chmod 600` it, and if they may have read it, `headwater key revoke {actor}`",
                )
            body = source.read()
    except FileNotFoundError:
        raise PermissionDeniedError(
            f"this lake is signed, and there is no key of {actor} here: {shown_path(str(path))}",
            hint="`headwater key new` makes one; an administrator of the lake enrols it with `headwater key add`",
        ) from None
    except OSError as error:
        raise PermissionDeniedError(
            f"the private key {shown_path(str(path))} can't be read: {error.strerror}", hint="check its owner and mode"
        ) from error
    private = _unlocked(path, body, ask)
    return Signer(PublicKey(private.public_key().public_bytes_raw(), actor), private.sign)


def _unlocked(path: Path, body: bytes, ask: bool):  # type: ignore[no-untyped-def]
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    locked = b"ENCRYPTED" in body.partition(b"\n")[0]
    given = (os.environ.get(PASSPHRASE) or _asked(path, ask)) if locked else None
    try:
        private = load_pem_private_key(body, given.encode() if given else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(
            f"the passphrase does not open {shown_path(str(path))}"
            if locked
            else f"{shown_path(str(path))} holds no private key",
            hint="try again" if locked else "`headwater key new` makes one",
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidInputError(f"{shown_path(str(path))} is not an Ed25519 key", hint="`headwater key new` makes one")
    return private


def _asked(path: Path, ask: bool) -> str:
    import getpass

    if ask and sys.stdin is not None and sys.stdin.isatty():
        given = getpass.getpass(f"passphrase of {path}: ")
        if given:
            return given
    raise PermissionDeniedError(
        f"the private key {shown_path(str(path))} has a passphrase", hint=f"give it in ${PASSPHRASE}, or on a terminal"
    )


def check_found(public: PublicKey | None, name: str) -> PublicKey:
    """Return a key that was looked for.

    Raises:
        NotFoundError: There is none.
    """
    if public is None:
        raise NotFoundError(
            f"there is no public key of {name} in {shown_path(str(folder()))}",
            hint=f"`headwater key add {name} PUBLIC` takes the line that his `headwater key new` printed",
        )
    return public
