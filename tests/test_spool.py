"""The spool file: frames, owners, torn tails; and conditions on runs; no lake."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import frames
from headwater.errors import InvalidInputError, LakeError
from headwater.prediction_segments import Segment
from headwater.spool import Spool, is_owned
from headwater.where import rewritten


def test_frames_come_back_in_order_and_a_living_owner_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.spool"
    spool = Spool.create(path, {"run_id": "x"})
    assert [spool.append(bytes([number]) * number) for number in range(1, 5)] == [1, 2, 3, 4]
    spool.sync()
    assert is_owned(path)
    assert Spool.take(path) is None
    assert spool.frames(0, 1 << 20) == [(n, bytes([n]) * n) for n in range(1, 5)]
    assert [number for number, _ in spool.frames(2, 1 << 20)] == [3, 4]
    assert [number for number, _ in spool.frames(0, 1)] == [1]
    spool.close()
    assert not is_owned(path)
    taken = Spool.take(path)
    assert taken is not None
    assert (taken.about, taken.last) == ({"run_id": "x"}, 4)
    taken.remove()
    assert not path.exists()
    assert Spool.take(path) is None


def test_dropping_empties_the_file_and_numbers_go_on(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "a.spool", {})
    empty = spool.path.stat().st_size
    spool.append(b"one")
    spool.append(b"two")
    spool.drop(1)
    assert [number for number, _ in spool.frames(1, 1 << 20)] == [2]
    spool.drop(2)
    assert spool.path.stat().st_size == empty
    assert spool.append(b"three") == 3
    assert spool.frames(0, 1 << 20) == [(3, b"three")]
    spool.close()


@pytest.mark.parametrize("kind", ["spool", "segment"])
def test_what_the_disk_failed_to_keep_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    owned = Spool.create(tmp_path / "a.spool", {}) if kind == "spool" else Segment.create(tmp_path, {})
    owned.append(b"one")
    failing = True
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):
        with pytest.raises((OSError, LakeError)):
            owned.sync()
    failing = False
    owned.sync()
    owned.sync()
    assert calls == 3


@given(cut=st.integers(1, 60), noise=st.binary(max_size=50))
def test_whatever_the_tail_is_whole_frames_survive(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("spool") / "a.spool"
    spool = Spool.create(path, {"a": 1})
    ends = [path.stat().st_size]
    for number in range(4):
        spool.append(b"payload" * number)
        ends.append(path.stat().st_size)
    spool.close()
    body = path.read_bytes()[: ends[-1] - cut]
    path.write_bytes(body + noise)
    taken = Spool.take(path)
    assert taken is not None
    whole = sum(end <= len(body) for end in ends[1:])
    found = taken.frames(0, 1 << 20)
    assert found[:whole] == [(number + 1, b"payload" * number) for number in range(whole)]
    assert len(found) == whole or body + noise != body  # noise may complete a frame, never break one
    taken.close()


def test_a_forked_process_does_not_keep_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.spool"
    spool = Spool.create(path, {})
    ready, say_ready = os.pipe()
    wait, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(let_go)
        os.write(say_ready, b".")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    spool.close()
    owned = is_owned(path)
    for each in (ready, say_ready, wait, let_go):
        os.close(each)
    os.waitpid(child, 0)
    assert not owned


def test_points_and_columns_come_back_by_key_in_the_order_in_which_they_were_logged() -> None:
    series: list[frames.Series] = [("loss", "", None), ("auc", "a=b", "D")]
    body = [
        frames.columns([series[0]], 2, None, [b"\0" * 16]),
        frames.points([(1, -1, 0.5), (0, 3, 0.25)], series),
        frames.changes(params={"a": "1"}, inputs=["x"]),
        frames.changes(params={"a": "2"}, inputs=["x", "y"], tags={"t": None}, end={"status": "failed"}),
    ]
    found = frames.Content.read(body)
    assert (found.params, found.inputs, found.tags, found.end) == (
        {"a": "1"},
        ["x", "y"],
        {"t": None},
        {"status": "failed"},
    )
    columns = found.metrics("R")
    assert columns is not None
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "ordinal": [0, 1, 2, 3],
        "run_id": ["R"] * 4,
        "key": ["auc", "loss", "loss", "loss"],
        "step": [None, None, None, 3],
        "value": [0.5, 0.0, 0.0, 0.25],
        "slice": ["a=b", "", "", ""],
        "dataset_id": ["D", None, None, None],
        "source": ["claimed"] * 4,
    }
    assert frames.Content.read([]).metrics("R") is None


@pytest.mark.parametrize(
    ("condition", "sql"),
    [
        ("metrics.auc > 0.7", "(nullif(metrics['auc'], 'NaN'::DOUBLE) > 0.7)"),
        ("params.depth = '6'", "(params['depth'] = '6')"),
        ('metrics."val/auc" > 1', "(nullif(metrics['val/auc'], 'NaN'::DOUBLE) > 1)"),
        ('tags."o\'k" = 1', "(tags['o''k'] = 1)"),
        ("name = 'metrics.auc'", "(name = 'metrics.auc')"),
        ("code.commit = 'params.x'", "(code.commit = 'params.x')"),
        ("code.metrics.auc = 1", "(code.metrics.auc = 1)"),
        ("name = '\\' or name = 'x'", "(name = '\\' or name = 'x')"),
        ("METRICS.auc>1", "(nullif(metrics['auc'], 'NaN'::DOUBLE)>1)"),
    ],
)
def test_conditions_are_rewritten(condition: str, sql: str) -> None:
    assert rewritten(condition) == sql


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        found = rewritten(text)
    except InvalidInputError:
        return
    assert ";" not in found.replace("';'", "") or "'" in found or '"' in found
