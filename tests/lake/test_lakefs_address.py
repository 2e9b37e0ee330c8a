"""URLs of lakeFS repositories, and where the keys come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.errors import InvalidInputError, LakeError
from headwater.lake.lakefs_address import Address, Credentials, load_credentials

ACCESS = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID"
SECRET = "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"


@pytest.mark.parametrize(
    ("url", "shown", "endpoint"),
    [
        ("lakefs://127.0.0.1:8000/models", "lakefs://127.0.0.1:8000/models", "http://127.0.0.1:8000"),
        ("lakefs://lake.example.com/models", "lakefs://lake.example.com:8000/models", "http://lake.example.com:8000"),
        ("lakefss://lake.example.com/models", "lakefss://lake.example.com:443/models", "https://lake.example.com:443"),
        (
            "lakefss://lake.example.com:8443/a-b-1/",
            "lakefss://lake.example.com:8443/a-b-1",
            "https://lake.example.com:8443",
        ),
        ("LAKEFS://Lake.Example.com:80/models", "lakefs://lake.example.com:80/models", "http://lake.example.com:80"),
        ("lakefs://[::1]:8000/models", "lakefs://[::1]:8000/models", "http://[::1]:8000"),
        ("lakefs://lakefs_dev:8000/models", "lakefs://lakefs_dev:8000/models", "http://lakefs_dev:8000"),
    ],
)
def test_a_url_is_read_and_written_again(url: str, shown: str, endpoint: str) -> None:
    address = Address.parse(url)
    assert str(address) == shown
    assert address.endpoint == endpoint
    assert Address.parse(shown) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/x", "does not begin with lakefs:// or lakefss://"),
        ("http://127.0.0.1:8000/models", "does not begin with lakefs://"),
        ("lakefs:/host/models", "does not begin with lakefs://"),
        ("models", "does not begin with lakefs://"),
        ("", "does not begin with lakefs://"),
        ("lakefs://", "names no host"),
        ("lakefs:///models", "names no host"),
        ("lakefs://:8000/models", "names no host"),
        ("lakefs://ho st:8000/models", "names no host, or one that is not well formed"),
        ("lakefs://host_:8000/models", "not well formed"),
        ("lakefs://-host/models", "not well formed"),
        ("lakefs://host:port/models", "the host or the port .* not well formed"),
        ("lakefs://host:99999/models", "the host or the port .* not well formed"),
        ("lakefs://host:0/models", "port 0"),
        ("lakefs://[::1/models", "the host or the port .* not well formed"),
        ("lakefs://host", "names no repository"),
        ("lakefs://host:8000/", "names no repository"),
        ("lakefs://host/models/main", "more than a repository"),
        ("lakefs://host/models/main/path", "more than a repository"),
        ("lakefs://host/models?branch=main", "something after the repository"),
        ("lakefs://host/models?", "something after the repository"),
        ("lakefs://host/models#main", "something after the repository"),
        ("lakefs://host/ml", "no name of a lakeFS repository"),
        ("lakefs://host/Models", "no name of a lakeFS repository"),
        ("lakefs://host/-models", "no name of a lakeFS repository"),
        ("lakefs://host/mo_dels", "no name of a lakeFS repository"),
        ("lakefs://host/" + "m" * 64, "no name of a lakeFS repository"),
        ("lakefs://host/mod%65ls%00", "no name of a lakeFS repository"),
    ],
)
def test_an_error_names_the_part_that_is_wrong(url: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        Address.parse(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "lakefs://AKIA:hunter2@host:8000/models",
        "lakefs://hunter2@host/models",
        "lakefs://AKIA:hun/ter2@host/models",
        "lakefs://AKIA:hunter2@host/models?x",
        "lakefs://AKIA:hunter2@/models",
        "http://AKIA:hunter2@host/models",
    ],
)
def test_keys_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Address.parse(url)
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert "ter2" not in caught.value.message


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    found = load_credentials({ACCESS: "AKIA", SECRET: "hidden"}, tmp_path)
    assert found == Credentials("AKIA", "hidden")
    assert "hidden" not in repr(found)


def test_keys_come_from_lakectls_file(tmp_path: Path) -> None:
    (tmp_path / ".lakectl.yaml").write_text(
        "credentials:\n  access_key_id: AKIA\n  secret_access_key: hidden\nserver:\n  endpoint_url: http://x\n"
    )
    assert load_credentials({}, tmp_path) == Credentials("AKIA", "hidden")
    assert load_credentials({ACCESS: "OTHER", SECRET: "other"}, tmp_path) == Credentials("OTHER", "other")
    assert load_credentials({ACCESS: "", SECRET: "other"}, tmp_path) == Credentials("AKIA", "other")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there are no lakeFS keys"),
        ("", "there are no lakeFS keys"),
        ("[]", "there are no lakeFS keys"),
        ("credentials: nothing", "there are no lakeFS keys"),
        ("credentials: {access_key_id: null}", "there are no lakeFS keys"),
        ("credentials: {access_key_id: AKIA}", "there are no lakeFS secret access key"),
        ("credentials: {secret_access_key: hidden}", "there are no lakeFS access key ID"),
        ("credentials: [hidden", "cannot be read as YAML"),
        ("credentials: !!python/object:os.system hidden", "cannot be read as YAML"),
        ("\x00hidden", "cannot be read as YAML"),
    ],
)
def test_keys_that_are_missing(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / ".lakectl.yaml").write_text(content)
    with pytest.raises(LakeError, match=words) as caught:
        load_credentials({}, tmp_path)
    assert caught.value.hint
    assert "hidden" not in caught.value.message + caught.value.hint


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".lakectl.yaml").mkdir()
    with pytest.raises(LakeError, match=r"lakectl\.yaml cannot be read"):
        load_credentials({}, tmp_path)
    (tmp_path / ".lakectl.yaml").rmdir()
    (tmp_path / ".lakectl.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(LakeError, match=r"lakectl\.yaml cannot be read"):
        load_credentials({}, tmp_path)
