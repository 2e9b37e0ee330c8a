"""A lake in a repository of a lakeFS server, and its S3 gateway for Delta clients; knows nothing of models.

What lakeFS does is taken from its documentation and from trying version 1.84. Facts that the code rests on: a branch
and a tag cannot have one name (409 both ways); a merge commit's parents are the destination's head, then the source's;
the log has every commit before its parents; a lost race is a 409, a 423, a 429, or a 500 that says "predicate failed".
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    RaceLostError,
)
from headwater.ids import micros_of, now_micros
from headwater.lake.base import (
    ABANDONED,
    CHUNK,
    IMPORT_PREFIX,
    REHEARSAL_ABANDONED,
    REHEARSAL_PREFIX,
    TRANSACTION_PREFIX,
    Garbage,
    Importer,
    Mentions,
    ObjectInfo,
    Reservation,
    Retention,
    Source,
    Strategy,
    check_path,
)
from headwater.lake.lakefs_address import Address, Credentials, load_credentials
from headwater.lake.lakefs_cache import FileCache
from headwater.lake.lakefs_client import PATH, SHA256, Answer, Client, Sdk, info_of
from headwater.lake.lakefs_history import LakeFSHistory
from headwater.lake.lakefs_http import Fault, Patience, lost_race, status_fault
from headwater.lake.lakefs_import import LakeFSImport, move_branch
from headwater.lake.lakefs_reservations import Reservations
from headwater.lake.lakefs_streams import Upload, md5_of
from headwater.lake.queue import queue

__all__ = ["Credentials", "LakeFS", "Patience", "load_credentials"]

_DELETED_AT_ONCE = 1000

_STRATEGIES: Mapping[Strategy, str | None] = {"none": None, "ours": "dest-wins", "theirs": "source-wins"}


class LakeFS(LakeFSHistory):
    """A lake in a lakeFS repository. See `headwater.lake.base.Lake` for what the methods mean.

    Use `create` or `connect`.
    """

    def __init__(self, client: Client, repository: Answer) -> None:
        name = _local_name(client.address, repository)
        self.cache = _home("XDG_CACHE_HOME", ".cache") / name
        super().__init__(client, self.cache)
        self.url = str(client.address)
        self.default_branch = str(repository["default_branch"])
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

    # -- writing ------------------------------------------------------------------------------------------------
    def put(self, branch: str, path: str, source: Source) -> ObjectInfo:
        """Stage an object, streamed in bounded memory, and return its size and sha256.

        Raises:
            IntegrityError: Other bytes reached the server, or a file changed while it was read.
        """
        check_path(path)
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

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Stage the removal of several objects, a thousand a call."""
        left = list(paths)
        while left:
            wanted = {"paths": left[:_DELETED_AT_ONCE]}
            left = left[_DELETED_AT_ONCE:]
            self._client.run(
                "delete objects",
                partial(_delete_objects, self._name, branch, wanted),
                missing=f"there is no branch {branch!r}",
            )

    def restore(self, branch: str, commit: str, paths: Iterable[str]) -> None:
        """Stage objects as they are at a commit: their bytes are fetched and put again."""

        def again(path: str) -> None:
            with self.open(commit, path) as stream:
                self.put(branch, path, stream)

        self._client.each(again, paths)

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

    def claimed(self, key: str) -> str | None:
        """Return the value that a key is reserved with, in one call."""
        return self._reservations.claimed(key)

    def newest(self, sequence: str) -> int:
        """Return the highest number of a sequence that is reserved, in two calls."""
        return self._reservations.newest(sequence, self.page_size)

    def reservations(self) -> dict[Reservation, str]:
        """Return every claim and number of the repository."""
        return self._reservations.all(self.page_size)

    def reserve(self, wanted: Mapping[Reservation, str]) -> dict[Reservation, str]:
        """Reserve what another lake has reserved, at once and for ever."""
        return self._reservations.adopt(wanted)

    @contextmanager
    def importing(self) -> Iterator[Importer]:
        """Copy commits of another lake, on hidden branches of their own, which stay if this fails or dies."""
        importer = LakeFSImport(self, self._client)
        yield importer
        importer.finish()

    def move_branch(self, name: str, commit: str, *, expected: str, over: bool = False) -> str:
        """Merge a commit into a branch, if that is where it was expected. See `headwater.lake.lakefs_import`."""
        return move_branch(self, name, commit, expected, over=over)

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

    def sweep(self, before: int, *, rehearsals: int | None = None) -> int:
        """Delete the hidden branches of writers of all kinds that began before a time and never ended."""
        stale = self._stale(before, before if rehearsals is None else rehearsals)
        for name in stale:
            with suppress(NotFoundError):
                self.delete_branch(name)
        return len(stale)

    def _stale(self, before: int, rehearsals: int) -> list[str]:
        """Return the hidden branches of transactions, rehearsals and imports that began before a time."""
        return [
            name
            for prefix, limit in ((TRANSACTION_PREFIX, before), (REHEARSAL_PREFIX, rehearsals), (IMPORT_PREFIX, before))
            for name in self._hidden(prefix)
            if micros_of(name.removeprefix(prefix)) < limit
        ]

    def collect(self, before: int, mentions: Mentions, confirm: Callable[[Garbage], bool]) -> Garbage:
        """Delete the hidden branches of dead writers; all else is left to the server's own collection."""
        # However short the grace period is: another writer's branch of this day may be at work.
        rehearsals = min(before, now_micros() - REHEARSAL_ABANDONED)
        before = min(before, now_micros() - ABANDONED)
        found = Garbage(hidden=len(self._stale(before, rehearsals)))
        return Garbage(hidden=self.sweep(before, rehearsals=rehearsals)) if confirm(found) else found

    def retention(self) -> Retention | None:
        """Return the repository's rules of garbage collection; None where there are none."""
        try:
            found = self._client.run(
                "read the rules of garbage collection",
                lambda sdk: sdk.repositories.get_gc_rules(self._name),
                missing="there are no rules of garbage collection",
            )
        except NotFoundError:
            return None
        days = {str(each["branch_id"]): int(each["retention_days"]) for each in found["branches"] or ()}
        return Retention(days, int(found["default_retention_days"]))

    def _hidden(self, prefix: str) -> Iterator[str]:
        return self._client.pages(
            "list hidden branches",
            lambda sdk, after: sdk.branches.list_branches(
                self._name, prefix=prefix, after=after, amount=self.page_size, show_hidden=True
            ),
            lambda each: str(each["id"]),
        )

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

    def places(self, ref: str, sizes: Mapping[str, int]) -> dict[str, Path]:
        """Return where `localize` puts data files of tables, which need not be there yet; asks no server."""
        return {path: self._files.path("paths", path, size, suffix=Path(path).suffix) for path, size in sizes.items()}

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


def _delete_objects(repository: str, branch: str, wanted: Mapping[str, list[str]], sdk: Sdk) -> None:
    answer = sdk.objects.delete_objects(repository, branch, wanted)
    for failed in answer.get("errors") or []:
        if failed["status_code"] != 404:
            # Each object has a status of its own, in an answer that is a success as a whole.
            said = json.dumps({"message": f"{failed.get('path')!r}: {failed['message']}"})
            raise status_fault(int(failed["status_code"]), said, None, secret="")


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


def _is_data_file(path: str) -> bool:
    return path.startswith("tables/") and "/_delta_log/" not in path
