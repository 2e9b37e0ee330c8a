"""The folder in which something is made again: its code, environment and command; knows no tables and no models.

What is read from a lake may come from a stranger: a requirement that is no requirement, a patch or a folder that leads
elsewhere and a command that is not on this machine are refused here, and only `run` runs anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.errors import AlreadyExistsError, HeadwaterError, IntegrityError, LakeError, NotFoundError
from headwater.lake.objects import disk_errors
from headwater.names import shown, shown_path
from headwater.source import place_of

if TYPE_CHECKING:
    import pygit2

__all__ = ["Workplace"]

Tell = Callable[[str], None]

_MARKER = ".headwater-reproduction"
_OURS = ("code", "data", "models", "lake", "environment")
_FILES = ("requirements.txt", "install.log", "output.log", "reproduction.json", ".gitignore")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.+!_-]+| @ (git\+https|https)://[^\s;#]+)")
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?(\.exe)?")
_NAMED = 5


class Workplace:
    """A folder for one reproduction.

    Attributes:
        place: The folder.
        code: The code's working tree.
        data: What the datasets' folders are in: `NAME@V` each.
        lake: The scratch lake.
        requirements: The pinned packages, as pip takes them.
        output: What the command printed.
        differences: What is not as it was recorded, in sentences.
        unpinned: Packages that no index has as they were.

    Args:
        dest: Where; it must not be there, or be empty.
        force: Replace an earlier reproduction.

    Raises:
        AlreadyExistsError: Something is there that is not ours to replace.
    """

    def __init__(self, dest: str | os.PathLike[str], *, force: bool) -> None:
        self.place = place = Path(os.path.realpath(dest))
        self.code, self.data, self.models, self.lake, self._venv = (place / name for name in _OURS)
        self.requirements, self.install_log, self.output, self.report, ignore = (place / name for name in _FILES)
        self.differences: list[str] = []
        self.unpinned: list[str] = []
        self._python = sys.executable
        self._bin: Path | None = None
        self._recorded: tuple[str, bytes, bytes] = ("", b"", b"")
        with disk_errors(place):
            if place.exists() and not place.is_dir():
                raise AlreadyExistsError(f"{shown(str(dest))} is not a folder", hint="choose another destination")
            if place.exists() and any(place.iterdir()):
                if not force:
                    raise AlreadyExistsError(
                        f"the folder {shown(str(dest))} is not empty",
                        hint="choose another destination, or replace an earlier reproduction with --force",
                    )
                if not (place / _MARKER).is_file():
                    raise AlreadyExistsError(
                        f"{shown(str(dest))} holds what no reproduction has put there",
                        hint="choose another destination",
                    )
                for name in (*_OURS, *_FILES):
                    _remove(place / name)
            place.mkdir(parents=True, exist_ok=True)
            (place / _MARKER).touch()
            # A reproduction in a repository of somebody's is not his code.
            ignore.write_text("*\n")

    # -- code ---------------------------------------------------------------------------------------------------
    def check_out(self, repository: str, commit: str, patch: bytes | None, *, reasons: Sequence[str] = ()) -> None:
        """Clone a repository, check a commit out, and apply a patch.

        Args:
            repository: A URL, or a folder of this machine.
            commit: The commit.
            patch: What was not committed.
            reasons: What is known to be missing, for the message if it is.

        Raises:
            NotFoundError: The repository or the commit is not there.
            LakeError: The repository can't be reached.
            IntegrityError: The patch does not apply.
        """
        import pygit2
        from pygit2.enums import ApplyLocation, CheckoutStrategy

        local = _local(repository)
        if local is not None and not os.path.isdir(local):
            raise NotFoundError(f"the repository {shown(repository)} is gone", hint=_ANOTHER)
        try:
            clone = pygit2.clone_repository(local or repository, str(self.code), callbacks=_callbacks())
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise LakeError(f"{shown(repository)} can't be cloned: {shown(str(error))}", hint=_ANOTHER) from error
        found = _commit(clone, commit)
        if found is None:
            why = "; ".join(each for each in reasons if "commit" in each)
            raise NotFoundError(
                f"commit {commit[:12]} is not in {shown(repository)}" + (f": {why}" if why else ""), hint=_ANOTHER
            )
        try:
            clone.checkout_tree(  # type: ignore[no-untyped-call]
                found, strategy=CheckoutStrategy.FORCE | CheckoutStrategy.REMOVE_UNTRACKED
            )
            clone.set_head(found.id)
        except (pygit2.GitError, OSError) as error:
            raise LakeError(f"commit {commit[:12]} can't be checked out: {shown(str(error))}") from error
        self._submodules(clone)
        if patch:
            try:
                clone.apply(pygit2.Diff.parse_diff(patch), ApplyLocation.INDEX)
                clone.checkout_index(  # type: ignore[no-untyped-call]
                    strategy=CheckoutStrategy.FORCE | CheckoutStrategy.REMOVE_UNTRACKED
                )
            except (pygit2.GitError, KeyError, ValueError, OSError) as error:
                raise IntegrityError(
                    f"the recorded changes do not apply to commit {commit[:12]}: {shown(str(error))}",
                    hint="it was made of another commit, or the repository is not the one that was recorded",
                ) from error

    def _submodules(self, clone: pygit2.Repository) -> None:
        import pygit2

        for name in clone.listall_submodules():
            try:
                clone.submodules.update([name], init=True, callbacks=_callbacks())
            except (pygit2.GitError, KeyError, ValueError, OSError) as error:
                raise LakeError(
                    f"submodule {shown(name)} can't be fetched: {shown(str(error))}",
                    hint="--repository PATH names a clone whose submodules can be reached",
                ) from error

    def folder(self, recorded: str) -> Path:
        """Return where in the code the command runs.

        Raises:
            NotFoundError: The folder is outside of the repository, or is not in it.
        """
        found = Path(os.path.realpath(self.code / recorded))
        if os.path.isabs(recorded) or not found.is_relative_to(self.code):
            raise NotFoundError(
                f"the command ran in {shown(recorded)}, which is outside of the repository", hint=_REGISTER_INSIDE
            )
        with disk_errors(found):
            # Git keeps no empty folders, and a command may well run in one.
            found.mkdir(parents=True, exist_ok=True)
        return found

    # -- environment --------------------------------------------------------------------------------------------
    def pin(self, python: str, platform: str, packages: bytes, installed: bytes) -> None:
        """Write the recorded packages as requirements, and note in what this Python differs.

        Args:
            python: The recorded version.
            platform: The recorded platform.
            packages: The recorded packages, a line each.
            installed: What is installed here.
        """
        lines = [f"# Python {python} on {platform}"]
        for line in packages.decode("utf-8", "replace").splitlines():
            requirement, _, comment = line.partition("  #")
            if requirement.startswith("headwater=="):
                lines.append(f"# {requirement}: the Headwater that reproduces takes its place")
            elif comment or not _PINNED.fullmatch(requirement):
                name = re.split(r"==| @ ", requirement)[0]
                self.unpinned.append(name)
                lines.append("# " + "".join(c if c.isprintable() else "?" for c in line))
            else:
                lines.append(requirement)
        with disk_errors(self.place):
            self.requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._recorded = (python, packages, installed)

    def compare_environment(self) -> None:
        """Note in what the Python that runs the command differs from the recorded one."""
        python, packages, installed = self._recorded
        running = _version_of(self._python)
        if running != python:
            self.differences.append(f"Python {python} was recorded, and {running} runs")
        if self._bin is not None:
            if self.unpinned:
                self.differences.append(f"not on an index, so not installed: {_some(sorted(self.unpinned))}")
            return
        then, now = _versions(packages), _versions(installed)
        changed = [
            f"{name} {version} (here {now.get(name, 'none')})"
            for name, version in sorted(then.items())
            if now.get(name) != version
        ]
        if changed:
            self.differences.append(f"other packages than recorded: {_some(changed)}")

    def install(self, tell: Tell) -> None:
        """Build a virtual environment of the requirements, with this Headwater in it.

        Raises:
            HeadwaterError: pip can't install them; its output is in `install.log`.
        """
        python, _, _ = self._recorded
        wanted = "python" + ".".join(python.split(".")[:2])
        base = shutil.which(wanted) if _version_of(sys.executable) != python else None
        tell(f"building the environment in {self._venv}")
        with disk_errors(self.place), open(self.install_log, "wb") as log:
            for command in (
                [base or sys.executable, "-m", "venv", str(self._venv)],
                [
                    *(str(self._venv / "bin" / "python"), "-m", "pip", "install", "--no-input", "--no-deps"),
                    *("--disable-pip-version-check", "-r", str(self.requirements)),
                ],
            ):
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
                )
                if done.returncode:
                    said = [line for line in _tail(self.install_log) if line.startswith("ERROR")]
                    raise HeadwaterError(
                        f"the environment can't be built: {shown(said[-1] if said else 'no reason was given')}",
                        hint=f"see {self.install_log}",
                    )
            self._bin = self._venv / "bin"
            self._python = str(self._bin / "python")
            self._bring_headwater()

    def _bring_headwater(self) -> None:
        from headwater.query import views

        home = Path(__file__).parent
        for site in (self._venv / "lib").glob("python*/site-packages"):
            shutil.rmtree(site / "headwater", ignore_errors=True)
            shutil.copytree(home, site / "headwater", ignore=shutil.ignore_patterns("__pycache__", "_sql"))
            (site / "headwater" / "_sql").mkdir()
            for name, text in views():
                (site / "headwater" / "_sql" / name).write_text(text, encoding="utf-8")
        script = self._venv / "bin" / "headwater"
        script.write_text(f"#!{self._venv / 'bin' / 'python'}\nfrom headwater.cli import main\nmain()\n")
        script.chmod(0o755)

    # -- command ------------------------------------------------------------------------------------------------
    def command(self, recorded: Sequence[str], repository: str, folder: Path, reasons: Sequence[str]) -> list[str]:
        """Return the command as it is run here: this Python, and files of the repository where they are now.

        Args:
            recorded: The command line as it was, program first.
            repository: The repository as it was recorded.
            folder: Where it is going to run.
            reasons: What was said to be missing at registration.

        Raises:
            NotFoundError: It names a file that is not in the repository and not here, or a program that is not.
        """
        program, *words = recorded
        if _PYTHON.fullmatch(os.path.basename(program)):
            chosen = [self._python]
        elif program.endswith(".py") and not os.access(folder / program, os.X_OK):
            chosen = [self._python, self._moved(program, repository, reasons)]
        elif "/" in program and (moved := self._moved(program, repository, reasons)):
            chosen = [moved if os.path.isabs(moved) else str(folder / moved)]
        else:
            chosen = [program]
        if shutil.which(chosen[0], path=self._path()) is None:
            raise NotFoundError(f"the program {shown(chosen[0])} is not on this machine", hint="install it first")
        for word in words:
            key, equals, value = word.partition("=")
            if equals and value.startswith("/"):
                chosen.append(f"{key}={self._moved(value, repository, reasons)}")
            else:
                chosen.append(self._moved(word, repository, reasons) if word.startswith("/") else word)
        return chosen

    def _moved(self, path: str, repository: str, reasons: Sequence[str]) -> str:
        """Return where a path of the command is now."""
        if not os.path.isabs(path):
            return path
        held = place_of(path)
        inside = held[1] if held is not None and held[0] == repository else None
        if inside is None and os.path.isabs(repository) and Path(path).is_relative_to(repository):
            inside = os.path.relpath(path, repository)
        if inside is not None:
            return os.path.normpath(self.code / inside)
        if os.path.exists(path):
            self.differences.append(f"the command reads {shown_path(path)} as it is now")
        elif any(shown_path(path) in each for each in reasons) or not os.path.isdir(os.path.dirname(path)):
            raise NotFoundError(
                f"the command names {shown_path(path)}, which is not in the repository and not on this machine",
                hint=_REGISTER_INSIDE,
            )
        return path

    def _path(self) -> str:
        known = os.environ.get("PATH", os.defpath)
        return f"{self._bin}{os.pathsep}{known}" if self._bin is not None else known

    def run(
        self, command: Sequence[str], folder: Path, variables: Mapping[str, str], echo: Callable[[bytes], None] | None
    ) -> None:
        """Run the command, with what it prints in `output.log`.

        Args:
            command: What `command` returned.
            folder: Where.
            variables: What the environment has besides, or instead of, what it has here.
            echo: Is given what the command prints, as it comes.

        Raises:
            NotFoundError: The program can't be run.
            HeadwaterError: It ended with another exit status than 0.
        """
        dropped = {"HEADWATER_BRANCH", "HEADWATER_RUN_ID", "HEADWATER_REHEARSAL", "PYTHONHASHSEED"}
        inherited = {key: value for key, value in os.environ.items() if key not in dropped}
        if self._bin is not None:
            inherited = {k: v for k, v in inherited.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
            inherited["VIRTUAL_ENV"] = str(self._venv)
        with disk_errors(self.place), open(self.output, "wb") as log:
            try:
                child = subprocess.Popen(
                    list(command),
                    cwd=folder,
                    env={**inherited, "PATH": self._path(), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                )
            except OSError as error:
                raise NotFoundError(f"{shown(command[0])} can't be run: {error.strerror}") from error
            try:
                assert child.stdout is not None
                while chunk := child.stdout.read(1 << 16):
                    log.write(chunk)
                    if echo is not None:
                        echo(chunk)
                status = child.wait()
            finally:
                if child.poll() is None:
                    child.terminate()
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        child.wait()
                if child.stdout is not None:
                    child.stdout.close()
        if status:
            ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
            last = next((line for line in reversed(_tail(self.output)) if line.strip()), "it printed nothing")
            raise HeadwaterError(f"the command {ended}: {shown(last.strip())}", hint=f"see {self.output}")


_ANOTHER = "--repository PATH names another clone of it"
_REGISTER_INSIDE = "put it into the repository, or add it as a dataset, and register a new version"


def _callbacks() -> pygit2.RemoteCallbacks:
    """Return how a clone proves who asks: by the SSH agent, once, and never by asking the person."""
    import pygit2

    class Callbacks(pygit2.RemoteCallbacks):
        asked = False

        def credentials(
            self, url: str, username_from_url: str | None, allowed_types: pygit2.enums.CredentialType
        ) -> pygit2.KeypairFromAgent:
            if self.asked or not allowed_types & pygit2.enums.CredentialType.SSH_KEY:
                raise pygit2.GitError("it wants credentials")
            self.asked = True
            return pygit2.KeypairFromAgent(username_from_url or "git")

    return Callbacks()


def _local(repository: str) -> str | None:
    """Return the folder that a repository is, or None where it is a URL, or `host:path`."""
    if repository.startswith("file://"):
        return repository.removeprefix("file://")
    return None if "://" in repository or ":" in repository.partition("/")[0] else repository


def _commit(clone: pygit2.Repository, commit: str) -> pygit2.Commit | None:
    import pygit2

    for attempt in ("cloned", "asked for"):
        if attempt == "asked for":
            try:
                # No branch leads there any more, but most servers hand out what they still have.
                clone.remotes["origin"].fetch([commit], callbacks=_callbacks())
            except (pygit2.GitError, KeyError, ValueError, OSError):
                return None
        try:
            return clone[commit].peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError):
            continue
    return None


def _version_of(python: str) -> str:
    import platform

    if python == sys.executable:
        return platform.python_version()
    done = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _versions(packages: bytes) -> dict[str, str]:
    found = {}
    for line in packages.decode("utf-8", "replace").splitlines():
        name, separator, version = re.split(r"(==| @ )", line.partition("  #")[0], maxsplit=1)[:3] or ("", "", "")
        if separator and name != "headwater":
            found[name] = version
    return found


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _tail(path: Path) -> list[str]:
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 8192))
        return stream.read().decode("utf-8", "replace").splitlines()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_writable)
    else:
        path.unlink(missing_ok=True)


def _writable(call: Callable[..., object], path: str, _: object) -> None:
    """Take away what is read-only, as Git's and the lake's objects are."""
    os.chmod(os.path.dirname(path), 0o700)
    os.chmod(path, 0o700)
    call(path)
