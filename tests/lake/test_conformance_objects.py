"""Putting, reading, listing and localizing objects: the same on every lake."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import BinaryIO

import pytest

from headwater.errors import ConflictError, HeadwaterError, NotFoundError
from headwater.lake.base import CHUNK, Lake, ObjectInfo

NAMES = [
    "plain",
    "with space",
    " leading and trailing ",
    "100%",
    "%20",
    "%2e%2e",
    "a+b",
    "a?b=c&d",
    "a#b",
    "a:b;c,d",
    "a=b",
    "a\\b",
    "quotes'\"`",
    "(round) [square] {curly} <angle>",
    "*star*",
    "~tilde",
    "$HOME",
    "@{now}",
    "dots...",
    ".hidden",
    "-dash",
    "UPPER",
    "upper",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "Å",
    "ﬁ",
    "ß",
    "İ",
    "日本語",
    "עברית",
    "😀",
    "👩‍👩‍👧‍👦",
    "\u200bzero width",
    "\ue000private",
    "\uffee halfwidth",
    "\U0010fffd last",
    "x" * 200,
    "é" * 120,
    "deep/" * 20 + "leaf",
]


class Stream(io.RawIOBase):
    """A stream that cannot be rewound, and gives its bytes in pieces of odd sizes."""

    def __init__(self, content: bytes, *, fail_at: int | None = None) -> None:
        super().__init__()
        self._content = io.BytesIO(content)
        self._fail_at = fail_at

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._fail_at is not None and self._content.tell() >= self._fail_at:
            raise OSError(5, "the disk went away")
        return self._content.read(min(size, 70_001) if size >= 0 else -1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 65_537, CHUNK, 3 * CHUNK + 17])
@pytest.mark.parametrize("kind", ["bytes", "file", "stream"])
def test_what_is_put_is_read(lake: Lake, tmp_path: Path, size: int, kind: str) -> None:
    content = noise(size)
    source: bytes | BinaryIO = content
    if kind == "file":
        (tmp_path / "source").write_bytes(content)
        source = (tmp_path / "source").open("rb")
    elif kind == "stream":
        source = Stream(content)  # type: ignore[assignment]
    expected = ObjectInfo("folder/object", size, sha256(content))
    assert lake.put("main", "folder/object", source) == expected
    commit = lake.commit("main", "m", {})
    if not isinstance(source, bytes):
        source.close()
    assert lake.stat("main", "folder/object") == expected
    assert lake.stat(commit, "folder/object") == expected
    assert list(lake.list(commit)) == [expected]
    assert lake.read(commit, "folder/object") == content
    with lake.open("main", "folder/object") as stream:
        pieces = [stream.read(0), stream.read(7), stream.read(100_000)]
        assert b"".join([*pieces, stream.read()]) == content
        assert stream.read() == b""
    assert lake.localize("main", ["folder/object"])["folder/object"].read_bytes() == content


def test_a_stream_is_put_from_where_it_stands(lake: Lake) -> None:
    source = io.BytesIO(b"0123456789")
    source.seek(4)
    assert lake.put("main", "a", source) == ObjectInfo("a", 6, sha256(b"456789"))
    lake.commit("main", "m", {})
    assert lake.read("main", "a") == b"456789"


@pytest.mark.parametrize("fail_at", [0, 3 * CHUNK])
def test_a_source_that_breaks_leaves_nothing(lake: Lake, fail_at: int) -> None:
    source = Stream(noise(4 * CHUNK), fail_at=fail_at)
    with pytest.raises((OSError, HeadwaterError), match="the disk went away"):
        lake.put("main", "a", source)  # type: ignore[arg-type]
    with pytest.raises(ConflictError):
        lake.commit("main", "m", {})
    lake.put("main", "b", b"after")
    lake.commit("main", "m", {})
    assert [info.path for info in lake.list("main")] == ["b"]


def test_an_object_is_replaced(lake: Lake) -> None:
    lake.put("main", "a", b"first")
    first = lake.commit("main", "1", {})
    assert lake.localize(first, ["a"])["a"].read_bytes() == b"first"
    lake.put("main", "a", b"second!")
    lake.commit("main", "2", {})
    assert lake.read("main", "a") == b"second!"
    assert lake.stat("main", "a").size == 7
    assert lake.localize("main", ["a"])["a"].read_bytes() == b"second!"
    assert lake.read(first, "a") == b"first"
    assert lake.localize(first, ["a"])["a"].read_bytes() == b"first"


def test_names_are_kept_to_the_letter(lake: Lake) -> None:
    content = {f"names/{name}": name.encode() for name in NAMES}
    for path, body in list(content.items())[::2]:
        lake.put("main", path, body)
    lake.put_many("main", dict(list(content.items())[1::2]))
    commit = lake.commit("main", "m", {})
    listed = list(lake.list(commit))
    assert [info.path for info in listed] == sorted(content, key=lambda path: path.encode())
    assert listed == [ObjectInfo(info.path, len(content[info.path]), sha256(content[info.path])) for info in listed]
    assert lake.read_many(commit, content) == content
    assert {path: local.read_bytes() for path, local in lake.localize(commit, content).items()} == content
    for path, body in content.items():
        assert lake.read(commit, path) == body
        assert lake.stat(commit, path).path == path
        assert path in [info.path for info in lake.list(commit, path)]
    lake.put("main", "names/after", b"")
    for path in content:
        lake.delete("main", path)
    lake.commit("main", "gone", {})
    assert [info.path for info in lake.list("main")] == ["names/after"]
    assert [change.path for change in lake.diff(commit, lake.head("main"))][:1] == ["names/ leading and trailing "]


def test_a_prefix_is_of_the_path_not_of_its_folders(lake: Lake) -> None:
    paths = ["a", "a-b", "a/1", "a/2", "a/b/3", "a0", "b", "ab/1", "é/1"]
    lake.put_many("main", dict.fromkeys(paths, b"x"))
    lake.commit("main", "m", {})
    lake.page_size = 2  # type: ignore[attr-defined]
    for prefix in ["", "a", "a/", "a/b", "a/b/3", "a0", "ab", "c", "é", "é/", "a/1x"]:
        expected = sorted((path for path in paths if path.startswith(prefix)), key=str.encode)
        assert [info.path for info in lake.list("main", prefix)] == expected


def test_a_path_may_be_the_folder_of_another(lake: Lake) -> None:
    lake.put_many("main", {"a": b"1", "a/b": b"2", "a/b/c": b"3"})
    lake.commit("main", "m", {})
    assert lake.read_many("main", ["a", "a/b", "a/b/c"]) == {"a": b"1", "a/b": b"2", "a/b/c": b"3"}
    lake.delete("main", "a/b")
    lake.commit("main", "m2", {})
    assert [info.path for info in lake.list("main")] == ["a", "a/b/c"]


def test_read_many_and_localize_keep_the_order_and_take_a_path_twice(lake: Lake) -> None:
    lake.put_many("main", {f"{i}": b"%d" % i for i in range(30)})
    lake.commit("main", "m", {})
    wanted = [f"{i}" for i in (7, 3, 29, 3, 0)]
    assert list(lake.read_many("main", wanted).items()) == [("7", b"7"), ("3", b"3"), ("29", b"29"), ("0", b"0")]
    assert list(lake.localize("main", iter(wanted))) == ["7", "3", "29", "0"]
    assert lake.read_many("main", []) == lake.localize("main", []) == {}


def test_put_many_stages_nothing_twice_and_fails_whole(lake: Lake) -> None:
    lake.put_many("main", {})
    with pytest.raises(ConflictError):
        lake.commit("main", "m", {})
    lake.put_many("main", {"one": b"1"})
    lake.commit("main", "m", {})
    assert [info.path for info in lake.list("main")] == ["one"]


LOCALIZED = [
    "tables/runs/0f/part-1.parquet",
    "tables/runs/_delta_log/00000000000000000000.json",
    "artifacts/m/model.bin",
]


def test_a_localized_file_is_read_only_and_stays_as_it_was(lake: Lake) -> None:
    lake.put_many("main", {path: path.encode() for path in LOCALIZED})
    commit = lake.commit("main", "m", {})
    files = lake.localize(commit, LOCALIZED)
    for path, file in files.items():
        assert file.read_bytes() == path.encode()
        assert not stat.S_IMODE(file.stat().st_mode) & 0o222
        assert file.suffix in ("", Path(path).suffix)
    lake.put("main", LOCALIZED[1], b"another content of one name")
    lake.commit("main", "m", {})
    assert lake.localize("main", LOCALIZED)[LOCALIZED[1]].read_bytes() == b"another content of one name"
    assert lake.localize(commit, LOCALIZED) == files
    assert files[LOCALIZED[1]].read_bytes() == LOCALIZED[1].encode()


def test_the_cache_may_be_deleted_at_any_time(lake: Lake) -> None:
    lake.put_many("main", {path: path.encode() for path in LOCALIZED})
    commit = lake.commit("main", "m", {})
    for _ in range(2):
        for path, file in lake.localize(commit, LOCALIZED).items():
            assert file.read_bytes() == path.encode()
        shutil.rmtree(lake.cache, ignore_errors=True)


def test_a_listing_of_10_000_objects(lake: Lake) -> None:
    paths = [f"many/{i % 100:02}/{i:05}" for i in range(10_000)]
    lake.put_many("main", {path: b"%d" % i for i, path in enumerate(paths)})
    commit = lake.commit("main", "many", {})
    listed = list(lake.list(commit, "many/"))
    assert [info.path for info in listed] == sorted(paths)
    assert sum(info.size for info in listed) == sum(len(str(i)) for i in range(10_000))
    assert len(list(lake.list(commit, "many/42/"))) == 100
    lake.delete("main", paths[4242])
    lake.put("main", paths[4243], b"new")
    lake.put("main", "many/42/new", b"new")
    after = lake.commit("main", "few", {})
    assert [(change.path, change.kind) for change in lake.diff(commit, after)] == [
        ("many/42/04242", "removed"),
        ("many/42/new", "added"),
        ("many/43/04243", "changed"),
    ]
    with pytest.raises(NotFoundError):
        lake.read(after, paths[4242])


def test_200_mb_are_streamed_in_bounded_memory(lake: Lake) -> None:
    if not sys.platform.startswith("linux"):
        pytest.fail("peak memory is measured with /proc, as only Linux has it")
    script = Path(__file__).with_name("stream_big_object.py")
    done = subprocess.run([sys.executable, str(script), lake.url, "200"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["put"] == told["read"] == told["localized"] == told["expected"]
    assert told["grown_mb"] < 40, told


def test_many_objects_are_deleted_and_come_back_as_they_were(lake: Lake) -> None:
    bodies = {f"d/{number % 10}/{number}": f"body {number}".encode() for number in range(30)}
    bodies["d/large"] = bytes(range(256)) * 2000
    lake.put_many("main", bodies)
    first = lake.commit("main", "put", {})
    lake.delete_many("main", [*bodies, "d/was-never-there"])
    second = lake.commit("main", "delete", {})
    assert list(lake.list(second, "d/")) == []
    some = [path for path in bodies if not path.endswith("3")]
    lake.restore("main", first, some)
    third = lake.commit("main", "restore", {})
    assert [info.path for info in lake.list(third)] == sorted(some)
    assert lake.read_many(third, some) == {path: bodies[path] for path in some}
    assert lake.stat(third, "d/large").sha256 == lake.stat(first, "d/large").sha256
    with pytest.raises(NotFoundError):
        lake.restore("main", third, ["d/3/3"])


def test_deleting_nothing_and_restoring_nothing_stage_nothing(lake: Lake) -> None:
    lake.delete_many("main", [])
    lake.restore("main", lake.head("main"), [])
    with pytest.raises(ConflictError):
        lake.commit("main", "nothing", {})
