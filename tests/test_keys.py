"""Files of keys: who can read them, what they hold, and what is said of those that can't be used."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from headwater import keys, known_lakes
from headwater.access import check_pattern, covers, matches
from headwater.errors import (
    AlreadyExistsError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    PermissionDeniedError,
)
from headwater.keys import PublicKey
from headwater.trust import Root


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (keys.KEY, keys.PASSPHRASE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADWATER_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_a_private_key_is_its_owners_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        public = keys.make("ann")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "ann.pem").stat().st_mode) == 0o600
    assert (folder / "ann.pub").read_text() == f"ed25519 {public.text} ann\n"
    signer = keys.signer("ann")
    assert (signer.key_id, signer.public.raw) == (public.key_id, public.raw)
    assert keys.verifies(public.raw, signer.sign(b"said"), b"said")
    assert not keys.verifies(public.raw, signer.sign(b"said"), b"not said")
    assert not keys.verifies(public.raw, b"", b"said")
    assert keys.local_keys() == [(public, True)]
    with pytest.raises(AlreadyExistsError, match="ann has a key already"):
        keys.make("ann")
    assert keys.signer("ann").key_id == public.key_id
    assert sorted(each.name for each in folder.iterdir()) == ["ann.pem", "ann.pub"]
    (folder / "ann.pem").chmod(0o640)
    with pytest.raises(PermissionDeniedError, match="others can read the private key"):
        keys.signer("ann")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", ".", "a/b", "é ü", "x" * 250, "A", "a%2Fb", "-rf"])
def test_any_name_is_a_file_in_the_folder(folder: Path, name: str) -> None:
    public = keys.make(name)
    assert {each.parent for each in folder.rglob("*")} == {folder}
    assert keys.local_key(name) == public
    assert keys.signer(name).key_id == public.key_id


def test_a_passphrase_is_needed_and_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    keys.make("ann", "secret")
    with pytest.raises(PermissionDeniedError, match="has a passphrase"):
        keys.signer("ann")
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    with pytest.raises(InvalidInputError, match="the passphrase does not open"):
        keys.signer("ann")
    monkeypatch.setenv(keys.PASSPHRASE, "secret")
    assert keys.signer("ann").public == keys.local_key("ann")
    monkeypatch.delenv(keys.PASSPHRASE)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "secret")
    assert keys.signer("ann").public == keys.local_key("ann")


def test_another_file_may_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    public = keys.make("ann")
    (folder / "ann.pem").rename(tmp_path / "pipeline.pem")
    with pytest.raises(PermissionDeniedError, match="there is no key of ann here"):
        keys.signer("ann")
    monkeypatch.setenv(keys.KEY, str(tmp_path / "pipeline.pem"))
    assert keys.signer("ann").key_id == public.key_id
    (tmp_path / "pipeline.pem").write_bytes(b"something else")
    with pytest.raises(InvalidInputError, match="holds no private key"):
        keys.signer("ann")


def test_a_key_of_another_kind_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "x.pem"
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    monkeypatch.setenv(keys.KEY, str(path))
    with pytest.raises(InvalidInputError, match="is not an Ed25519 key"):
        keys.signer("ann")


@pytest.mark.parametrize("line", ["", "ed25519", "ed25519 AAAA ann", "rsa AAAA ann", "ed25519 " + "A" * 43 + "="])
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(InvalidInputError, match="not a public key"):
        PublicKey.parse(line)


def test_where_keys_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert keys.folder({"HEADWATER_KEYS": "/k"}) == Path("/k")
    assert keys.folder({"XDG_CONFIG_HOME": "/x"}) == Path("/x/headwater/keys")
    assert keys.folder({}) == Path.home() / ".config" / "headwater" / "keys"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADWATER_KEYS", str(tmp_path / "file" / "keys"))
    with pytest.raises(LakeError, match="a key can't be written"):
        keys.make("ann")
    with pytest.raises(HeadwaterError, match="file"):
        known_lakes.check("/lake", None)


def test_a_lake_is_known_however_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    root, other = (Root(each, keys.make(each).text, each, "main") for each in ("one", "two"))
    known_lakes.check("lake", root)
    for url in (str(tmp_path / "lake"), "work/../lake", "./lake/", str(tmp_path / "link"), "link"):
        known_lakes.check(url, root)
        with pytest.raises(IntegrityError, match="is signed by the key of two now, another lake's"):
            known_lakes.check(url, other)
    assert list(json.loads(known_lakes.path().read_text())) == [str(tmp_path / "lake")]


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("*", "anything", True),
        ("flight-*", "flight-delay", True),
        ("flight-*", "flight-", True),
        ("flight-*", "a-flight-delay", False),
        ("flight-*", "flights", False),
        ("*-delay", "flight-delay", True),
        ("f*y", "flight-delay", True),
        ("f*y", "flight-delays", False),
        ("flight.delay", "flight-delay", False),
        ("flight-delay", "flight-delay", True),
        ("flight-delay", "flight-delay\n", False),
        ("", "", False),
        ("**", "a", False),
        ("[a]", "a", False),
        ("?", "a", False),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, name: str, does: bool) -> None:
    assert matches(pattern, name) is does


def test_a_pattern_covers_what_it_matches_all_of() -> None:
    assert covers("*", "flight-*")
    assert covers("flight-*", "flight-x*")
    assert covers("flight-*", "flight-*")
    assert not covers("flight-*", "*")
    assert not covers("flight-x*", "flight-*")
    assert not covers("flight-x", "flight-*")
    for pattern in ("flight-*", "*", "*.bin", "a.b", "0"):
        assert check_pattern(pattern) == pattern
    for pattern in (".*", ".", "-a", "_*", "a..b", "*..", "**", "A", ""):
        with pytest.raises(InvalidInputError, match="not a pattern of model names"):
            check_pattern(pattern)
