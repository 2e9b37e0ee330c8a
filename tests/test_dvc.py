"""Metafiles of the real DVC: what is imported, from where, with which origin, and what is refused; on both lakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import pygit2
import pytest
from tests.command_line import CommandLine

from headwater import dvc
from headwater.errors import HeadwaterError, IntegrityError, InvalidInputError, NotFoundError
from headwater.registry import Registry

ROWS = "id,origin\r\n1,JFK\r\n2,LGA\r\n"
IMAGES = {"a.png": b"\x89PNG 1", "deep/b.png": b"\x89PNG 2", "notes é.txt": b"one\r\ntwo\r\n"}
Run = Callable[..., str]


def _run_dvc(folder: Path, *arguments: str) -> str:
    places = {
        name: str(folder.parent / "dvc-home")
        for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
    }
    ran = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**os.environ, **places, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def commit(repository: pygit2.Repository) -> str:
    author = pygit2.Signature("Tester", "tester@example.com")
    repository.index.add_all()
    repository.index.write()
    parents = [] if repository.head_is_unborn else [repository.head.target]
    return str(repository.create_commit("HEAD", author, author, "x", repository.index.write_tree(), parents))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git and DVC repository with a file and a folder that DVC tracks and has pushed, and a second remote."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    folder.mkdir()
    repository = pygit2.init_repository(str(folder))
    repository.remotes.create("origin", "https://somebody:secret@example.com/team/flights.git")
    _run_dvc(folder, "init", "-q")
    _run_dvc(folder, "config", "core.analytics", "false")
    (folder / "raw").mkdir()
    (folder / "raw" / "Flights.csv").write_bytes(ROWS.encode())
    for name, body in IMAGES.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(body)
    _run_dvc(folder, "add", "-q", "raw/Flights.csv", "images")
    _run_dvc(folder, "remote", "add", "-q", "-d", "store", "../store")
    _run_dvc(folder, "push", "-q")
    commit(repository)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A copy of the template, with its remote, for a test of its own."""
    shutil.copytree(template.parent, tmp_path / "dvc")
    return tmp_path / "dvc" / "project"


@pytest.fixture
def cli(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    return CommandLine()


def lose(project: Path, *, workspace: bool = True, cache: bool = False, remote: bool = False) -> None:
    if workspace:
        shutil.rmtree(project / "images")
        (project / "raw" / "Flights.csv").unlink()
    if cache:
        shutil.rmtree(project / ".dvc" / "cache")
    if remote:
        shutil.rmtree(project.parent / "store")


def refused(kind: type[HeadwaterError], path: Path, **options: Any) -> HeadwaterError:
    with pytest.raises(kind) as caught:
        dvc.read(path, **options)
    for text in (caught.value.message, caught.value.hint):
        assert text
        assert text.isprintable()
        assert "secret" not in text
    return caught.value


# -- what is imported -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lost", [{}, {"workspace": True}, {"workspace": True, "cache": True}], ids=str)
def test_a_file_and_a_folder_are_imported_from_wherever_they_are(
    registry: Registry, project: Path, tmp_path: Path, lost: dict[str, bool]
) -> None:
    if lost:
        lose(project, **lost)
    flights = registry.import_dvc(project / "raw" / "Flights.csv.dvc", key=["id"])
    assert (flights.reference, flights.created, flights.rows, flights.key) == ("flights@1.0.0", True, 2, ("id",))
    assert flights.origin == {
        "kind": "dvc",
        "file": "raw/Flights.csv.dvc",
        "path": "raw/Flights.csv",
        "md5": md5(ROWS.encode()).hexdigest(),
        "hash": "md5",
        "repository": "https://example.com/team/flights.git",
        "commit": str(pygit2.Repository(str(project)).head.target),
        "dirty": False,
    }
    assert flights.pull(tmp_path / "out").joinpath("Flights.csv").read_bytes() == ROWS.encode()
    images = registry.import_dvc(project / "images.dvc", "pictures", description="of airports")
    assert (images.reference, images.rows, images.description) == ("pictures@1.0.0", None, "of airports")
    assert images.origin is not None
    assert images.origin["md5"].endswith(".dir")
    pulled = images.pull(tmp_path / "images")
    assert {p.relative_to(pulled).as_posix(): p.read_bytes() for p in pulled.rglob("*") if p.is_file()} == IMAGES
    assert registry.dataset("flights").origin == flights.origin
    assert registry.verify() == 2


def test_importing_again_makes_a_version_only_of_what_changed(registry: Registry, project: Path) -> None:
    metafile = project / "raw" / "Flights.csv.dvc"
    first = registry.import_dvc(metafile)
    assert not registry.import_dvc(metafile).created
    (project / "raw" / "Flights.csv").write_text(ROWS + "3,EWR\r\n")
    _run_dvc(project, "add", "-q", "raw/Flights.csv")
    second = registry.import_dvc(metafile, derived_from=["flights@1.0.0"])
    assert (second.semver, second.added, second.base_dataset_id) == ("1.1.0", 1, first.dataset_id)
    assert second.derived_from == ("flights@1.0.0",)
    assert second.origin is not None
    # the metafile is not what is committed
    assert (second.origin["commit"], second.origin["dirty"]) == (first.origin["commit"] if first.origin else "", True)


def test_the_command_imports_and_shows_where_it_came_from(cli: CommandLine, project: Path) -> None:
    metafile = project / "raw" / "Flights.csv.dvc"
    assert cli.out("data", "import-dvc", metafile).splitlines()[0] == "flights@1.0.0"
    text = cli.out("data", "show", "flights")
    assert "DVC's raw/Flights.csv.dvc (MD5 " in text
    assert "https://example.com/team/flights.git at " in text
    found = cli.json("data", "import-dvc", metafile, "--name", "other", "--key", "id", "--from", "flights")
    assert (found["name"], found["origin"]["path"], found["derived_from"]) == (
        "other", "raw/Flights.csv", ["flights@1.0.0"],
    )  # fmt: skip
    (project / "raw" / "Flights.csv").write_text("id,origin\n1,XXX\n")
    assert cli.error("data", "import-dvc", metafile, status=5)[0] == "IntegrityError"
    assert [each["name"] for each in cli.json("data", "list")] == ["flights", "other"]


# -- where bytes lie --------------------------------------------------------------------------------------------------
def test_links_of_the_workspace_into_the_cache_are_as_good_as_copies(project: Path) -> None:
    _run_dvc(project, "config", "cache.type", "symlink")
    lose(project)
    _run_dvc(project, "checkout", "-q")
    assert (project / "raw" / "Flights.csv").is_symlink()
    (file,) = dvc.read(project / "raw" / "Flights.csv.dvc").files
    assert (file.name, file.path.is_symlink(), file.path.read_bytes()) == ("Flights.csv", False, ROWS.encode())
    assert [file.name for file in dvc.read(project / "images.dvc").files] == sorted(IMAGES)


@pytest.mark.parametrize("local", [False, True])
def test_the_cache_may_be_elsewhere(project: Path, local: bool) -> None:
    _run_dvc(project, "cache", "dir", *(["--local"] if local else []), "../my cache")
    shutil.move(project / ".dvc" / "cache", project.parent / "my cache")
    lose(project, remote=True)
    assert dvc.read(project / "images.dvc").files[0].path.is_relative_to(project.parent / "my cache")


def test_a_remote_may_be_a_file_url_and_the_local_config_stands_over_the_other(project: Path) -> None:
    lose(project, cache=True)
    store = project.parent / "store"
    moved = store.rename(project.parent / "moved # 2")
    refused(NotFoundError, project / "images.dvc")
    _run_dvc(project, "remote", "add", "--local", "second", moved.as_uri())
    _run_dvc(project, "config", "--local", "core.remote", "second")
    assert dvc.read(project / "images.dvc").files[0].path.is_relative_to(moved)


def test_the_remote_that_the_metafile_names_is_the_one(project: Path) -> None:
    lose(project, cache=True)
    (project.parent / "store").rename(project.parent / "second")
    _run_dvc(project, "remote", "add", "second", "../second")
    metafile = project / "raw" / "Flights.csv.dvc"
    refused(NotFoundError, metafile)
    metafile.write_text(metafile.read_text() + "  remote: second\n")
    assert dvc.read(metafile).files[0].path.is_relative_to(project.parent / "second")


def test_what_dvc_2_wrote_is_read(registry: Registry, project: Path) -> None:
    """Text was hashed as if its lines ended in a line feed, and objects lay one level higher; DVC 3 still takes it."""
    shutil.rmtree(project / ".dvc" / "cache")
    bodies = {name: body.replace(b"\r\n", b"\n") if name.endswith("txt") else body for name, body in IMAGES.items()}
    entries = [{"md5": md5(body).hexdigest(), "relpath": name} for name, body in sorted(bodies.items())]
    listing = json.dumps(entries, sort_keys=True).encode()
    text = md5(ROWS.encode().replace(b"\r\n", b"\n")).hexdigest()
    folder = f"{md5(listing).hexdigest()}.dir"
    objects = {folder: listing, text: ROWS.encode()} | {entry["md5"]: IMAGES[entry["relpath"]] for entry in entries}
    for digest, body in objects.items():
        place = project / ".dvc" / "cache" / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
    (project / "raw" / "Flights.csv.dvc").write_text(f"outs:\n- md5: {text}\n  size: 29\n  path: Flights.csv\n")
    (project / "images.dvc").write_text(f"outs:\n- md5: {folder}\n  size: 9\n  nfiles: 3\n  path: images\n")
    for there in (True, False):
        if not there:
            lose(project)
        found = dvc.read(project / "raw" / "Flights.csv.dvc")
        assert (found.origin["md5"], found.origin["hash"]) == (text, "md5-dos2unix")
        assert found.files[0].path.read_bytes() == ROWS.encode()
        assert [file.name for file in dvc.read(project / "images.dvc").files] == sorted(IMAGES)
    _run_dvc(project, "checkout", "-q")
    assert (project / "images" / "deep" / "b.png").read_bytes() == IMAGES["deep/b.png"]
    assert registry.import_dvc(project / "images.dvc").bytes == sum(map(len, IMAGES.values()))


@pytest.mark.parametrize(
    "body", [b"", b"a\r\nb\r\n", b"\0a\r\n", b"\xff\xfe\r\n" * 9, b"x\r\n" * 700_000, b"x" * (2**20 - 1) + b"\r\n"]
)
def test_the_hash_of_dvc_2_is_the_one_that_dvc_computes(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "f").write_bytes(body)
    code = "import sys; from dvc_data.hashfile.hash import file_md5; print(file_md5(sys.argv[1], name='md5-dos2unix'))"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "f"], capture_output=True, text=True, check=True)
    digest = ran.stdout.strip()
    (tmp_path / "f.dvc").write_text(f"outs:\n- md5: {digest}\n  path: f\n")
    assert dvc.read(tmp_path / "f.dvc").origin["md5"] == digest
    (tmp_path / "f").write_bytes(body + b"!")
    refused(IntegrityError, tmp_path / "f.dvc")


def test_a_folder_whose_list_is_lost_is_read_where_its_files_make_it_again(project: Path) -> None:
    lose(project, workspace=False, cache=True, remote=True)
    assert [file.name for file in dvc.read(project / "images.dvc").files] == sorted(IMAGES)
    (project / "images" / "new.png").write_bytes(b"new")
    assert "are not those of the .dvc file" in refused(IntegrityError, project / "images.dvc").message


def test_files_that_dvc_does_not_track_are_left_out(project: Path) -> None:
    (project / "images" / "untracked.tmp").write_bytes(b"new")
    assert [file.name for file in dvc.read(project / "images.dvc").files] == sorted(IMAGES)


def test_without_git_there_is_no_commit_and_without_dvc_only_a_workspace(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / ".git")
    origin = dvc.read(project / "images.dvc").origin
    assert [origin[name] for name in ("file", "path", "repository", "commit", "dirty")] == [
        "images.dvc", "images", None, None, None,
    ]  # fmt: skip
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "x.v1.csv.gz").write_bytes(b"1")
    (lone / "x.v1.csv.gz.dvc").write_text(
        f"outs:\n- md5: {md5(b'1').hexdigest()}\n  hash: md5\n  path: x.v1.csv.gz\n  desc: some text\n"
    )
    found = dvc.read(lone / "x.v1.csv.gz.dvc")
    assert (found.name, found.description, found.single) == ("x.v1", "some text", True)


def test_of_several_paths_one_has_to_be_named(project: Path) -> None:
    metafile = project / "both.dvc"
    outs = [(project / name).read_text().partition("\n")[2] for name in ("raw/Flights.csv.dvc", "images.dvc")]
    metafile.write_text("outs:\n" + outs[0].replace("path: ", "path: raw/") + outs[1])
    error = refused(InvalidInputError, metafile)
    assert (error.message, error.hint) == (
        "the metafile lists 2 paths: 'raw/Flights.csv', 'images'",
        "name one with --out",
    )
    assert "does not list 'zebra'" in refused(NotFoundError, metafile, out="zebra").message
    assert dvc.read(metafile, out="images").name == "images"
    assert dvc.read(metafile, out="raw/Flights.csv").files[0].name == "Flights.csv"


def test_a_metafile_may_count_paths_from_another_folder(project: Path) -> None:
    text = (project / "raw" / "Flights.csv.dvc").read_text()
    (project / "moved.dvc").write_text(text + "wdir: raw\n")
    assert dvc.read(project / "moved.dvc").origin["path"] == "raw/Flights.csv"
    (project / "moved.dvc").write_text(text + "wdir: ../..\n")
    refused(InvalidInputError, project / "moved.dvc")


# -- what is refused --------------------------------------------------------------------------------------------------
def test_another_md5_is_told_wherever_the_bytes_are(project: Path) -> None:
    metafile = project / "raw" / "Flights.csv.dvc"
    for place, hint in (
        (project / "raw" / "Flights.csv", "`dvc checkout` brings back"),
        (next((project / ".dvc" / "cache").rglob(md5(ROWS.encode()).hexdigest()[2:])), "delete it"),
        (next((project.parent / "store").rglob(md5(ROWS.encode()).hexdigest()[2:])), "delete it"),
    ):
        place.chmod(0o644)
        place.write_text("id,origin\n")
        error = refused(IntegrityError, metafile)
        assert "has the MD5" in error.message
        assert hint in error.hint
        place.unlink()
    error = refused(NotFoundError, metafile)
    assert error.message.endswith("is missing from the workspace, the cache and the remote")
    assert error.hint == "`dvc pull` fetches it"


def test_a_file_of_a_folder_that_was_changed_is_named(project: Path) -> None:
    (project / "images" / "deep" / "b.png").write_bytes(b"changed")
    assert "'deep/b.png' has the MD5" in refused(IntegrityError, project / "images.dvc").message
    (project / "images" / "deep" / "b.png").unlink()
    assert len(dvc.read(project / "images.dvc").files) == 3
    for place in project.parent.rglob(md5(IMAGES["deep/b.png"]).hexdigest()[2:]):
        place.unlink()
    assert "'deep/b.png' (MD5 " in refused(NotFoundError, project / "images.dvc").message


def test_a_changed_list_of_files_is_told(project: Path) -> None:
    (listing,) = (project / ".dvc" / "cache").rglob("*.dir")
    listing.chmod(0o644)
    listing.write_text(listing.read_text().replace("a.png", "c.png"))
    assert "the list of files of 'images' has the MD5" in refused(IntegrityError, project / "images.dvc").message


def test_a_remote_that_is_no_folder_is_not_asked(project: Path) -> None:
    lose(project, cache=True)
    _run_dvc(project, "remote", "modify", "store", "url", "s3://secret-bucket/x")
    error = refused(NotFoundError, project / "images.dvc")
    assert error.message.endswith("is missing from the workspace and the cache")


A = "0cc175b9c0f1b6a831c399e269772661"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list `outs`"),
        ("- 1", "no list `outs`"),
        ("outs: 5", "no list `outs`"),
        ("outs: []", "has no path"),
        ("outs: [5]", "has no path"),
        ("outs:\n- md5: x", "has no path"),
        ("outs: [{path: [a]}]", "has no path"),
        ("outs: {a: [}", "is no YAML (line 1)"),
        ("outs:\n- path: a\n  md5: \x07", "is no YAML"),
        ("[" * 3000, "is no YAML"),
        (f"wdir: [x]\nouts: [{{path: a, md5: {A}}}]", "`wdir` is no path"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nouts: *b", "has a YAML alias"),
        ("a: &a {x: y}\nouts: [{<<: *a, path: a}]", "has a YAML alias"),
        ("outs: [{path: a}]", "'a' has no MD5"),
        ("outs: [{path: a, md5: zebra}]", "'a' has 'zebra' for an MD5"),
        (f"outs: [{{path: a, md5: ../../../{A}}}]", "for an MD5"),
        (f"outs: [{{path: a, md5: {A.upper()}}}]", "for an MD5"),
        (f"outs: [{{path: a, md5: {A}, hash: sha3}}]", "a hash of the kind 'sha3'"),
        (f"outs: [{{path: ../a, md5: {A}}}]", "'../a' lies outside of the repository"),
        (f"outs: [{{path: x/../../a, md5: {A}}}]", "lies outside of the repository"),
        (f"outs: [{{path: .., md5: {A}}}]", "lies outside of the repository"),
        (f"outs: [{{path: ., md5: {A}.dir}}]", "lies outside of the repository"),
        (f"outs: [{{path: /etc/passwd, md5: {A}}}]", "'/etc/passwd' lies outside of the repository"),
        (f"outs: [{{path: s3://bucket/a, md5: {A}}}]", "is not in the workspace"),
        ('outs: [{path: "a\\0b", md5: ' + A + "}]", "lies outside"),
        ("outs: [{path: d, files: 5}]", "is no list"),
        ("outs: [{path: d, files: [{relpath: a}]}]", "has no path or no MD5"),
        ("outs: [{path: d, files: []}]", "has no files in it"),
    ]
    + [
        (f'outs: [{{path: d, files: [{{relpath: "{name}", md5: {A}}}]}}]', "leads out of it")
        for name in ("../a", "/a", "a/../../b", "a//b", "", ".", "a\\0b")
    ],
)
def test_a_hostile_metafile_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "a").write_text("a")
    path = tmp_path / "x.dvc"
    path.write_text(text)
    assert message in refused(InvalidInputError, path).message


def test_a_link_out_of_the_repository_is_not_followed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("a")
    (project / "inside").symlink_to(tmp_path / "outside")
    (project / "x.dvc").write_text(f"outs: [{{path: inside/a, md5: {A}, hash: md5}}]")
    assert "lies outside" in refused(InvalidInputError, project / "x.dvc").message
    (project / "x.dvc").write_text(f"outs: [{{path: link, md5: {A}, hash: md5}}]")
    (project / "link").symlink_to(tmp_path / "outside" / "a")
    refused(NotFoundError, project / "x.dvc")


def test_a_list_of_files_that_leads_out_of_the_folder_is_refused(project: Path) -> None:
    def listing(*names: str) -> None:
        body = json.dumps([{"md5": A, "relpath": name} for name in names]).encode()
        digest = md5(body).hexdigest()
        place = project / ".dvc" / "cache" / "files" / "md5" / digest[:2] / f"{digest[2:]}.dir"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
        (project / "x.dvc").write_text(f"outs: [{{path: x, md5: {digest}.dir, hash: md5}}]")

    for names, message in (
        (("../a",), "leads out of it"),
        (("a", "a"), "is there twice"),
        (("a", "a/b"), "lies in what is a file"),
        ((), "has no files in it"),
        (("a\nb",), "can't be kept"),
    ):
        listing(*names)
        (project / "x").mkdir(exist_ok=True)
        for name in names:
            if name == "a\nb":
                (project / "x" / name).write_text("a")
        assert message in refused(InvalidInputError, project / "x.dvc").message


def test_what_is_no_metafile_or_not_there_is_told(project: Path) -> None:
    refused(NotFoundError, project / "zebra.dvc")
    for name in ("dvc.yaml", "dvc.lock", "images", ".dvc", "a\0.dvc"):
        assert "is no .dvc file" in refused(InvalidInputError, project / name).message
    (project / "folder.dvc").mkdir()
    assert "is no file" in refused(InvalidInputError, project / "folder.dvc").message
    (project / "large.dvc").write_bytes(b"#" * (5 << 20))
    assert "larger than any" in refused(InvalidInputError, project / "large.dvc").message
    (project / "images.dvc").rename(project / "My Images.dvc")
    (project / ".dvc" / "config").write_text("not a config")
    assert ".dvc/config can't be read" in refused(InvalidInputError, project / "My Images.dvc").message


def test_a_file_whose_name_is_none_for_a_dataset_needs_another(tmp_path: Path) -> None:
    (tmp_path / "My data.csv").write_text("a")
    (tmp_path / "x.dvc").write_text(f"outs: [{{path: My data.csv, md5: {A}, hash: md5}}]")
    assert refused(InvalidInputError, tmp_path / "x.dvc").hint == "give another name with --name"
    assert dvc.read(tmp_path / "x.dvc", name="mine").name == "mine"


def test_what_fails_writes_nothing(registry: Registry, project: Path) -> None:
    head = registry.head
    metafile = project / "raw" / "Flights.csv.dvc"
    with pytest.raises(NotFoundError, match="no dataset nowhere"):
        registry.import_dvc(metafile, derived_from=["nowhere"])
    with pytest.raises(InvalidInputError, match="not a name"):
        registry.import_dvc(metafile, "Bad Name")
    with pytest.raises(InvalidInputError, match="no column"):
        registry.import_dvc(metafile, key=["zebra"])
    (project / "raw" / "Flights.csv").write_text("changed")
    with pytest.raises(IntegrityError):
        registry.import_dvc(metafile)
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        registry.at(head).import_dvc(metafile)
    assert registry.head == head
    assert registry.datasets() == []
