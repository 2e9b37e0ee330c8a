"""A lake in a repository of a lakeFS server, and its S3 gateway for Delta clients; knows nothing of models.

What lakeFS does is taken from its documentation and from trying version 1.84. Facts that the code rests on: a branch
and a tag cannot have one name (409 both ways); a merge commit's parents are the destination's head, then the source's;
the log has every commit before its parents; a lost race is a 409, a 423, a 429, or a 500 that says "predicate failed".
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    RaceLostError,
)
from headwater.ids import micros_of
from headwater.lake.base import (
    AT,
    CHUNK,
    HIDDEN_PREFIX,
    TRANSACTION_PREFIX,
    Change,
    Commit,
    ObjectInfo,
    Source,
    Strategy,
)
from headwater.lake.lakefs_address import Address, Credentials, load_credentials
from headwater.lake.lakefs_cache import FileCache
from headwater.lake.lakefs_client import PATH, SHA256, Answer, Client, Sdk, info_of
from headwater.lake.lakefs_http import Fault, Patience, lost_race
from headwater.lake.lakefs_reservations import Reservations
from headwater.lake.lakefs_streams import Upload, md5_of
from headwater.lake.queue import queue

__all__ = ["Credentials", "LakeFS", "Patience", "load_credentials"]

_STRATEGIES: Mapping[Strategy, str | None] = {"none": None, "ours": "dest-wins", "theirs": "source-wins"}


class LakeFS:
    """A lake in a lakeFS repository. See `headwater.lake.base.Lake` for what the methods mean.

    Use `create` or `connect`.

    Attributes:
        page_size: How many entries of a log, a listing or a diff are asked for at once (1 to 1,000).
    """

    page_size = 1000

    def __init__(self, client: Client, repository: Answer) -> None:
        self._client = client
        self._name = client.address.repository
        self.url = str(client.address)
        self.default_branch = str(repository["default_branch"])
        name = _local_name(client.address, repository)
        self.cache = _home("XDG_CACHE_HOME", ".cache") / name
        self.spool = _home("XDG_STATE_HOME", ".local/state") / name
        self._files = FileCache(self.cache / "objects")
        FileCache(self.cache).make_private()
        self._localized: dict[tuple[str, str], Path] = {}
        self._reservations = Reservations(client, self._start_at_first_commit)

    @classmethod
    def connect(cls, url: str, *, credentials: Credentials | None = None, patience: Patience | None = None) -> LakeFS:
        """Open a repository.

        Args:
            url: `lakefs://HOST[:PORT]/REPOSITORY`, or `lakefss://…` for TLS.
            credentials: The keys; read from the environment or `~/.lakectl.yaml` if not given.
            patience: How long the server is waited for.

        Raises:
            InvalidInputError: The URL is not well formed.
            NotFoundError: There is no such repository.
            LakeError: There are no keys, or no lakeFS server answers.
        """
        client = _client(url, credentials, patience)
        return cls(client, _repository(client))

    @classmethod
    def create(
        cls,
        url: str,
        *,
        storage_namespace: str | None,
        credentials: Credentials | None = None,
        patience: Patience | None = None,
    ) -> LakeFS:
        """Make a repository, or join the one that is there.

        Args:
            url: As for `connect`.
            storage_namespace: Where the server keeps the objects of a new repository, as `s3://bucket/folder`; None
                only joins.
            credentials: As for `connect`.
            patience: As for `connect`.

        Raises:
            InvalidInputError: The URL or the storage namespace cannot be used, or there is neither namespace nor
                repository.
            LakeError: There are no keys, or no lakeFS server answers.
        """
        client = _client(url, credentials, patience)
        with suppress(NotFoundError):
            return cls(client, _repository(client))
        wanted = {"name": client.address.repository, "storage_namespace": storage_namespace, "default_branch": "main"}
        if storage_namespace is None:
            raise InvalidInputError(
                f"there is no repository {wanted['name']!r} at {client.address.endpoint}",
                hint="give a --storage-namespace, as s3://bucket/folder, and it is made",
            )
        try:
            client.run(
                f"make the repository {client.address} with storage namespace {storage_namespace!r}",
                lambda sdk: sdk.repositories.create_repository(wanted),
                meaning={409: lambda fault: AlreadyExistsError(f"there is a repository {wanted['name']!r} already")},
            )
        except AlreadyExistsError:
            pass  # somebody else made it just now; or we, and the answer was lost
        except ValueError as error:
            if isinstance(error, InvalidInputError):
                raise
            hint = "name a place of the server's storage, as s3://bucket/folder"
            raise InvalidInputError(f"{storage_namespace!r} is no storage namespace", hint=hint) from error
        return cls(client, _repository(client))

    # -- refs ---------------------------------------------------------------------------------------------------
    def head(self, branch: str) -> str:
        """Return the commit ID that a branch points at."""
        return self._client.run(
            f"read branch {branch!r}",
            lambda sdk: str(sdk.branches.get_branch(self._name, branch)["commit_id"]),
            missing=f"there is no branch {branch!r}",
            hint="check its name",
        )

    def branches(self) -> dict[str, str]:
        """Return every branch that is not hidden, with its head's commit ID, in order of name."""
        refs = self._refs("branches", lambda sdk: sdk.branches.list_branches)
        return {name: commit for name, commit in refs.items() if not name.startswith(HIDDEN_PREFIX)}

    def tags(self) -> dict[str, str]:
        """Return every tag with its commit ID, in order of name."""
        return self._refs("tags", lambda sdk: sdk.tags.list_tags)

    def _refs(self, plural: str, method: Callable[[Sdk], Any]) -> dict[str, str]:
        found = self._client.pages(
            f"list the {plural}",
            lambda sdk, after: method(sdk)(self._name, after=after, amount=self.page_size),
            lambda each: (str(each["id"]), str(each["commit_id"])),
        )
        return dict(sorted(found))

    def create_branch(self, name: str, source: str, *, hidden: bool = False) -> str:
        """Make a branch at commit `source` and return that commit's ID.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            NotFoundError: There is no such commit.
        """
        wanted = {"name": name, "source": source, "hidden": hidden}
        return self._create(
            f"branch {name!r}",
            lambda sdk: str(sdk.branches.create_branch(self._name, wanted)),
            lambda: self.head(name),
            source,
        )

    def create_tag(self, name: str, commit: str) -> None:
        """Make a tag.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            NotFoundError: There is no such commit.
        """
        wanted = {"id": name, "ref": commit}
        self._create(
            f"tag {name!r}",
            lambda sdk: str(sdk.tags.create_tag(self._name, wanted)["commit_id"]),
            lambda: self._tag(name),
            commit,
        )

    def _create(self, noun: str, call: Callable[[Sdk], str], look: Callable[[], str], commit: str) -> str:
        """Make a ref; one that is found after a broken attempt is ours if it is at our commit."""

        def is_ours() -> str | None:
            with suppress(NotFoundError):
                return commit if look() == commit else None
            return None

        def taken(fault: Fault) -> HeadwaterError:
            kind, _, name = noun.partition(" ")
            if "already exists" not in fault.text:  # then the name is that of the other kind
                kind = "tag" if kind == "branch" else "branch"
            return AlreadyExistsError(f"there is a {kind} {name} already", hint="choose another name")

        return self._client.run(
            f"make {noun}",
            call,
            missing=f"there is no commit {commit!r}",
            meaning={409: taken},
            echo=(409, is_ours),
        )

    def delete_branch(self, name: str) -> None:
        """Delete a branch and what is staged on it. Its commits stay readable by their IDs until collected."""
        self._delete(f"branch {name!r}", lambda sdk: sdk.branches.delete_branch(self._name, name))

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        self._delete(f"tag {name!r}", lambda sdk: sdk.tags.delete_tag(self._name, name))

    def _delete(self, noun: str, call: Callable[[Sdk], object]) -> None:
        """Delete a ref; one that is missing after a broken attempt is the one that we deleted."""
        self._client.run(f"delete {noun}", call, missing=f"there is no {noun}", echo=(404, lambda: True))

    def find_commits(self, prefix: str) -> list[str]:
        """Return the commit whose ID begins with `prefix`; nothing if several do: lakeFS does not tell that apart."""
        if not _is_hex(prefix):
            return []
        try:
            found = self._commit(prefix).id
        except NotFoundError:
            return []
        return [found] if found.startswith(prefix) else []  # lakeFS looks for branches and tags as well

    def _tag(self, name: str) -> str:
        return self._client.run(
            f"read tag {name!r}",
            lambda sdk: str(sdk.tags.get_tag(self._name, name)["commit_id"]),
            missing=f"there is no branch or tag {name!r}",
            hint="check its name",
        )

    def _resolve(self, ref: str) -> str:
        """Return the commit ID that a ref means: of a branch its committed head, never what is staged."""
        if len(ref) == 64 and _is_hex(ref):
            return ref
        try:
            return self.head(ref)
        except NotFoundError:
            return self._tag(ref)

    # -- history ------------------------------------------------------------------------------------------------
    def get_commit(self, commit: str) -> Commit:
        """Return one commit by its full ID.

        Raises:
            IntegrityError: The server returns another one. (How it makes an ID of a commit is not documented.)
        """
        found = self._commit(commit)
        if found.id != commit:
            raise IntegrityError(f"the server returns commit {found.id} for {commit}", hint="its data is damaged")
        return found

    def _commit(self, commit: str) -> Commit:
        return self._client.run(
            f"read commit {commit!r}",
            lambda sdk: _commit_of(sdk.commits.get_commit(self._name, commit)),
            missing=f"there is no commit {commit!r}",
            hint="`headwater log` lists them",
        )

    def find_commit(self, key: str, value: str) -> Commit | None:
        """Return None: lakeFS has no way to search commits by their metadata."""
        return None

    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """Yield `commit` and its ancestors, each once, every commit before its parents; fetched page by page."""
        return self._client.pages(
            f"read the log of commit {commit!r}",
            lambda sdk, after: sdk.refs.log_commits(
                self._name, commit, after=after, amount=self.page_size, first_parent=first_parent
            ),
            _commit_of,
            missing=f"there is no commit {commit!r}",
        )

    def merge_base(self, left: str, right: str) -> str:
        """Return a best common ancestor of two commits."""
        return self._client.run(
            f"find the merge base of {left!r} and {right!r}",
            lambda sdk: str(sdk.refs.find_merge_base(self._name, right, left)["base_commit_id"]),
            missing=f"there is no commit {left!r}, or no commit {right!r}",
        )

    def diff(self, left: str, right: str, prefix: str = "") -> Iterator[Change]:
        """Yield, in order of path, what differs from commit `left` to commit `right` (two-dot) under a prefix."""
        return self._client.pages(
            f"compare {left!r} with {right!r}",
            lambda sdk, after: sdk.refs.diff_refs(
                self._name, left, right, after=after, amount=self.page_size, prefix=prefix, type="two_dot"
            ),
            lambda each: Change(str(each["path"]), each["type"]),
            missing=f"there is no commit {left!r}, or no commit {right!r}",
        )

    # -- writing ------------------------------------------------------------------------------------------------
    def put(self, branch: str, path: str, source: Source) -> ObjectInfo:
        """Stage an object, streamed in bounded memory, and return its size and sha256.

        Raises:
            IntegrityError: Other bytes reached the server, or a file changed while it was read.
        """
        if isinstance(source, bytes):
            return self._put(branch, path, source)
        body = Upload(source)
        if body.whole is not None:
            return self._put(branch, path, body.whole)
        length = {} if body.length is None else {"Content-Length": str(body.length)}
        arrived = self._upload(branch, path, body, {}, length)
        _compare(path, arrived, body.size, body.md5)
        # known only now: a call is cheaper than reading everything twice
        metadata = {"set": {PATH: _mark_of(path), SHA256: body.sha256}}
        self._client.run(
            f"note the sha256 of {path!r}",
            lambda sdk: sdk.experimental.update_object_user_metadata(self._name, branch, path, metadata),
        )
        return ObjectInfo(path, body.size, body.sha256)

    def _put(self, branch: str, path: str, content: bytes) -> ObjectInfo:
        sha256 = hashlib.sha256(content).hexdigest()
        arrived = self._upload(branch, path, content, {SHA256: sha256}, {})
        _compare(path, arrived, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
        return ObjectInfo(path, len(content), sha256)

    def _upload(
        self, branch: str, path: str, body: bytes | Upload, metadata: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, str]:
        noted = {f"X-Lakefs-Meta-{name}": text for name, text in {PATH: _mark_of(path), **metadata}.items()}
        return self._client.run(
            f"put {path!r}",
            lambda sdk: self._client.upload(sdk, branch, path, body, {**noted, **headers}),
            missing=f"there is no branch {branch!r}",
        )

    def put_many(self, branch: str, objects: Mapping[str, bytes]) -> None:
        """Stage several small objects, side by side."""
        self._client.each(lambda item: self.put(branch, *item), objects.items())

    def delete(self, branch: str, path: str) -> None:
        """Stage the removal of an object; removing what is not there does nothing."""
        self._client.run(
            f"delete {path!r}",
            lambda sdk: sdk.objects.delete_object(self._name, branch, path),
            missing=f"there is no branch {branch!r}",
        )

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """Commit what is staged on a branch and return the new commit's ID.

        Raises:
            ConflictError: Nothing is staged.
            RaceLostError: Somebody else committed to the branch at the same moment.
            GateFailedError: A hook of the repository refuses it.
            LakeError: Among others, because the connection broke: then it is unknown whether it landed.
        """

        def refused(fault: Fault) -> HeadwaterError | None:
            if fault.status == 400 and "no changes" in fault.text:
                return ConflictError(f"nothing is staged on branch {branch!r}")
            return RaceLostError(f"branch {branch!r} moved while it was committed") if lost_race(fault) else None

        wanted = {"message": message, "metadata": dict(metadata)}
        return self._client.run(
            f"commit on branch {branch!r}",
            lambda sdk: str(sdk.commits.commit(self._name, branch, wanted)["id"]),
            lands=True,
            missing=f"there is no branch {branch!r}",
            meaning=dict.fromkeys((400, 409, 423, 429, 500), refused),
        )

    def merge(
        self, source: str, into: str, message: str, metadata: Mapping[str, str], *, strategy: Strategy = "none"
    ) -> str:
        """Merge the commits of `source` (a branch or commit) into branch `into` and return the merge commit's ID.

        Raises:
            RaceLostError: Both sides changed one path, or `into` moved while it was being merged.
            ConflictError: There is nothing to merge, or something is staged on `into`.
            GateFailedError: A hook of the repository refuses it.
            LakeError: Among others, because the connection broke: then it is unknown whether it landed.
        """
        try:
            return self._merge(source, into, message, metadata, strategy, allow_empty=False)
        except _SameContentError as error:
            theirs = self._resolve(source)
            if self.merge_base(self.head(into), theirs) == theirs:
                raise ConflictError(error.message) from error
        # its commits add up to nothing, but they are commits
        return self._merge(source, into, message, metadata, strategy, allow_empty=True)

    def _merge(
        self,
        source: str,
        into: str,
        message: str,
        metadata: Mapping[str, str],
        strategy: Strategy,
        *,
        allow_empty: bool,
    ) -> str:
        def refused(fault: Fault) -> HeadwaterError | None:
            if fault.status == 400 and "no changes" in fault.text:
                return _SameContentError(f"there is nothing to merge from {source!r} into branch {into!r}")
            if fault.status == 400 and "uncommitted" in fault.text:
                return ConflictError(f"branch {into!r} has staged changes", hint="commit them or delete them first")
            if lost_race(fault):
                return RaceLostError(f"{source!r} and branch {into!r} changed the same objects, or {into!r} moved")
            return None

        wanted = {
            "message": message,
            "metadata": dict(metadata),
            "strategy": _STRATEGIES[strategy],
            "allow_empty": allow_empty,
        }
        return self._client.run(
            f"merge {source!r} into branch {into!r}",
            lambda sdk: str(sdk.refs.merge_into_branch(self._name, source, into, wanted)["reference"]),
            lands=True,
            missing=f"there is no branch {into!r}, or no branch or commit {source!r}",
            meaning=dict.fromkeys((400, 409, 423, 429, 500), refused),
        )

    def claim(self, key: str, value: str, *, on: str | None = None) -> str:
        """Reserve `key` with `value` for the whole lake, at once and for ever; return the value that stands."""
        return self._reservations.claim(key, value)

    def cut(self, sequence: str, value: str, *, after: int = 0, on: str | None = None) -> int:
        """Reserve the lowest free number above `after` in a sequence, at once and for ever, and return it."""
        return self._reservations.cut(sequence, value, after)

    def _start_at_first_commit(self, branch: str) -> None:
        """Make a hidden branch at the repository's first commit, which is empty, unless somebody has just done so."""
        first = self.head(self.default_branch)
        for each in self.log(first, first_parent=True):
            first = each.id
        with suppress(AlreadyExistsError):
            self.create_branch(branch, first, hidden=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Queue behind this machine's other writers of the lake, for 20 s at most."""
        with queue(self.cache / "queue", 20.0):
            yield

    def sweep(self, before: int) -> int:
        """Delete the hidden branches of transactions that began before a time and never ended."""
        names = self._client.pages(
            "list hidden branches",
            lambda sdk, after: sdk.branches.list_branches(
                self._name, prefix=TRANSACTION_PREFIX, after=after, amount=self.page_size, show_hidden=True
            ),
            lambda each: str(each["id"]),
        )
        stale = [name for name in names if micros_of(name.removeprefix(TRANSACTION_PREFIX)) < before]
        for name in stale:
            with suppress(NotFoundError):
                self.delete_branch(name)
        return len(stale)

    # -- reading ------------------------------------------------------------------------------------------------
    def stat(self, ref: str, path: str) -> ObjectInfo:
        """Return an object's size and, where Headwater put it, its sha256."""
        return self._client.stat(self._resolve(ref), path)

    def list(self, ref: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose path begins with `prefix`, in order of the path's UTF-8 bytes."""
        commit = self._resolve(ref)
        return self._client.pages(
            f"list {prefix!r}",
            lambda sdk, after: sdk.objects.list_objects(
                self._name, commit, after=after, amount=self.page_size, prefix=prefix
            ),
            info_of,
            missing=f"there is no commit {commit!r}",
        )

    def open(self, ref: str, path: str) -> BinaryIO:
        """Open an object for streaming reads.

        Raises:
            IntegrityError: While reading: the bytes are not those that were put.
        """
        return io.BufferedReader(self._client.stream(self._resolve(ref), path), CHUNK)

    def read(self, ref: str, path: str) -> bytes:
        """Return the bytes of a small object, checked as `open` does."""
        with self._client.stream(self._resolve(ref), path) as stream:
            return stream.readall()

    def read_many(self, ref: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several small objects, fetched side by side."""
        commit = self._resolve(ref)
        found: dict[str, bytes | None] = dict.fromkeys(paths)

        def fetch(path: str) -> None:
            found[path] = self.read(commit, path)

        self._client.each(fetch, found)
        return cast(dict[str, bytes], found)

    def localize(self, ref: str, paths: Iterable[str]) -> dict[str, Path]:
        """Return local files that hold these objects; read-only, never changed, and valid until `close`.

        A data file of a Delta table never changes, so its copy is found by its path; any other's by its checksum.
        """
        commit = self._resolve(ref)
        found = {path: self._cached(commit, path) for path in paths}

        def fetch(path: str) -> None:
            found[path] = self._download(commit, path)

        self._client.each(fetch, [path for path, local in found.items() if local is None])
        return cast(dict[str, Path], found)

    def _cached(self, commit: str, path: str) -> Path | None:
        if _is_data_file(path):
            return self._files.find("paths", path)
        local = self._localized.get((commit, path))
        return local if local is not None and self._files.is_whole(local) else None

    def _download(self, commit: str, path: str) -> Path:
        with self._client.stream(commit, path) as stream:
            if _is_data_file(path):
                return self._files.store("paths", path, stream, suffix=Path(path).suffix)
            key = f"{stream.etag} {stream.size}"  # the answer's head tells: one call, be it cached or not
            local = self._files.find("checksums", key)
            if local is None:
                local = self._files.store("checksums", key, stream, suffix=Path(path).suffix)
        if len(self._localized) > 10_000:
            self._localized.clear()
        self._localized[commit, path] = local
        return local

    def delta(self, ref: str, path: str) -> tuple[str, dict[str, str]]:
        """Return a URI and storage options with which a stock Delta client opens the table at `path`, as committed."""
        address, credentials = self._client.address, self._client.credentials
        options = {
            "AWS_ENDPOINT_URL": address.endpoint,
            "AWS_ALLOW_HTTP": "true" if address.scheme == "lakefs" else "false",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_REGION": "us-east-1",  # requests are signed with one; the gateway takes any
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        }
        return f"s3://{self._name}/{self._resolve(ref)}/{path}", options

    def close(self) -> None:
        """Let go of connections; later calls may fail."""
        self._client.close()


class _SameContentError(ConflictError):
    """lakeFS sees no changes: the source is merged already, or its commits add up to nothing."""


def _client(url: str, credentials: Credentials | None, patience: Patience | None) -> Client:
    address = Address.parse(url)
    keys = credentials if credentials is not None else load_credentials(os.environ, Path.home())
    return Client(address, keys, patience if patience is not None else Patience())


def _repository(client: Client) -> Answer:
    name = client.address.repository
    answer: Answer = client.run(
        f"open {client.address}",
        lambda sdk: sdk.repositories.get_repository(name),
        missing=f"there is no repository {name!r} at {client.address.endpoint}",
        hint=f"`headwater init {client.address} --storage-namespace NAMESPACE` makes it",
    )
    return answer


def _home(variable: str, usual: str) -> Path:
    """Return the folder for all lakes under one of the XDG base directories."""
    base = os.environ.get(variable)
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / usual) / "headwater" / "lakes"


def _local_name(address: Address, repository: Answer) -> str:
    """Return the name of a repository's local folders; one that is made again under its name gets another."""
    place = f"{address.host}:{address.port} {repository['id']} {repository['creation_date']}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _compare(path: str, arrived: tuple[int, str], size: int, md5: str) -> None:
    checksum = md5_of(arrived[1])
    if arrived[0] != size or (checksum is not None and checksum != md5):
        raise IntegrityError(f"{path!r} did not reach the lake as it was sent", hint="try again")


def _mark_of(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:16]


def _is_hex(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdef")


def _is_data_file(path: str) -> bool:
    return path.startswith("tables/") and "/_delta_log/" not in path


def _commit_of(answer: Answer) -> Commit:
    kept = answer.get("metadata") or {}
    metadata = {name: str(value) for name, value in kept.items() if not name.startswith(".lakefs.")}
    at = metadata.get(AT, "")
    micros = int(at) if at.isdecimal() else int(answer["creation_date"]) * 1_000_000
    return Commit(str(answer["id"]), tuple(answer["parents"]), str(answer["message"]), metadata, micros)
