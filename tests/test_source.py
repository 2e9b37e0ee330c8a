"""The source code in use: what is recorded of a Git repository, what can't be had again, and repositories that bite."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pygit2
import pytest

from headwater import source

ME = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "protocol.file.allow=always"]


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *ME, *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def capture(where: Path, **named: object) -> source.Code:
    found = source.capture(where, **named)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    """A clone with one commit, which its remote has."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "far.git")
    git(tmp_path, "clone", "-q", "far.git", "near")
    near = tmp_path / "near"
    (near / "train.py").write_text("one\ntwo\n")
    (near / ".gitignore").write_text("ignored\n")
    git(near, "add", "-A")
    git(near, "commit", "-qm", "first")
    git(near, "push", "-q", "origin", "HEAD")
    return near


def applied(repository: Path, patch: bytes, tmp_path: Path) -> Path:
    """Apply a patch with libgit2 in a fresh clone."""
    clone = pygit2.clone_repository(str(repository), str(tmp_path / "again"))
    clone.apply(pygit2.Diff.parse_diff(patch), pygit2.enums.ApplyLocation.INDEX)
    clone.checkout_index(strategy=pygit2.enums.CheckoutStrategy.FORCE | pygit2.enums.CheckoutStrategy.REMOVE_UNTRACKED)
    return tmp_path / "again"


def files(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if ".git" in path.relative_to(folder).parts or (path.is_dir() and not path.is_symlink()):
            continue
        mode = path.lstat().st_mode & 0o100
        what: object = os.readlink(path) if path.is_symlink() else (path.read_bytes(), mode)
        found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = what
    return found


def test_a_pushed_commit_with_no_changes_lacks_nothing(pushed: Path) -> None:
    code = capture(pushed)
    assert code.commit == git(pushed, "rev-parse", "HEAD")
    assert code.repository == str(pushed.parent / "far.git")
    assert (code.dirty, code.patch, code.patch_digest, code.missing, code.folder) == (False, None, None, (), ".")
    (pushed / "ignored").write_text("not code")
    os.utime(pushed / "train.py")
    assert capture(pushed).dirty is False


def test_a_folder_in_no_repository_is_said_to_be_so(tmp_path: Path) -> None:
    assert source.capture(tmp_path) is None
    assert source.capture(tmp_path / "not there") is None
    assert source.missing(None) == ("the code is in no Git repository",)


def test_a_repository_without_a_commit_or_a_remote_says_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "train.py").write_text("one\n")
    code = capture(tmp_path)
    assert (code.commit, code.dirty, code.repository) == (None, True, str(tmp_path))
    assert source.missing(code) == ("the repository has no commit yet",)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    code = capture(tmp_path)
    assert code.commit is not None
    assert code.missing == (f"the repository has no remote: commit {code.commit[:12]} is only on this machine",)


def test_a_commit_that_no_remote_has_is_named_until_it_is_pushed(pushed: Path) -> None:
    (pushed / "train.py").write_text("three\n")
    git(pushed, "commit", "-qam", "second")
    code = capture(pushed)
    assert code.commit is not None
    assert code.missing == (f"commit {code.commit[:12]} is on no branch of a remote: it was never pushed",)
    git(pushed, "push", "-q", "origin", "HEAD:refs/heads/other")
    assert capture(pushed).missing == ()
    git(pushed, "checkout", "-q", "HEAD~1")
    detached = capture(pushed)
    assert (detached.branch, detached.missing) == (None, ())


def test_a_patch_holds_every_change_exactly(pushed: Path, tmp_path: Path) -> None:
    before = {
        "latin": "h\xe9llo\nx\n".encode("latin-1"),
        "binary": os.urandom(3000),
        "emptied": os.urandom(300),
        "gone": b"bye\n",
        "gone staged": b"1\n",
        "crlf": b"a\r\nb\r\n",
        "no newline": b"a\nb",
        "run.sh": b"#!/bin/sh\n",
        "was empty": b"",
        "becomes a link": b"file\n",
    }
    for name, body in before.items():
        (pushed / name).write_bytes(body)
    (pushed / "link").symlink_to("train.py")
    git(pushed, "add", "-A")
    git(pushed, "commit", "-qm", "more")

    (pushed / "latin").write_bytes("h\xe9llo w\xf6rld\nx\n".encode("latin-1"))
    (pushed / "binary").write_bytes(os.urandom(3000))
    (pushed / "emptied").write_bytes(b"")
    (pushed / "gone").unlink()
    git(pushed, "rm", "-q", "gone staged")
    (pushed / "crlf").write_bytes(b"a\r\nB\r\n")
    (pushed / "no newline").write_bytes(b"a\nb\nc")
    (pushed / "run.sh").chmod(0o755)
    (pushed / "was empty").write_bytes(b"x")
    (pushed / "becomes a link").unlink()
    (pushed / "becomes a link").symlink_to("latin")
    (pushed / "link").unlink()
    (pushed / "link").symlink_to("/etc/passwd")
    for name in ('deep/er/q"u\to\nte é', "sp ace", "two sp aces", "a\\b c", "empty new", "new link"):
        (pushed / name).parent.mkdir(parents=True, exist_ok=True)
        (pushed / name).write_bytes(b"" if name == "empty new" else b"new\n")
    (pushed / "binary new ~").write_bytes(os.urandom(2000))
    (pushed / os.fsdecode(b"\xff not utf8")).write_bytes(b"u\n")
    (pushed / "new.sh").write_bytes(b"#!/bin/sh\n")
    (pushed / "new.sh").chmod(0o755)
    (pushed / "staged").write_bytes(b"1\n")
    git(pushed, "add", "staged")
    (pushed / "staged").write_bytes(b"1\n2\n")
    (pushed / "intended").write_bytes(b"i\n")
    git(pushed, "add", "-N", "intended")

    index = (pushed / ".git" / "index").read_bytes()
    code = capture(pushed)
    assert code.dirty
    assert code.patch is not None
    assert (pushed / ".git" / "index").read_bytes() == index
    assert [each for each in code.missing if "commit" in each] == [
        f"commit {str(code.commit)[:12]} is on no branch of a remote: it was never pushed"
    ]
    assert files(applied(pushed, code.patch, tmp_path)) == files(pushed)
    stock = tmp_path / "stock"
    git(tmp_path, "clone", "-q", "near", "stock")
    subprocess.run(["git", "apply", "--index"], input=code.patch, cwd=stock, check=True)
    assert files(stock) == files(pushed)


def test_what_is_too_large_for_the_patch_is_named_and_the_rest_kept(pushed: Path, tmp_path: Path) -> None:
    (pushed / "train.py").write_text("two\n")
    (pushed / "big").write_bytes(os.urandom(5000))
    for number in range(7):
        (pushed / f"large {number}").write_bytes(os.urandom(4000))
    code = capture(pushed, largest=3000)
    assert code.patch is not None
    assert b"+two" not in code.patch  # the line was there
    assert b"-one" in code.patch
    assert b"big" not in code.patch
    assert code.missing == (
        *(f"'large {n}' (4,000 bytes) is not committed, and too large for the patch" for n in range(5)),
        "each of 3 other paths is not committed, and too large for the patch",
    )
    assert (applied(pushed, code.patch, tmp_path) / "train.py").read_text() == "two\n"
    assert source.LARGEST_PATCH == 10 << 20


def test_what_is_registered_is_not_taken_for_code(pushed: Path, tmp_path: Path) -> None:
    (pushed / "model" / "deep").mkdir(parents=True)
    (pushed / "model" / "deep" / "weights.bin").write_bytes(b"1")
    (pushed / "model.txt").write_bytes(b"1")
    assert capture(pushed).dirty
    code = capture(pushed, outputs=[pushed / "model", pushed / "model.txt"])
    assert (code.dirty, code.patch, code.missing) == (False, None, ())
    (pushed / "train.py").write_text("changed\n")
    code = capture(pushed, outputs=[pushed])
    assert code.patch is not None, "a file that Git knows is code, wherever it lies"
    assert b"weights" not in code.patch


def test_folders_are_seen_from_the_root_through_links_too(pushed: Path, tmp_path: Path) -> None:
    (pushed / "src" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").symlink_to(pushed / "src" / "deep")
    assert capture(tmp_path / "elsewhere").folder == "src/deep"
    assert capture(pushed / "train.py").folder == "."
    (pushed / "out").symlink_to(tmp_path)
    assert source.capture(pushed / "out") is None
    code = capture(pushed)
    assert code.patch is not None, "a link is kept as a link, and what it leads to is not"
    assert code.patch.count(b"diff --git") == 1
    assert b"new file mode 120000" in code.patch


def test_a_folder_outside_of_the_working_tree_is_said_to_be_so(pushed: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    git(pushed, "config", "core.worktree", str(tmp_path / "tree"))
    assert any("outside of the working tree" in each for each in capture(pushed).missing)
    git(pushed, "config", "--unset", "core.worktree")
    assert any("outside of the working tree" in each for each in capture(pushed / ".git" / "refs").missing)


def test_submodules_and_repositories_inside_are_named_if_they_differ(pushed: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "far.git", "lib")
    git(pushed, "submodule", "add", "-q", str(tmp_path / "lib"), "lib")
    git(pushed, "commit", "-qm", "a submodule")
    git(pushed, "push", "-q", "origin", "HEAD")
    assert capture(pushed).missing == ()
    (pushed / "lib" / "train.py").write_text("changed\n")
    assert capture(pushed).missing == ("'lib' is a repository of its own that differs from what is committed",)
    git(pushed / "lib", "commit", "-qam", "moved")
    assert capture(pushed).missing == ("'lib' is a repository of its own that differs from what is committed",)
    git(pushed, "submodule", "update", "-q")
    git(tmp_path, "clone", "-q", "far.git", "near/inner")
    assert capture(pushed).missing == ("'inner' is a repository of its own that differs from what is committed",)


def test_a_shallow_clone_and_a_worktree_are_read_as_any_other(pushed: Path, tmp_path: Path) -> None:
    (pushed / "train.py").write_text("second\n")
    git(pushed, "commit", "-qam", "second")
    git(pushed, "push", "-q", "origin", "HEAD")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}/far.git", "shallow")
    code = capture(tmp_path / "shallow")
    assert (code.missing, code.repository) == ((), f"file://{tmp_path}/far.git")
    (tmp_path / "shallow" / "train.py").write_text("third\n")
    git(tmp_path / "shallow", "commit", "-qam", "third")
    assert "never pushed" in capture(tmp_path / "shallow").missing[0]
    git(pushed, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    code = capture(tmp_path / "side")
    assert (code.branch, code.folder, code.missing) == ("side", ".", ())


def test_a_bare_repository_holds_no_code_that_runs(pushed: Path) -> None:
    assert source.capture(pushed.parent / "far.git") is None


def test_a_merge_conflict_is_named(pushed: Path) -> None:
    git(pushed, "checkout", "-qb", "left")
    (pushed / "train.py").write_text("left\n")
    git(pushed, "commit", "-qam", "left")
    git(pushed, "checkout", "-qb", "right", "HEAD~1")
    (pushed / "train.py").write_text("right\n")
    git(pushed, "commit", "-qam", "right")
    subprocess.run(["git", *ME, "merge", "left"], cwd=pushed, capture_output=True, check=False)
    code = capture(pushed)
    assert code.dirty
    assert "'train.py' is not committed, and is in a merge conflict" in code.missing


def test_files_that_are_no_files_or_go_away_do_no_harm(pushed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(pushed / "pipe")
    (pushed / "dangling").symlink_to("nowhere")
    code = capture(pushed)
    assert code.patch is not None
    assert b"pipe" not in code.patch
    (pushed / "train.py").write_text("changed\n")
    monkeypatch.setattr(source, "_size", lambda path: os.truncate(pushed / "train.py", 0) or 0)
    assert capture(pushed).dirty
    monkeypatch.setattr(source, "_quoted", lambda piece, path: (_ for _ in ()).throw(OSError("gone")))
    assert "'train.py' is not committed, and can't be read" in capture(pushed).missing


@pytest.mark.parametrize("damage", ["owner", "index", "head", "config", "format"])
def test_a_repository_that_cannot_be_read_is_named_and_stops_nothing(
    pushed: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "owner":

        def refuse(path: str) -> None:
            raise pygit2.GitError(f"repository path '{path}' is not owned by current user")

        monkeypatch.setattr(pygit2, "Repository", refuse)
    elif damage == "index":
        (pushed / ".git" / "index").write_bytes(b"nothing of Git's")
    elif damage == "head":
        (pushed / ".git" / "refs" / "heads" / "main").write_text("f" * 40 + "\n")
    elif damage == "config":
        (pushed / ".git" / "config").write_text("[core\n")
    else:
        git(pushed, "config", "core.repositoryformatversion", "99")
    code = source.capture(pushed)
    assert code is not None
    assert code.commit is None
    assert len(code.missing) == 1
    assert "can't be read: " in code.missing[0]


def test_another_owner_is_refused_by_git_itself(pushed: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "12345", str(pushed)], check=True)
        code = source.capture(pushed)
        assert code is not None
        assert f"safe.directory {pushed}" in source.missing(code)[0]


def test_a_remote_s_password_is_not_kept(pushed: Path) -> None:
    for given, kept in {
        "https://me:secret@example.org:8443/team/code.git": "https://example.org:8443/team/code.git",
        "ssh://git@example.org/team/code.git": "ssh://git@example.org/team/code.git",
        "git@example.org:team/code.git": "git@example.org:team/code.git",
        "../far.git": str(pushed.parent / "far.git"),
    }.items():
        git(pushed, "remote", "set-url", "origin", given)
        assert capture(pushed).repository == kept
    git(pushed, "tag", "-am", "annotated", "v2")
    git(pushed, "tag", "v1")
    assert capture(pushed).tags == ("v1", "v2")


def test_what_a_command_names_outside_of_the_repository_or_ignored_is_missing(pushed: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1\n")
    (pushed / "ignored").write_text("2\n")
    (pushed / "kept.csv").write_text("3\n")
    (pushed / "deep").mkdir()
    code = capture(pushed / "deep")

    def missing(*command: str) -> tuple[str, ...]:
        return source.missing(code, command=["/usr/bin/python", *command], folder=pushed / "deep")

    assert missing("../train.py", "--data=../kept.csv", "not there", "--out", "/dev/null", "", "a\0b") == ()
    assert missing(str(pushed / "train.py"), "..", str(tmp_path / "nowhere")) == ()
    outside = str(tmp_path / "data.csv")
    assert missing("-x", outside, outside, f"--again={outside}") == (
        f"the command names {outside!r}, which is outside of the repository",
    )
    assert missing("../../data.csv") == ("the command names '../../data.csv', which is outside of the repository",)
    assert missing("../ignored") == ("the command names '../ignored', which Git ignores, so it is not kept",)
    git(pushed, "add", "-f", "ignored")
    assert missing("../ignored") == ()
    assert source.missing(None, command=["python", outside]) == ("the code is in no Git repository",)


def test_the_place_of_a_file_in_its_repository(pushed: Path, tmp_path: Path) -> None:
    assert source.place_of(pushed / "train.py") == (str(tmp_path / "far.git"), "train.py")
    assert source.place_of(pushed / "not" / "there.py") in {None, (str(tmp_path / "far.git"), "not/there.py")}
    assert source.place_of(tmp_path) is None
    assert source.place_of(tmp_path / "far.git") is None
    (pushed / ".git" / "config").write_text("[core\n")
    assert source.place_of(pushed / "train.py") is None
