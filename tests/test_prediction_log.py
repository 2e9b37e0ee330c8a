"""The logger of serving code: nothing that it took is lost or landed twice, whoever dies, and it never waits."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import headwater
from headwater.errors import HeadwaterError, InvalidInputError, LakeError, NotFoundError
from headwater.ids import is_id, micros_of
from headwater.prediction_segments import Segment, leftovers, prediction_frame
from headwater.registry import Registry
from headwater.serving_model import Deployment

SCRIPT = Path(__file__).parent / "processes.py"


@pytest.fixture
def deployment(registry: Registry) -> Deployment:
    Path("artifact").write_text("weights")
    registry.register("m", "artifact")
    return registry.deploy("m/1", "production")


def landed(registry: Registry) -> list[str]:
    rows = registry.sql("SELECT external_id FROM lake.predictions ORDER BY prediction_id").fetchall()
    return [row[0] for row in rows]


def spooled(registry: Registry) -> list[str]:
    folder = registry._context.lake.spool / "predictions"
    return sorted(path.suffix for path in folder.iterdir()) if folder.is_dir() else []


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(5000):
        value = {"a": value}
    return value


# -- logging ----------------------------------------------------------------------------------------------------------
def test_what_is_logged_lands_as_it_was_given(registry: Registry, deployment: Deployment) -> None:
    Path("d.csv").write_text("k\n1\n")
    dataset = registry.add_dataset("d", "d.csv")
    when = datetime(2026, 11, 1, 12, 30, 0, 123456, tzinfo=UTC)
    with registry.predictions(deployment) as log:
        one = log.log(
            input={"origin": "JFK", "hour": 7, "x": np.float32(1.5), "when": when, "n": float("nan"), "t": (1, 2)},
            output=np.int64(1),
            score=0.25,
            latency_ms=3,
            external_id=77,
            predicted_at=when,
        )
        two = log.log(output=True, score=float("nan"), dataset="d@1.0.0", row_key={"k": 1})
        three = log.log(input='{"a": "é\\u0000"}', output=1.0)
        log.outcome(one, 0)
        log.outcome(one, 1)
        assert is_id(one)
        assert micros_of(one) == 1_793_536_200_123_000
        assert log.status().waiting == 5
        log.flush(wait=True)
        status = log.status()
        assert (status.logged, status.landed, status.waiting, status.error) == (5, 5, 0, None)
    found = registry.prediction(one)
    assert found.predicted_at == when
    assert found.input == {
        "origin": "JFK", "hour": 7, "x": 1.5, "when": "2026-11-01T12:30:00.123456Z", "n": "NaN", "t": [1, 2]
    }  # fmt: skip
    assert (found.output, found.score, found.latency_ms, found.external_id) == ("1", 0.25, 3.0, "77")
    assert (found.label, found.name, found.version) == ("1", "m", 1)
    second = registry.prediction(two)
    assert (second.output, second.dataset_id, second.row_key, second.input) == (
        "true",
        dataset.dataset_id,
        {"k": 1},
        None,
    )
    assert second.score != second.score
    assert registry.prediction(three).input == {"a": "é\0"}
    assert registry.prediction(three).output == "1.0"
    assert registry.sql("SELECT rows, source FROM lake.batches ORDER BY rows").fetchall() == [
        (1, "spool"),
        (3, "spool"),
    ]
    assert spooled(registry) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"predicted_at": datetime(2026, 1, 1)}, "time zone"),
        ({"predicted_at": datetime(1960, 1, 1, tzinfo=UTC)}, "before 1970"),
        ({"input": "[1]"}, "not a JSON object"),
        ({"input": "{"}, "can't be kept"),
        ({"input": deep()}, "can't be kept: it is nested too deep"),
        ({"input": '{"a":' * 100_000 + "1" + "}" * 100_000}, "can't be kept: it is nested too deep"),
        ({"output": deep()}, "can't be kept: it is nested too deep"),
        ({"score": "high"}, "can't be kept"),
        ({"external_id": "a\0"}, "not text"),
        ({"external_id": "\ud800"}, "can't be kept"),
        ({"dataset": "none@1.0.0"}, "there is no dataset none"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_can_not_be_kept_is_refused_and_the_logger_goes_on(
    registry: Registry, deployment: Deployment, given: dict[str, Any], said: str
) -> None:
    with registry.predictions(deployment) as log:
        with pytest.raises(HeadwaterError, match=said):
            log.log(**given)
        with pytest.raises(InvalidInputError, match="not a prediction's ID"):
            log.outcome("x", 1)
        with pytest.raises(InvalidInputError, match="needs a label"):
            log.outcome(deployment.deployment_id, None)
        with pytest.raises(InvalidInputError, match="the outcome can't be kept: it is nested too deep"):
            log.outcome(deployment.deployment_id, deep())
        log.log(external_id="fine")
    assert landed(registry) == ["fine"]
    with pytest.raises(LakeError, match="is closed"):
        log.log()
    with pytest.raises(NotFoundError, match="no deployment"):
        registry.predictions("none")
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        registry.at("main").predictions(deployment)
    with pytest.raises(InvalidInputError, match="above 0"):
        registry.predictions(deployment, flush_rows=0)


def test_threads_share_a_logger(registry: Registry, deployment: Deployment) -> None:
    ids: list[str] = []
    with registry.predictions(deployment, flush_rows=500) as log:

        def work(number: int) -> None:
            ids.extend(log.log(external_id=f"{number}-{each}") for each in range(1000))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(ids)) == 4000
    assert sorted(landed(registry)) == sorted(f"{number}-{each}" for number in range(4) for each in range(1000))
    assert registry.sql("SELECT sum(rows) FROM lake.batches").fetchall()[0][0] == 4000


def test_it_lands_by_itself_after_its_interval(registry: Registry, deployment: Deployment) -> None:
    with registry.predictions(deployment, flush_interval=0.2) as log:
        log.log(external_id="a")
        deadline = time.monotonic() + 30
        while log.status().landed < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert landed(registry) == ["a"]


def test_closing_the_registry_closes_its_loggers(registry_url: str, registry: Registry, deployment: Deployment) -> None:
    with headwater.open(registry_url) as opened:
        log = opened.predictions(deployment.deployment_id, fsync_interval=0)
        log.log(external_id="a")
        log.log(predicted_at=datetime.now(UTC) - timedelta(days=1), external_id="b")
    assert landed(registry) == ["b", "a"]


@pytest.mark.timeout(60)
def test_flushing_a_logger_that_is_closed_returns_or_says_so(
    registry: Registry, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = registry.predictions(deployment)
    log.log(external_id="a")
    log.close()
    log.flush(wait=True)
    again = registry.predictions(deployment)
    again.log(external_id="b")
    with monkeypatch.context() as patch:
        patch.setattr("headwater.prediction_log.land", lambda *_: (_ for _ in ()).throw(LakeError("gone")))
        with pytest.raises(LakeError, match="gone"):
            again.close()
    with pytest.raises(InvalidInputError, match="the logger is closed, and 1 predictions"):
        again.flush(wait=True)


@pytest.mark.timeout(60)
def test_closing_while_others_flush_leaves_none_of_them_waiting(registry: Registry, deployment: Deployment) -> None:
    log = registry.predictions(deployment)
    log.log(external_id="a")
    unexpected: list[BaseException] = []

    def flush() -> None:
        try:
            for _ in range(200):
                log.flush(wait=True)
        except HeadwaterError as error:
            unexpected.append(error)

    threads = [threading.Thread(target=flush, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    log.close()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert (unexpected, landed(registry)) == ([], ["a"])


def test_a_logger_writes_to_its_branch(registry: Registry, deployment: Deployment) -> None:
    exp = registry.create_branch("exp")
    with exp.predictions(deployment) as log:
        log.log(external_id="a")
    assert (landed(registry), landed(exp)) == ([], ["a"])


# -- what others leave ------------------------------------------------------------------------------------------------
def result(*arguments: object) -> Any:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_process_killed_at_any_moment_loses_nothing_and_lands_nothing_twice(
    registry: Registry, deployment: Deployment, registry_url: str, is_remote_url: bool
) -> None:
    told = result("kill_while_predicting", registry_url, deployment.deployment_id, 12 if is_remote_url else 40, 0.3, 1)
    assert told["killed"] == (12 if is_remote_url else 40)
    said = [line for path in told["files"] for line in Path(path).read_text().splitlines() if line.endswith(";")]
    with registry.predictions(deployment) as log:
        log.flush(wait=True)
        assert log.status().error is None
    found = Counter(row[0] for row in registry.sql("SELECT prediction_id FROM lake.predictions").fetchall())
    assert len(said) > 100
    assert {line.rstrip(";") for line in said} <= found.keys()
    assert set(found.values()) == {1}
    assert spooled(registry) == []
    rows = registry.sql("SELECT sum(rows), (SELECT count(*) FROM lake.predictions) FROM lake.batches").fetchall()
    assert rows[0][0] == rows[0][1]


@pytest.fixture
def is_remote_url(registry_url: str) -> bool:
    return registry_url.startswith("lakefs")


def left_behind(registry: Registry, deployment: Deployment, names: list[str]) -> Path:
    """Leave a segment as a process would that died."""
    about = {
        "deployment_id": deployment.deployment_id, "version_id": deployment.version_id, "branch": "main", "actor": "x"
    }  # fmt: skip
    segment = Segment.create(registry._context.lake.spool / "predictions", about)
    for number, name in enumerate(names):
        octets = (0x19A00000000 + number << 80 | 0x7 << 76 | 0x8 << 60 | random.getrandbits(60)).to_bytes(16, "big")
        segment.append(
            prediction_frame(octets, 1_760_000_000_000_000, 0.5, None, (name.encode(), b"o", b"{}", None, None))
        )
    segment.release()
    return segment.path


def test_a_torn_end_is_left_out(registry: Registry, deployment: Deployment) -> None:
    path = left_behind(registry, deployment, ["a", "b", "c"])
    os.truncate(path, path.stat().st_size - 3)
    again = left_behind(registry, deployment, ["d"])
    with again.open("ab") as stream:
        stream.write(bytes(100))
    empty = left_behind(registry, deployment, [])
    os.truncate(empty, 5)
    with registry.predictions(deployment):
        pass
    assert sorted(landed(registry)) == ["a", "b", "d"]
    assert spooled(registry) == []


def test_what_is_damaged_is_kept_for_a_person(registry: Registry, deployment: Deployment) -> None:
    path = left_behind(registry, deployment, ["a", "b", "c"])
    body = bytearray(path.read_bytes())
    body[-150] ^= 1
    path.write_bytes(body)
    with registry.predictions(deployment):
        pass
    assert "c" not in landed(registry)
    assert spooled(registry) == [".damaged"]


def test_what_is_longer_than_can_be_read_back_is_refused(registry: Registry, deployment: Deployment) -> None:
    with registry.predictions(deployment) as log:
        kept = log.log(external_id="a")
        with pytest.raises(InvalidInputError, match=r"takes 67,108,9\d\d bytes, and the most is 67,108,864"):
            log.log(output="x" * (64 << 20))
        with pytest.raises(InvalidInputError, match="the outcome can't be kept"):
            log.outcome(kept, "x" * (64 << 20))
        log.log(external_id="b")
        assert log.status().logged == 2
    assert landed(registry) == ["a", "b"]


@pytest.mark.parametrize("too_long", [True, False])
def test_what_stops_at_a_frame_that_is_there_in_full_is_kept(
    registry: Registry, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, too_long: bool
) -> None:
    path = left_behind(registry, deployment, ["a", "b" * 500, "c"])
    body = path.read_bytes()
    monkeypatch.setattr("headwater.prediction_segments._LONGEST", 400 if too_long else 64 << 20)
    if not too_long:
        path.write_bytes(body[:-1] + b"?")  # the last frame
    with registry.predictions(deployment) as log:
        log.flush(wait=True)
        assert "is damaged" in (log.status().error or "")
    assert sorted(landed(registry)) == (["a"] if too_long else ["a", "b" * 500])
    assert spooled(registry) == [".damaged"]


def test_what_can_not_be_landed_does_not_stand_in_the_way(registry: Registry, deployment: Deployment) -> None:
    folder = registry._context.lake.spool / "predictions"
    whole = {
        "deployment_id": deployment.deployment_id, "version_id": deployment.version_id, "branch": "main", "actor": "x"
    }  # fmt: skip
    for about, name in (({"branch": "main"}, b"a"), (whole, b"\xff")):
        segment = Segment.create(folder, about)
        segment.append(prediction_frame(bytes(16), 1, None, None, (name, None, None, None, None)))
        segment.release()
    short = Segment.create(folder, whole)
    short.append(struct.pack("<IIB", 3, crc32(b"abc", 1), 1) + b"abc")
    short.release()
    left_behind(registry, deployment, ["left"])
    with registry.predictions(deployment) as log:
        log.log(external_id="new")
        log.flush(wait=True)
        assert "can't be landed, and is now" in (log.status().error or "")
    assert sorted(landed(registry)) == ["left", "new"]
    assert spooled(registry) == [".damaged"] * 3


def test_a_segment_that_was_never_finished_is_cleared_away(registry: Registry, deployment: Deployment) -> None:
    path = left_behind(registry, deployment, ["a"])
    path.rename(path.with_suffix(".new"))
    with registry.predictions(deployment):
        pass
    assert landed(registry) == []
    assert spooled(registry) == []


def test_a_segment_that_landed_before_its_writer_died_lands_once(registry: Registry, deployment: Deployment) -> None:
    path = left_behind(registry, deployment, ["a"])
    body = path.read_bytes()
    for _ in range(2):
        path.write_bytes(body)
        with registry.predictions(deployment):
            pass
    path.write_bytes(body)
    registry.log_predictions(_table(), deployment)
    assert sorted(landed(registry)) == ["a", "t"]
    assert spooled(registry) == []


def _table() -> Any:
    import pyarrow as pa

    return pa.table({"id": ["t"]})


def test_a_segment_of_a_process_that_lives_is_left_alone(registry: Registry, deployment: Deployment) -> None:
    with registry.predictions(deployment) as log:
        log.log(external_id="a")
        folder = registry._context.lake.spool / "predictions"
        assert list(leftovers(folder)) == []
        with registry.predictions(deployment) as other:
            other.flush(wait=True)
        assert landed(registry) == []
    assert landed(registry) == ["a"]


def test_what_a_branch_that_is_gone_left_stays_in_the_spool(registry: Registry, deployment: Deployment) -> None:
    path = left_behind(registry, deployment, ["a"])
    body = path.read_bytes()
    about = body[9 : 9 + struct.unpack_from("<I", body)[0]]
    assert json.loads(about)["branch"] == "main"
    exp = registry.create_branch("exp")
    with exp.predictions(deployment) as log:
        log.log(external_id="b")
        registry._context.lake.delete_branch("exp")
        with pytest.raises(LakeError, match="1 predictions are in the spool and not in the lake"):
            log.flush(wait=True)
        assert log.status().waiting == 1
        assert log.status().error is not None
        log.log(external_id="c")
        with pytest.raises(LakeError, match="2 predictions"):
            log.close()
    assert sorted(landed(registry)) == ["a"]
    registry._context.lake.create_branch("exp", registry.head)
    with registry.predictions(deployment) as log:
        log.flush(wait=True)
    assert sorted(landed(registry.branch("exp"))) == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_parent_and_child_go_on_apart(registry: Registry, deployment: Deployment) -> None:
    log = registry.predictions(deployment)
    log.log(external_id="before")
    child = os.fork()
    if child == 0:
        try:
            log.log(external_id="child")
            status = log.status()
            os.kill(os.getpid(), signal.SIGKILL if (status.logged, status.waiting) == (1, 1) else signal.SIGTERM)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    log.log(external_id="parent")
    log.close()
    assert {"before", "parent"} <= set(landed(registry))
    with registry.predictions(deployment):
        pass
    assert sorted(landed(registry)) == ["before", "child", "parent"]


def test_a_full_disk_is_one_sentence_and_keeps_what_was_logged(
    registry: Registry, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    with registry.predictions(deployment) as log:
        log.log(external_id="a")
        monkeypatch.setattr("headwater.prediction_segments.os.write", full)
        with pytest.raises(LakeError, match="No space left") as caught:
            log.log(external_id="b")
        assert "free some space" in caught.value.hint
        monkeypatch.undo()
        log.log(external_id="c")
    assert landed(registry) == ["a", "c"]
