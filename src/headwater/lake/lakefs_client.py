"""Calls to a lakeFS server, made again where that is safe, failing as our errors do; knows nothing of the lake port.

The only module that imports lakefs_sdk. Every error of the SDK's, and of urllib3 below it, passes `Client.faults`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from lakefs_sdk.api.branches_api import BranchesApi
from lakefs_sdk.api.commits_api import CommitsApi
from lakefs_sdk.api.experimental_api import ExperimentalApi
from lakefs_sdk.api.objects_api import ObjectsApi
from lakefs_sdk.api.refs_api import RefsApi
from lakefs_sdk.api.repositories_api import RepositoriesApi
from lakefs_sdk.api.tags_api import TagsApi
from lakefs_sdk.api_client import ApiClient
from lakefs_sdk.configuration import Configuration
from lakefs_sdk.exceptions import ApiException

from headwater.errors import HeadwaterError, NotFoundError
from headwater.lake.base import ObjectInfo
from headwater.lake.lakefs_address import Address, Credentials
from headwater.lake.lakefs_http import Fault, Patience, error_of, network_fault, status_fault
from headwater.lake.lakefs_streams import Download, Upload, md5_of

__all__ = ["PATH", "SHA256", "Answer", "Client", "Sdk", "info_of"]

T = TypeVar("T")

SHA256 = "headwater-sha256"
"""User metadata of an object: the sha256 of its bytes."""

PATH = "headwater-path"
"""User metadata of an object: a mark of its path, so that equal bytes at two paths are two things to lakeFS.

Else a merge of lakeFS 1.84 loses an update (tried): where both sides added one path, and one side's bytes equal those
of the next path in their base, it sees no conflict and keeps the other side's. Metadata take part in what it compares.
"""

_THREADS = 16
"""More than there are processors, because a call mostly waits: 8 put 690 objects a second, 24 put 1,680 (measured)."""
_OURS = {"Accept": "application/json", "Content-Type": "application/octet-stream"}


class Answer(dict[str, Any]):
    """A JSON object of lakeFS's. Where a field is missing, whatever answered is no lakeFS server."""

    def __missing__(self, key: str) -> Any:
        raise Fault(0, f"the answer lacks {key!r}, so it is not a lakeFS server's", hint="check the URL", final=True)


def _parse(body: str | bytes) -> Answer:
    try:
        content = json.loads(body, object_hook=Answer)
    except ValueError:
        content = None
    if not isinstance(content, Answer):
        raise Fault(0, "the answer is not JSON, so it is not a lakeFS server's", hint="check the URL", final=True)
    return content


def _commit_id(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text.strip()):
        raise Fault(0, "the answer is no commit ID, so it is not a lakeFS server's", hint="check the URL", final=True)
    return text.strip()


def info_of(answer: Answer) -> ObjectInfo:
    """Return what an answer says of an object."""
    sha256 = (answer.get("metadata") or {}).get(SHA256)
    return ObjectInfo(str(answer["path"]), int(answer["size_bytes"]), str(sha256) if sha256 else None)


class _PlainClient(ApiClient):
    """The SDK's client with our time-outs, whose calls return the JSON as it is: models of it would cost more."""

    def __init__(self, configuration: Configuration, patience: Patience) -> None:
        super().__init__(configuration)
        self._timeout = patience.connect, patience.read

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        # the SDK looks at no answer of which it documents nothing: it might be the page of a proxy
        kinds = kwargs["response_types_map"]
        success = next((kind for status, kind in kinds.items() if status.startswith("2") and kind), "nothing")
        kwargs["response_types_map"] = {**kinds, "2XX": success}
        return super().call_api(*args, **kwargs)  # type: ignore[no-untyped-call]

    def request(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().request(*args, **{**kwargs, "_request_timeout": self._timeout})  # type: ignore[no-untyped-call]
        except ApiException as error:
            if error.body:  # the SDK will decode it, whatever it is
                error.body = error.body.decode("utf-8", "replace").encode()
            raise

    def deserialize(self, response: Any, response_type: str) -> Any:
        if response_type == "nothing" and not response.data:
            return None
        return _commit_id(response.data) if response_type == "str" else _parse(response.data)


class Sdk:
    """The SDK's APIs, and what one process holds for them: neither connections nor threads outlive a fork."""

    def __init__(self, address: Address, credentials: Credentials, patience: Patience) -> None:
        configuration = Configuration(
            host=f"{address.endpoint}/api/v1",
            username=credentials.access_key_id,
            password=credentials.secret_access_key,
        )
        configuration.connection_pool_maxsize = 2 * _THREADS
        configuration.retries = False  # type: ignore[assignment]  # urllib3 makes none of its own: `Patience` decides
        client = _PlainClient(configuration, patience)
        self.branches: Any = BranchesApi(client)
        self.commits: Any = CommitsApi(client)
        self.experimental: Any = ExperimentalApi(client)
        self.objects: Any = ObjectsApi(client)
        self.refs: Any = RefsApi(client)
        self.repositories: Any = RepositoriesApi(client)
        self.tags: Any = TagsApi(client)
        self.pid = os.getpid()
        self.base = configuration.host
        keys = f"{credentials.access_key_id}:{credentials.secret_access_key}"
        self.authorization = urllib3.make_headers(basic_auth=keys)
        self.pool: urllib3.PoolManager = client.rest_client.pool_manager
        self.threads = ThreadPoolExecutor(_THREADS, "headwater-lakefs")


class Client:
    """The API of one repository.

    Args:
        address: Where it is.
        credentials: The keys.
        patience: How long the server is waited for.
    """

    def __init__(self, address: Address, credentials: Credentials, patience: Patience) -> None:
        self.address = address
        self.credentials = credentials
        self.patience = patience
        self._sdk = Sdk(address, credentials, patience)

    @property
    def sdk(self) -> Sdk:
        """The SDK, with connections of this process."""
        if self._sdk.pid != os.getpid():
            self._sdk = Sdk(self.address, self.credentials, self.patience)
        return self._sdk

    def close(self) -> None:
        """Let go of threads and connections."""
        self._sdk.threads.shutdown()
        self._sdk.pool.clear()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn whatever the SDK and urllib3 raise for a call into a `Fault`."""
        try:
            yield
        except ApiException as error:
            if not error.status:  # so the SDK says that TLS failed
                reason = urllib3.exceptions.SSLError(error.reason)
                raise network_fault(reason, self.address.endpoint, self.patience) from error
            raise self._status_fault(error.status, error.body, error.headers) from error
        except urllib3.exceptions.HTTPError as error:
            raise network_fault(error, self.address.endpoint, self.patience) from error
        except UnicodeDecodeError as error:  # the SDK decodes every answer
            raise Fault(0, "the answer is not text, so it is not a lakeFS server's", hint="check the URL") from error

    def _status_fault(self, status: int, body: bytes | str | None, headers: Mapping[str, str] | None) -> Fault:
        return status_fault(status, body, headers, secret=self.credentials.secret_access_key)

    def run(
        self,
        what: str,
        call: Callable[[Sdk], T],
        *,
        lands: bool = False,
        missing: str = "",
        hint: str = "",
        meaning: Mapping[int, Callable[[Fault], HeadwaterError | None]] | None = None,
        echo: tuple[int, Callable[[], T | None]] | None = None,
    ) -> T:
        """Make a call, again if that is safe and may help, and raise our error if it does not succeed.

        Args:
            what: What the call does, as in "cannot …".
            call: The call.
            lands: It is a commit or a merge: never made again if it may have landed.
            missing: What to say for a 404.
            hint: What to do about a 404.
            meaning: What a status means to this call; None from it means what it means to all.
            echo: A status with which the server may answer because it has done what an attempt before asked, though
                its answer was lost, and a function that looks and returns the result if so.
        """
        since = time.monotonic()
        attempt = 1
        doubtful = False
        while True:
            try:
                with self.faults():
                    return call(self.sdk)
            except Fault as fault:
                if doubtful and echo is not None and fault.status == echo[0]:
                    result = echo[1]()
                    if result is not None:
                        return result
                special = meaning[fault.status](fault) if meaning and fault.status in meaning else None
                if special is not None:
                    raise special from fault
                if fault.status == 404 and missing:
                    raise NotFoundError(missing, hint=hint) from fault
                attempt += 1
                pause = self.patience.before(attempt, fault, since=since, repeatable=not lands)
                if pause is None:
                    raise error_of(fault, what, lands=lands) from fault
                doubtful = doubtful or not fault.refused
            time.sleep(pause)

    def pages(
        self, what: str, call: Callable[[Sdk, str], Answer], convert: Callable[[Answer], T], *, missing: str = ""
    ) -> Iterator[T]:
        """Yield the entries of a list, asking for the next page when the one before has been used up."""
        after: str | None = ""
        while after is not None:
            entries, after = self._page(what, call, convert, after, missing)
            yield from entries

    def _page(
        self, what: str, call: Callable[[Sdk, str], Answer], convert: Callable[[Answer], T], after: str, missing: str
    ) -> tuple[list[T], str | None]:
        def fetch(sdk: Sdk) -> tuple[list[T], str | None]:
            page = call(sdk, after)
            pagination = page["pagination"]
            following = str(pagination["next_offset"]) if pagination["has_more"] else None
            return [convert(each) for each in page["results"]], following

        return self.run(what, fetch, missing=missing)

    def each(self, call: Callable[[T], object], items: Iterable[T]) -> None:
        """Make a call for each item, side by side; when one fails no more are begun, and none is left behind."""
        todo = list(items)
        if len(todo) <= 1:
            for item in todo:
                call(item)
            return
        futures = [self.sdk.threads.submit(call, item) for item in todo]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
        for future in futures:
            if not future.cancelled():
                future.result()

    # -- bytes --------------------------------------------------------------------------------------------------
    # Not by the SDK's own methods: they hold a whole object in memory, twice, and drop one that is empty.

    def upload(
        self, sdk: Sdk, branch: str, path: str, body: bytes | Upload, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        """Send an object and return the size and the checksum that arrived: one attempt, to be made in `run`."""
        resource = f"branches/{quote(branch, safe='')}/objects"
        try:
            with self.faults():
                response = self._request(sdk, "POST", resource, path, {**_OURS, **headers}, body=body)
        except Fault as fault:
            if isinstance(body, Upload):
                if body.error is not None:
                    raise body.error from None
                fault.final = fault.final or body.is_spent  # another attempt would put what is left: nothing
            raise
        answer = _parse(response.data)
        return int(answer["size_bytes"]), str(answer["checksum"])

    def stream(self, ref: str, path: str) -> Download:
        """Open an object. `ref` may be a branch, with what is staged on it."""
        what = f"read {path!r}"
        resource = f"refs/{quote(ref, safe='')}/objects"

        def fetch(offset: int) -> urllib3.BaseHTTPResponse:
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}

            def call(sdk: Sdk) -> urllib3.BaseHTTPResponse:
                response = self._request(sdk, "GET", resource, path, headers)
                if "ETag" not in response.headers or (offset and response.status != 206):
                    response.close()
                    raise Fault(0, "the answer is not a lakeFS server's", hint="check the URL", final=True)
                return response

            return self.run(what, call, missing=f"there is no object {path!r} at {ref!r}")

        stream = Download(
            repr(path),
            fetch,
            faults=self.faults,
            attempts=self.patience.attempts,
            pause=self.patience.pause,
            give_up=lambda fault: error_of(fault, what),
        )
        if md5_of(stream.etag) is None:  # put in parts, through the gateway: our own metadata may know better
            stream.sha256 = self.stat(ref, path).sha256
        return stream

    def stat(self, ref: str, path: str) -> ObjectInfo:
        """Return what lakeFS knows of an object. `ref` may be a branch, with what is staged on it."""
        return self.run(
            f"look at {path!r}",
            lambda sdk: info_of(sdk.objects.stat_object(self.address.repository, ref, path)),
            missing=f"there is no object {path!r} at {ref!r}",
        )

    def _request(
        self,
        sdk: Sdk,
        method: str,
        resource: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | Upload | None = None,
    ) -> urllib3.BaseHTTPResponse:
        query = urlencode({"path": path}, quote_via=quote)
        response = sdk.pool.request(
            method,
            f"{sdk.base}/repositories/{self.address.repository}/{resource}?{query}",
            body=body,
            headers={**sdk.authorization, **headers},
            timeout=self.patience.timeout,
            preload_content=method != "GET",
            decode_content=False,
        )
        if response.status not in (200, 201, 206):
            raise self._status_fault(response.status, response.data, response.headers)
        return response
