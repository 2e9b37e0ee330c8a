"""What bad input gets: one sentence, the right kind of error, and nothing written, on both lakes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater import names
from headwater.errors import HeadwaterError, InvalidInputError, NotFoundError
from headwater.registry import Registry


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"model")
    return path


@pytest.fixture
def with_model(registry: Registry, artifact: Path) -> Registry:
    registry.register("m", artifact)
    return registry


def refused(registry: Registry, kind: type[HeadwaterError], call: Callable[[], object]) -> HeadwaterError:
    """Check that a call is refused in one sentence and writes nothing; return the error."""
    before = registry.head
    with pytest.raises(kind) as caught:
        call()
    assert registry.head == before
    error = caught.value
    for text in (error.message, error.hint):
        assert "\n" not in text
        assert text.isprintable()
    assert error.message
    return error


BAD_NAMES = [
    "",
    "x" * 129,
    "../../etc/passwd",
    "a/b",
    "a..b",
    "..",
    ".hidden",
    "a b",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "a\u202eb",
    "a\u200bb",
    "M",
    "\uff4d",
    "m\u0301",
    "a@b",
    'a"b',
    "-a",
    "a\\b",
    "a;drop",
    "名",
]


def test_a_name_that_cannot_be_is_refused(with_model: Registry, artifact: Path) -> None:
    for name in BAD_NAMES:
        refused(with_model, InvalidInputError, lambda name=name: with_model.register(name, artifact))  # type: ignore[misc]
        refused(with_model, InvalidInputError, lambda name=name: with_model.rename("m", name))  # type: ignore[misc]
    assert [model.name for model in with_model.models()] == ["m"]


def test_a_name_that_differs_in_case_or_form_only_is_told_so(with_model: Registry, artifact: Path) -> None:
    for name in ("M", "\uff4d"):
        error = refused(with_model, InvalidInputError, lambda name=name: with_model.register(name, artifact))  # type: ignore[misc]
        assert "did you mean 'm'" in error.hint


def test_an_alias_that_could_be_a_version_is_refused(with_model: Registry) -> None:
    for alias in [
        "latest",
        "7",
        "v7",
        "1.0.0",
        "v1.0",
        "1.0.0-rc1",
        "",
        "A",
        "a/b",
        "a b",
        "../x",
        "x" * 129,
        "a\u202eb",
    ]:
        refused(with_model, InvalidInputError, lambda alias=alias: with_model.set_alias("m", alias, 1))  # type: ignore[misc]
    assert with_model.aliases("m") == []


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "٣", "1" * 30, "", " 1", "+1", "1e3", "0x1", "01"])
def test_a_version_is_a_whole_number_from_one(version: str) -> None:
    with pytest.raises(InvalidInputError, match="not a version"):
        names.parse_model(f"m/{version}")


def test_what_is_not_there_is_named(with_model: Registry, tmp_path: Path, artifact: Path) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("nothing", lambda: with_model.versions("nothing")),
        ("nothing", lambda: with_model.get("nothing/1")),
        ("m/2", lambda: with_model.get("m/2")),
        ("m/2", lambda: with_model.set_alias("m", "champion", 2)),
        ("champion", lambda: with_model.resolve("m@champion")),
        ("nothing", lambda: with_model.at("nothing")),
        ("nothing", lambda: with_model.branch("nothing")),
        ("nothing", lambda: with_model.register("m", tmp_path / "nothing")),
        ("nothing", lambda: with_model.register("m", artifact, data=["nothing"])),
        ("nothing", lambda: with_model.register("m", artifact, base="nothing/1")),
        ("nothing", lambda: with_model.rename("nothing", "other")),
        ("nothing", lambda: with_model.delete("nothing")),
        ("nothing", lambda: with_model.tag("nothing", {"a": "b"})),
        ("nothing", lambda: with_model.log("nothing")),
        ("nothing", lambda: with_model.dataset("nothing")),
    ]
    for named, call in calls:
        assert named in refused(with_model, NotFoundError, call).message
    assert "did you mean m?" in refused(with_model, NotFoundError, lambda: with_model.versions("mm")).hint


def test_a_reference_of_the_wrong_kind_is_refused(with_model: Registry, artifact: Path, tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: with_model.get("m"),
        lambda: with_model.versions("m/1"),
        lambda: with_model.register("m/2", artifact),
        lambda: with_model.register("m@champion", artifact),
        lambda: with_model.pull("m", tmp_path / "out"),
        lambda: with_model.get("m@latest"),
        lambda: with_model.get("m@"),
        lambda: with_model.get("m/1/2"),
        lambda: with_model.get('"m'),
        lambda: with_model.set_alias("m", "champion", True),
        lambda: with_model.set_alias("m", "champion", "1"),  # type: ignore[arg-type]
        lambda: with_model.register("m"),
        lambda: with_model.register("m", artifact, external=("https://example.org/a", "0" * 64)),
        lambda: with_model.create_branch("deadbeef"),
        lambda: with_model.create_branch("a/b"),
        lambda: with_model.create_branch("_hw_mine"),
        lambda: with_model.create_branch(""),
    ]
    for call in calls:
        refused(with_model, InvalidInputError, call)


def test_values_that_cannot_be_kept_are_refused(with_model: Registry, artifact: Path) -> None:
    register = with_model.register
    calls: list[Callable[[], Any]] = [
        lambda: register("m", artifact, metrics={"": 1}),
        lambda: register("m", artifact, metrics={"a\nb": 1}),
        lambda: register("m", artifact, metrics={"auc": "high"}),  # type: ignore[dict-item]
        lambda: register("m", artifact, metrics={"auc": None}),  # type: ignore[dict-item]
        lambda: register("m", artifact, metrics={"auc": True}),
        lambda: register("m", artifact, params={"k" * 251: 1}),
        lambda: register("m", artifact, params={"a": "\0"}),
        lambda: register("m", artifact, tags={"a": "\ud800"}),
        lambda: register("m", artifact, description="x" * (1 << 21)),
        lambda: register("m", artifact, slices=[("auc", {"a": 1}, 0.5), ("auc", {"a": 1}, 0.6)]),
        lambda: with_model.tag("m", {}),
        lambda: with_model.describe("m", "\0"),
    ]
    for call in calls:
        refused(with_model, InvalidInputError, call)


# -- artifacts that are refused ---------------------------------------------------------------------------------------
def test_an_empty_folder_is_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    assert (
        "no files" in refused(registry, InvalidInputError, lambda: registry.register("m", tmp_path / "empty")).message
    )
    assert registry.models() == []


@pytest.mark.parametrize("what", ["link", "dangling", "folder link", "fifo", "socket", "control", "surrogate"])
def test_links_devices_and_unkeepable_names_are_refused(registry: Registry, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "real.bin").write_bytes(b"real")
    odd = folder / "odd"
    if what == "link":
        odd.symlink_to(folder / "real.bin")
    elif what == "dangling":
        odd.symlink_to("/nowhere")
    elif what == "folder link":
        odd.symlink_to("/etc", target_is_directory=True)
    elif what == "fifo":
        os.mkfifo(odd)
    elif what == "socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(str(odd))
        held.close()
    else:
        name = b"a\nb" if what == "control" else b"a\xff"
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(b"")
    refused(registry, InvalidInputError, lambda: registry.register("m", folder))
    if what in ("link", "fifo", "socket"):
        refused(registry, InvalidInputError, lambda: registry.register("m", odd))


def test_a_file_that_changes_while_it_is_read_is_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = tmp_path / "model.bin"
    changing.write_bytes(b"0" * 5_000_000)
    put = type(registry._context.lake).put

    def put_and_change(lake: Any, branch: str, path: str, source: Any) -> Any:
        info = put(lake, branch, path, source)
        with changing.open("ab") as more:
            more.write(b"1")
        return info

    monkeypatch.setattr(type(registry._context.lake), "put", put_and_change)
    error = refused(registry, InvalidInputError, lambda: registry.register("m", changing))
    assert "changed while it was read" in error.message


def test_a_file_that_is_exchanged_for_a_link_is_not_followed(registry: Registry, tmp_path: Path) -> None:
    from headwater import artifacts

    path = tmp_path / "model.bin"
    path.write_bytes(b"model")
    found, _ = artifacts.scan(path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(InvalidInputError, match="can't be read"):
        artifacts.upload(found, "artifacts/x/", lambda path, source: pytest.fail("uploaded"))


def test_a_version_of_a_hostile_table_does_not_write_outside_its_folder(tmp_path: Path) -> None:
    import io

    from headwater import artifacts
    from headwater.errors import IntegrityError
    from headwater.model import ArtifactFile

    for name in ("../evil", "/etc/evil", "a/../../evil", "", "a//b", "./a"):
        wanted = artifacts.Wanted("m/1", [ArtifactFile(name, 0, "e3b0c442" * 8)], lambda path: io.BytesIO(b""))
        with pytest.raises(IntegrityError, match="leads out"):
            artifacts.write(wanted, tmp_path / "out", force=True, known=list)
    assert list(tmp_path.iterdir()) == []


# -- threads ----------------------------------------------------------------------------------------------------------
def test_one_registry_is_shared_between_threads(registry: Registry, artifact: Path, is_remote: bool) -> None:
    errors: list[BaseException] = []
    each = 2 if is_remote else 10

    def work(number: int) -> None:
        try:
            for _ in range(each):
                version = registry.register("m", artifact, tags={"thread": str(number)})
                assert registry.get(f"m/{version.version}").tags == {"thread": str(number)}
                registry.set_alias("m", f"t{number}", version.version)
                assert registry.resolve(f"m@t{number}").version == version.version
                assert registry.sql("SELECT count(*) FROM model_versions").fetchall()[0][0] >= 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [version.version for version in registry.versions("m")] == list(range(6 * each, 0, -1))


# -- names as a grammar -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["m", "m/7", "m@champion", '"Weird name"/7', '"a/b@c"@x', '"Weird"'])
def test_a_reference_that_is_parsed_is_written_the_same(text: str) -> None:
    assert str(names.parse_model(text)) == text
    assert names.parse_model(f"models:/{text}") == names.parse_model(f"model:{text}") == names.parse_model(text)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("auc[origin=JFK]=0.78", ("auc", {"origin": "JFK"}, 0.78)),
        (r"auc[a\=b=c\,d,e=]=-1e3", ("auc", {"a=b": "c,d", "e": ""}, -1000.0)),
    ],
)
def test_a_slice_is_parsed(text: str, parsed: object) -> None:
    assert names.parse_slice(text) == parsed


@pytest.mark.parametrize(
    "text", ["auc=1", "auc[]=1", "auc[a]=1", "auc[a=b]", "auc[a=b]=x", "auc[a=b,a=c]=1", "[a=b]=1"]
)
def test_a_slice_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        names.parse_slice(text)


def test_a_folder_that_holds_the_lake_is_not_registered(tmp_path: Path) -> None:
    lake = tmp_path / "project" / "lake"
    registry = headwater.create(str(lake))
    (lake.parent / "model.bin").write_bytes(b"model")
    for path in (lake.parent, lake, lake / "objects"):
        refused(registry, InvalidInputError, lambda path=path: registry.register("m", path))  # type: ignore[misc]
    assert registry.register("m", lake.parent / "model.bin").version == 1
    registry.close()


def test_code_that_is_not_there_is_refused(registry: Registry, artifact: Path, tmp_path: Path) -> None:
    refused(registry, NotFoundError, lambda: registry.register("m", artifact, code=tmp_path / "nothing"))
