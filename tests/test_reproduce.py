"""Reproducing: versions that are made again from their lineage alone, what differs, and what can't be had again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import CommandLine

import headwater
from headwater import environment, source
from headwater.errors import (
    AlreadyExistsError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
)
from headwater.ids import new_id, now_micros
from headwater.model import ModelVersion
from headwater.registry import Registry
from headwater.transaction import Transaction

ME = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "protocol.file.allow=always"]

TRAIN = """
import os, pathlib, sys
import headwater
from lib import SCALE

with headwater.open("lakefs://nobody.invalid/production", branch="release") as registry:
    data = registry.dataset("flights@1.0.0")
    folder = pathlib.Path(os.environ["HEADWATER_DATA"]) / data.reference
    rows = [int(line) for line in (folder / "flights.csv").read_text().split()[1:]]
    value = sum(rows) * SCALE + int(os.environ.get("SEED", "0"))
    out = pathlib.Path("model.txt")
    out.write_text(f"{value}\\n{os.environ.get('PYTHONHASHSEED')}\\n")
    version = registry.register("delay", out, metrics={"sum": value}, slices=[("sum", {"half": "first"}, rows[0])])
    print("registered", version.reference, "in", os.path.basename(os.getcwd()), *sys.argv[1:])
"""


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *ME, *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with training code; `lib.py` has a change that is not committed, and `new.py` is not known."""
    place = tmp_path / "repository"
    (place / "jobs").mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    (place / "jobs" / "train.py").write_text(TRAIN)
    (place / "jobs" / "lib.py").write_text("SCALE = 1\n")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "first")
    (place / "jobs" / "lib.py").write_text("from new import SCALE\n")
    (place / "jobs" / "new.py").write_text("SCALE = 2\n")
    return place


@pytest.fixture
def flights(registry: Registry, tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text("n\n1\n2\n3\n")
    registry.add_dataset("flights", path)
    path.write_text("n\n1\n2\n3\n40\n")
    registry.add_dataset("flights", path)
    return path


Recorded = Callable[..., ModelVersion]


@pytest.fixture
def recorded(registry: Registry, repository: Path, flights: Path, tmp_path: Path) -> Recorded:
    """Registers what a run of the code would have: 1+2+3 scaled by 2, and the seed."""

    def record(*, changes: dict[str, Any] | None = None, **values: Any) -> ModelVersion:
        model = tmp_path / "model.txt"
        model.write_text("22\n7\n")
        run_id = new_id()
        state = source.capture(repository / "jobs")
        assert state is not None
        row: dict[str, Any] = {
            "run_id": run_id,
            "experiment": "delays",
            "command": ["/somewhere/python3.11", "train.py", "--fast"],
            "folder": "jobs",
            "seeds": {"PYTHONHASHSEED": "7", "SEED": "10"},
            "started_at": now_micros(),
            "params": {"depth": "6"},
            "tags": {},
            "missing": list(source.missing(state)),
            **values,
        }
        version = registry.register(
            "delay", model, data=["flights@1.0.0"], metrics={"sum": 22, "gone": 1.5}, code=repository / "jobs"
        )
        slices = {"key": "sum", "slice": "half=first", "value": 1.0, "source": "claimed", "run_id": run_id}

        def work(tx: Transaction) -> None:
            (text,) = tx.fold.one("SELECT row FROM versions WHERE version_id = ?", version.version_id)
            old = json.loads(text)
            row.setdefault("code", old["code"])
            row.setdefault("environment", old["environment"])
            tx.append("runs", **row)
            # The same version as a run would have registered it, under a number of its own.
            kept = {name: value for name, value in old.items() if name not in ("tx", "recorded_at", "actor")}
            files = json.loads(tx.fold.one("SELECT files FROM versions WHERE version_id = ?", version.version_id)[0])
            new = {"version_id": new_id(), "version": version.version + 1, "run_id": run_id, "missing": row["missing"]}
            tx.cut(f"version/{version.model_id}", after=version.version)
            tx.append("model_versions", **{**kept, "files": files, **new, **(changes or {})})
            dataset = registry.dataset("flights@1.0.0").dataset_id
            tx.append("lineage", source=f"dataset:{dataset}", relation="used", target=f"run:{run_id}")
            tx.append("metrics", ordinal=0, **slices)
            tx.append(
                "metrics", ordinal=1, key="sum", slice="", value=22.0, source="claimed", version_id=new["version_id"]
            )

        registry._context.write("test", work)
        return registry.get(f"delay/{version.version + 1}")

    return record


# -- what is said at registration -------------------------------------------------------------------------------------
def test_registration_says_why_a_version_cannot_be_reproduced(
    registry: Registry, repository: Path, tmp_path: Path
) -> None:
    model = repository / "model.bin"
    model.write_bytes(b"1")
    outside = registry.register("m", model, code=tmp_path)
    assert outside.missing == ("the code is in no Git repository", source.NO_RUN)
    assert outside.reproducible is False
    inside = registry.register("m", model, code=repository)
    commit = git(repository, "rev-parse", "HEAD")[:12]
    assert inside.missing == (f"the repository has no remote: commit {commit} is only on this machine", source.NO_RUN)
    assert inside.code is not None
    patch = registry._context.lake.read(
        inside.commit, f"patches/{inside.code['patch'][-2:]}/{inside.code['patch']}.patch"
    )
    assert b"new.py" in patch
    assert b"model.bin" not in patch, "what is registered is not code"
    rows = registry.sql("SELECT reproducible, missing FROM model_versions ORDER BY version").fetchall()
    assert rows == [(False, list(outside.missing)), (False, list(inside.missing))]


def test_the_lake_itself_is_not_taken_for_code(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with headwater.create(str(repository / "lake")) as registry:
        version = registry.register("m", repository / "jobs" / "lib.py")
        assert version.code is not None
        patch = registry._context.lake.read(
            version.commit, f"patches/{version.code['patch'][-2:]}/{version.code['patch']}.patch"
        )
    assert b"lake.db" not in patch
    assert b"new.py" in patch


def test_the_command_line_says_it_too(registry_url: str, tmp_path: Path) -> None:
    run = CommandLine()
    (tmp_path / "model").write_text("1")
    arguments = ("--lake", registry_url, "register", "m", tmp_path / "model", "--code", tmp_path)
    assert "reproducible no, because the code is in no Git repository; there was no run" in run.out(*arguments)
    made = run.json(*arguments)
    assert made["reproducible"] is False
    assert made["missing"] == ["the code is in no Git repository", source.NO_RUN]
    assert "no, because the code is in no" in run.out("--lake", registry_url, "show", "m/1")
    assert run.json("--lake", registry_url, "show", "m/1")["missing"] == made["missing"]


def test_a_version_with_all_that_is_needed_is_reproducible(registry: Registry, recorded: Recorded) -> None:
    version = recorded(missing=[])
    assert (version.reproducible, version.missing) == (True, ())
    assert "yes" in CommandLine().out("--lake", registry.url, "show", version.reference)
    older = recorded(changes={"missing": None})
    assert (older.reproducible, older.missing) == (False, ("it was registered before this was looked at",))


# -- reproducing ------------------------------------------------------------------------------------------------------
def test_a_version_is_made_again_from_its_lineage_alone(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = recorded()
    (repository / "jobs" / "new.py").write_text("SCALE = 'what came later'\n")
    monkeypatch.setenv("HEADWATER_BRANCH", "nowhere")
    monkeypatch.setenv("PYTHONHASHSEED", "1234")
    head = registry.head
    said: list[str] = []
    printed: list[bytes] = []
    made = registry.reproduce(version.reference, tmp_path / "again", tell=said.append, echo=printed.append)
    assert registry.head == head, "nothing is written to the lake"
    assert [(m.key, m.slice, m.recorded, m.found, m.equal) for m in made.metrics] == [
        ("sum", "", 22.0, 22.0, True),
        ("sum", "half=first", 1.0, 1.0, True),
    ]
    assert (made.ran, made.metrics_equal, made.digest_equal) == (True, True, True)
    assert made.digest_found == version.digest == made.digest
    assert made.command == (sys.executable, "train.py", "--fast")
    assert made.folder == tmp_path / "again" / "code" / "jobs"
    assert made.commit == git(repository, "rev-parse", "HEAD")
    assert made.differences == ()
    assert made.missing == version.missing
    assert b"".join(printed) == b"registered delay/1 in jobs --fast\n" == made.output.read_bytes()
    assert f"running: {sys.executable} train.py --fast" in said
    assert made.data == {"flights@1.0.0": tmp_path / "again" / "data" / "flights@1.0.0"}
    assert (made.data["flights@1.0.0"] / "flights.csv").read_text() == "n\n1\n2\n3\n"
    assert made.requirements.read_text().splitlines()[0].startswith("# Python 3.")
    assert any(line.startswith("pyarrow==") for line in made.requirements.read_text().splitlines())
    report = json.loads((made.dest / "reproduction.json").read_text())
    assert (report["digest_equal"], report["dest"]) == (True, str(made.dest))
    changed = git(made.code, "status", "--porcelain").splitlines()
    assert len([line for line in changed if "__pycache__" not in line]) == 3  # lib.py, new.py and the model


def test_a_clean_commit_needs_no_patch_and_another_clone_may_be_named(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path
) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    git(tmp_path, "clone", "-q", "repository", "clone")
    version = recorded()
    repository.rename(tmp_path / "moved")
    with pytest.raises(NotFoundError, match=r"the repository .* is gone") as caught:
        registry.reproduce(version.reference, tmp_path / "one")
    assert "--repository" in caught.value.hint
    assert registry.reproduce(version.reference, tmp_path / "two", repository=tmp_path / "clone").metrics_equal


def test_what_differs_is_told(registry: Registry, recorded: Recorded, tmp_path: Path) -> None:
    kept = environment.capture()
    body = kept.packages + b"left-pad==1.0\n"
    digest = sha256(body).hexdigest()
    registry._context.write("test", lambda tx: tx.put(f"environments/{digest[-2:]}/{digest}.txt", body))
    version = recorded(
        seeds={"SEED": "11"}, environment={"python": "2.7.18", "platform": kept.platform, "packages": digest}
    )
    made = registry.reproduce(version.reference, tmp_path / "again")
    assert (made.metrics_equal, made.digest_equal) == (False, False)
    assert made.digest_found is not None
    assert made.differences == (
        f"Python 2.7.18 was recorded, and {kept.python} runs",
        "other packages than recorded: left-pad 1.0 (here none)",
        "sum is 23.0, and 22.0 was recorded",
        f"the artifact is {made.digest_found[:12]}, and {version.digest[:12]} was recorded",
    )


def test_nothing_is_run_unless_asked(registry: Registry, recorded: Recorded, tmp_path: Path) -> None:
    made = registry.reproduce(recorded().reference, tmp_path / "again", run=False)
    assert (made.ran, made.output, made.seconds, made.metrics, made.metrics_equal) == (False, None, None, (), None)
    assert (made.folder / "train.py").exists()
    assert not (made.folder / "model.txt").exists()
    assert (made.dest / "lake" / "lake.db").exists()


def test_a_command_that_registers_nothing_is_compared_by_what_it_logged(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path
) -> None:
    (repository / "jobs" / "train.py").write_text("print('trained')\n")
    made = registry.reproduce(recorded().reference, tmp_path / "again")
    assert (made.digest_found, made.digest_equal, made.metrics_equal) == (None, None, False)
    assert "the command registered no version of delay" in made.differences
    assert "sum is missing, and 22.0 was recorded" in made.differences


def test_a_base_version_is_there_under_its_number(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_text("base\n")
    base = registry.register("base", weights)
    (repository / "jobs" / "train.py").write_text(
        "import headwater, pathlib\n"
        "with headwater.open() as registry:\n"
        "    at = registry.get('base/1').pull('base')\n"
        "    pathlib.Path('model.txt').write_text((at / 'weights').read_text())\n"
        "    registry.register('delay', 'model.txt', base='base/1')\n"
        "    assert registry.register('base', 'model.txt').version == 2\n"
    )
    version = recorded(changes={"base_version_id": base.version_id})
    made = registry.reproduce(version.reference, tmp_path / "again")
    assert made.digest_found == sha256(b"base\n").hexdigest()
    assert (made.dest / "models" / "base_1" / "weights").read_text() == "base\n"


# -- commands ---------------------------------------------------------------------------------------------------------
def test_files_of_the_repository_are_found_where_they_are_now(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "aside.txt").write_text("aside\n")
    version = recorded(
        command=[
            "python",
            str(repository / "jobs" / "train.py"),
            f"--config={repository}/jobs/lib.py",
            str(tmp_path / "aside.txt"),
        ]
    )
    made = registry.reproduce(version.reference, tmp_path / "again")
    code = tmp_path / "again" / "code" / "jobs"
    assert made.command[1:] == (f"{code}/train.py", f"--config={code}/lib.py", str(tmp_path / "aside.txt"))
    assert made.differences == (f"the command reads {str(tmp_path / 'aside.txt')!r} as it is now",)
    repository.rename(tmp_path / "moved")
    made = registry.reproduce(version.reference, tmp_path / "third", repository=tmp_path / "moved", run=False)
    assert made.command[1] == str(tmp_path / "third" / "code" / "jobs" / "train.py")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["train.py"], [sys.executable, "train.py"]),
        (["./go.sh", "x"], ["{folder}/./go.sh", "x"]),
        (["sh", "-c", "exit 0"], ["sh", "-c", "exit 0"]),
    ],
)
def test_programs_are_found_here(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path, command: list[str], expected: list[str]
) -> None:
    (repository / "jobs" / "go.sh").write_text("#!/bin/sh\necho $1\n")
    (repository / "jobs" / "go.sh").chmod(0o755)
    made = registry.reproduce(recorded(command=command).reference, tmp_path / "again")
    assert [os.path.normpath(w) for w in made.command] == [
        os.path.normpath(each.format(folder=made.folder)) for each in expected
    ]


def test_a_command_that_needs_what_is_not_there_is_refused(
    registry: Registry, recorded: Recorded, tmp_path: Path
) -> None:
    version = recorded(command=["python", "train.py", "/no/such/place/data.csv"])
    with pytest.raises(NotFoundError, match=r"the command names '/no/such/place/data.csv', which is not in the rep"):
        registry.reproduce(version.reference, tmp_path / "one")
    gone = tmp_path / "gone.csv"
    version = recorded(
        command=["python", "train.py", f"--data={gone}"],
        missing=[f"the command names {str(gone)!r}, which is outside of the repository"],
    )
    with pytest.raises(NotFoundError, match=r"gone.csv', which is not in the repository and not on this machine"):
        registry.reproduce(version.reference, tmp_path / "two")
    version = recorded(command=["no-such-program", "train"])
    with pytest.raises(NotFoundError, match="the program 'no-such-program' is not on this machine"):
        registry.reproduce(version.reference, tmp_path / "three")
    for number, folder in enumerate(("/tmp", "../..", "jobs/../../x")):
        version = recorded(folder=folder)
        with pytest.raises(NotFoundError, match="which is outside of the repository"):
            registry.reproduce(version.reference, tmp_path / f"folder-{number}")


def test_a_command_that_fails_says_how(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path
) -> None:
    (repository / "jobs" / "train.py").write_text("print('hello'); raise SystemExit('there is no GPU')\n")
    with pytest.raises(HeadwaterError, match="the command ended with exit status 1: 'there is no GPU'") as caught:
        registry.reproduce(recorded().reference, tmp_path / "one")
    assert caught.value.hint == f"see {tmp_path / 'one' / 'output.log'}"
    (repository / "jobs" / "train.py").write_text("import os; os.kill(os.getpid(), 9)\n")
    with pytest.raises(HeadwaterError, match="the command was ended by signal 9: 'it printed nothing'"):
        registry.reproduce(recorded().reference, tmp_path / "two")


# -- what can't be had again ------------------------------------------------------------------------------------------
def test_versions_without_a_run_a_command_or_a_commit_are_refused(
    registry: Registry, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "model").write_text("1")
    registry.register("m", tmp_path / "model", code=tmp_path)
    with pytest.raises(NotFoundError, match="m/1 can't be reproduced: there was no run"):
        registry.reproduce("m/1", tmp_path / "x")
    with pytest.raises(NotFoundError, match="its run recorded no command line"):
        registry.reproduce(recorded(command=None).reference, tmp_path / "x")
    unborn = {"repository": "/r", "commit": None, "branch": None, "tags": [], "dirty": True, "patch": None}
    version = recorded(code={**unborn, "folder": "."}, missing=["the repository has no commit yet"])
    with pytest.raises(NotFoundError, match="can't be reproduced: the repository has no commit yet"):
        registry.reproduce(version.reference, tmp_path / "x")
    with pytest.raises(NotFoundError, match="there is no model"):
        registry.reproduce("nothing/1", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def _code(version: ModelVersion, **changes: Any) -> dict[str, Any]:
    assert version.code is not None
    return {**version.code, **changes}


def test_a_commit_that_is_not_in_the_repository_is_named(
    registry: Registry, recorded: Recorded, tmp_path: Path
) -> None:
    code = _code(recorded(), commit="ab" * 20)
    version = recorded(code=code, missing=["commit abababababab is on no branch of a remote: it was never pushed"])
    with pytest.raises(NotFoundError, match=r"commit abababababab is not in .*: it was never pushed"):
        registry.reproduce(version.reference, tmp_path / "x")


def test_a_repository_that_cannot_be_cloned_is_named(registry: Registry, recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for number, place in enumerate(
        (str(tmp_path / "empty"), "https://127.0.0.1:1/code.git", "ext::sh -c true", "-x:y")
    ):
        version = recorded(code=_code(recorded(), repository=place))
        with pytest.raises(LakeError, match=r"can't be cloned: "):
            registry.reproduce(version.reference, tmp_path / f"x{number}")


def _patch(path: bytes, rest: bytes) -> bytes:
    return b"diff --git a/%s b/%s\n%s" % (path, path, rest)


def test_patches_that_are_damaged_or_lead_elsewhere_are_refused(
    registry: Registry, recorded: Recorded, tmp_path: Path
) -> None:
    code = _code(recorded())
    with pytest.raises(IntegrityError, match=r"the patch of delay/.* is missing from the lake"):
        registry.reproduce(recorded(code={**code, "patch": "0" * 64}).reference, tmp_path / "x")
    for number, patch in enumerate(
        (
            _patch(b"jobs/lib.py", b"--- a/jobs/lib.py\n+++ b/jobs/lib.py\n@@ -1 +1 @@\n-SCALE = 9\n+S\n"),
            _patch(b"../../evil", b"new file mode 100644\n--- /dev/null\n+++ b/../../evil\n@@ -0,0 +1 @@\n+x\n"),
            _patch(b".git/hooks/x", b"new file mode 100755\n--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n"),
            b"no patch at all",
            b"\xff\x00\n",
        )
    ):
        digest = sha256(patch).hexdigest()
        path = f"patches/{digest[-2:]}/{digest}.patch"
        registry._context.write("test", lambda tx, path=path, patch=patch: tx.put(path, patch))  # type: ignore[misc]
        version = recorded(code={**code, "patch": digest})
        place = tmp_path / "deep" / f"x{number}"
        with pytest.raises(IntegrityError, match="the recorded changes do not apply"):
            registry.reproduce(version.reference, place)
        assert not (tmp_path / "evil").exists()
        assert not (tmp_path / "deep" / "evil").exists()
        assert not (place / "code" / ".git" / "hooks" / "x").exists()
    other = "1" * 64
    registry._context.write("test", lambda tx: tx.put(f"patches/11/{other}.patch", b"another"))
    with pytest.raises(IntegrityError, match="is not what was recorded"):
        registry.reproduce(recorded(code={**code, "patch": other}).reference, tmp_path / "y")


def test_a_destination_that_holds_something_is_left_alone(
    registry: Registry, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = recorded()
    (tmp_path / "taken" / "data").mkdir(parents=True)
    (tmp_path / "taken" / "data" / "precious").write_text("precious")
    with pytest.raises(AlreadyExistsError, match="is not empty"):
        registry.reproduce(version.reference, tmp_path / "taken")
    with pytest.raises(AlreadyExistsError, match="no reproduction has put there"):
        registry.reproduce(version.reference, tmp_path / "taken", force=True)
    with pytest.raises(AlreadyExistsError, match="is not a folder"):
        registry.reproduce(version.reference, tmp_path / "taken" / "data" / "precious")
    assert (tmp_path / "taken" / "data" / "precious").read_text() == "precious"
    if os.path.isdir(registry.url):
        with pytest.raises(InvalidInputError, match="lies in the lake itself"):
            registry.reproduce(version.reference, Path(registry.url) / "x")
    monkeypatch.chdir(tmp_path)
    first = registry.reproduce(version.reference)
    assert first.dest == tmp_path / f"delay-{version.version}-reproduced"
    (first.dest / "notes").write_text("mine")
    assert registry.reproduce(version.reference, force=True).digest_equal
    assert (first.dest / "notes").read_text() == "mine"


# -- the environment --------------------------------------------------------------------------------------------------
def test_the_environment_is_built_of_what_was_recorded(
    registry: Registry, recorded: Recorded, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_thing-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_thing.py", "VALUE = 15\n")
        wheel.writestr("tiny_thing-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.5\n")
        wheel.writestr(
            "tiny_thing-1.5.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny_thing-1.5.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (repository / "jobs" / "train.py").write_text(
        "import sys, tiny_thing, headwater, headwater.schema\nprint(tiny_thing.VALUE, sys.prefix, headwater.__file__)\n"
    )
    lines = ("--index-url=http://evil.invalid", "headwater==0.1.0", "mine==0.1  # from a folder", "tiny-thing==1.5")
    body = "".join(f"{line}\n" for line in lines).encode()
    digest = sha256(body).hexdigest()
    registry._context.write("test", lambda tx: tx.put(f"environments/{digest[-2:]}/{digest}.txt", body))
    python = environment.capture().python
    version = recorded(environment={"python": python, "platform": "any", "packages": digest})
    made = registry.reproduce(version.reference, tmp_path / "again", install=True)
    assert made.requirements is not None
    assert made.output is not None
    assert [line for line in made.requirements.read_text().splitlines() if not line.startswith("#")] == [
        "tiny-thing==1.5"
    ]
    value, prefix, where = made.output.read_text().split()
    assert (value, prefix) == ("15", str(tmp_path / "again" / "environment"))
    assert where.startswith(prefix)
    assert "not on an index, so not installed: --index-url=http://evil.invalid, mine" in made.differences

    body = b"no-such-thing==1.0\n"
    digest = sha256(body).hexdigest()
    registry._context.write("test", lambda tx: tx.put(f"environments/{digest[-2:]}/{digest}.txt", body))
    version = recorded(environment={"python": python, "platform": "any", "packages": digest})
    with pytest.raises(HeadwaterError, match=r"the environment can't be built: .*no-such-thing") as caught:
        registry.reproduce(version.reference, tmp_path / "other", install=True)
    assert caught.value.hint == f"see {tmp_path / 'other' / 'install.log'}"


# -- the command line -------------------------------------------------------------------------------------------------
def test_the_command_reproduces_and_tells(registry: Registry, recorded: Recorded, tmp_path: Path) -> None:
    run = CommandLine()
    version = recorded()
    lake = ("--lake", registry.url)
    told = run(*lake, "reproduce", version.reference, tmp_path / "one", "--no-run")
    assert "is ready to be made again" in told.stdout
    assert f"checking out {str(version.code and version.code['commit'])[:12]}" in told.stderr
    printed = run.out(*lake, "reproduce", version.reference, tmp_path / "one", "--force")
    assert "metrics the same" in printed
    assert "digest the same" in printed
    assert "was missing the repository has no remote" in printed
    found = run.json(*lake, "reproduce", version.reference, tmp_path / "two")
    assert (found["metrics_equal"], found["digest_equal"], found["ran"]) == (True, True, True)
    assert found["metrics"][0] == {"key": "sum", "slice": "", "recorded": 22.0, "found": 22.0, "equal": True}
    kind, message, hint = run.error(*lake, "reproduce", version.reference, tmp_path / "two", status=1)
    assert (kind, "--force" in hint) == ("AlreadyExistsError", True)
    assert "is not empty" in message


def test_while_reproducing_every_lake_is_the_scratch_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headwater.create(str(tmp_path / "scratch")).close()
    monkeypatch.setenv("HEADWATER_REPRODUCE", str(tmp_path / "scratch"))
    for opened in (
        headwater.open(),
        headwater.open("lakefs://nobody.invalid/real", branch="release"),
        headwater.open(str(tmp_path / "real"), ref="main~7"),
        headwater.create(str(tmp_path / "real")),
    ):
        with opened:
            assert opened.url == str(tmp_path / "scratch")
    assert not (tmp_path / "real").exists()


# -- from end to end --------------------------------------------------------------------------------------------------
_OF_A_RUN = """
import pathlib, random, sys
import headwater

with headwater.open() as registry, registry.start_run("train", experiment="delays", params={"depth": 6}) as run:
    rows = run.use("flights@1.0.0").arrow().column("n").to_pylist()
    random.seed(int(sys.argv[1]))
    for step in range(3):
        run.log_metric("loss", 1 / (step + 1), step=step)
    auc = sum(rows) + random.random()
    run.log_metric("auc", auc)
    run.log_metric("auc", rows[0], slice={"half": "first"})
    pathlib.Path("model.txt").write_text(repr(auc))
    print(run.register("delay", "model.txt").reference)
"""

_OF_A_COMMAND = """
import pathlib
import headwater

run = headwater.current_run()
rows = run.use("flights").arrow().column("n").to_pylist()
run.log_metrics({"sum": float(sum(rows))})
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model.txt").write_text(str(hash("a string")))
run.register("delay", "out")
"""


@pytest.mark.parametrize(("script", "around"), [(_OF_A_RUN, False), (_OF_A_RUN, True), (_OF_A_COMMAND, True)])
def test_what_a_run_made_is_made_again(
    registry: Registry, flights: Path, tmp_path: Path, script: str, around: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "far.git")
    git(tmp_path, "clone", "-q", "far.git", "near")
    near = tmp_path / "near"
    (near / "jobs").mkdir()
    (near / "jobs" / "train.py").write_text("raise SystemExit('an older one')\n")
    git(near, "add", "-A")
    git(near, "commit", "-qm", "first")
    git(near, "push", "-q", "origin", "HEAD")
    (near / "jobs" / "train.py").write_text(script)
    command = [sys.executable, "train.py", "42"]
    if around:
        command = [sys.executable, "-m", "headwater", "run", "--", *command]
    monkeypatch.setenv("HEADWATER_LAKE", registry.url)
    monkeypatch.setenv("PYTHONHASHSEED", "99")
    subprocess.run(command, cwd=near / "jobs", check=True, capture_output=True)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    (version,) = registry.versions("delay")
    assert version.missing == ()
    assert version.reproducible is True
    assert version.run_id is not None
    assert registry.run(version.run_id).missing == ()
    head, runs = registry.head, len(registry.runs())
    made = registry.reproduce("delay/1", tmp_path / "again")
    assert made.differences == ()
    assert (made.metrics_equal, made.digest_equal) == (True, True)
    assert made.repository == str(tmp_path / "far.git")
    assert set(made.data) == ({"flights@1.0.0"} if script == _OF_A_RUN else {"flights@1.1.0"})
    compared = {(each.key, each.slice): each.found for each in made.metrics}
    if script == _OF_A_RUN:
        assert compared[("loss", "")] == 1 / 3
        assert compared[("auc", "half=first")] == 1.0
    else:
        assert compared == {("sum", ""): 46.0}
    assert registry.head == head
    assert len(registry.runs()) == runs
    assert [each.version for each in registry.versions("delay")] == [1]


def test_a_run_says_what_it_cannot_be_reproduced_without(
    registry: Registry, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "jobs")
    monkeypatch.setenv("HEADWATER_LAKE", registry.url)
    outside = tmp_path / "data.csv"
    outside.write_text("n\n1\n")
    git(repository, "commit", "-qam", "second")
    (repository / "model").write_text("1")
    run = CommandLine()
    with registry.start_command("run", [sys.executable, "train.py", str(outside)], experiment="e") as started:
        version = started.register("m", repository / "model")
    commit = git(repository, "rev-parse", "HEAD")[:12]
    assert version.missing == (
        f"the repository has no remote: commit {commit} is only on this machine",
        f"the command names {str(outside)!r}, which is outside of the repository",
    )
    assert registry.run(started.run_id).missing == version.missing
    assert "which is outside of the repository" in run.out("run", "show", started.run_id)
    monkeypatch.chdir(tmp_path)
    with registry.start_run("here") as started:
        version = started.register("m", repository / "model")
        assert version.missing[0] == "the code is in no Git repository"
        assert source.NO_RUN not in version.missing
        coded = started.register("m", repository / "model", code=repository)
        assert coded.missing[0] == f"the repository has no remote: commit {commit} is only on this machine"
        assert source.NO_RUN not in coded.missing
