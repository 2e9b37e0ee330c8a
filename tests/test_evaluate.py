"""Evaluating a version: a command or function predicts in a child, and what it wrote is checked, measured and kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk
from tests.command_line import CommandLine

import headwater
from headwater import children
from headwater.errors import HeadwaterError, IntegrityError, InvalidInputError, NotFoundError, PermissionDeniedError
from headwater.evaluation_model import Evaluated
from headwater.evaluations import stored
from headwater.registry import Registry

ROWS: list[dict[str, Any]] = [
    {"id": number, "x": x, "origin": origin, "label": label}
    for number, (x, origin, label) in enumerate(
        [(0.9, "JFK", 1), (0.8, "JFK", 0), (0.3, "JFK", 0), (0.7, "LGA", 1), (0.2, "LGA", 1), (0.1, None, 0)]
    )
]
PREDICT = """\
import csv, os, sys
rows = list(csv.DictReader(open(os.environ["HEADWATER_DATA"])))
limit = float(open(os.path.join(os.environ["HEADWATER_MODEL"], "limit")).read())
with open(os.environ["HEADWATER_OUTPUT"], "w") as out:
    out.write("prediction,score,id\\n")
    for row in reversed(rows):
        out.write(f"{int(float(row['x']) > limit)},{row['x']},{row['id']}\\n")
print("predicted", len(rows))
"""


def as_csv(rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def prepare(registry: Registry) -> None:
    """Register a model that predicts by a limit, and two sets of flights, one of them with no key."""
    Path("model").mkdir()
    Path("model/limit").write_text("0.5")
    Path("model/predict.py").write_text(PREDICT)
    Path("flights.csv").write_text(as_csv(ROWS))
    registry.add_dataset("flights", "flights.csv", key=["id"])
    registry.register("m", "model")


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def head(registry: Registry) -> tuple[str, set[str]]:
    return registry.head, {path for path in os.listdir() if not path.startswith(".")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An embedded registry with a model and flights, for what is the same on every lake; scratch files are in `tmp`."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        prepare(registry)
        before = head(registry)
        yield registry
        # Every test that leaves the lake as it was fails if anything else is left.
        assert list(scratch.iterdir()) == []
        if registry.head == before[0]:
            assert head(registry) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One such registry for all that is refused, and so leaves it as it was."""
    place = tmp_path_factory.mktemp("shared")
    (place / "work").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place / "work")
        patched.setenv("XDG_CACHE_HOME", str(place / "cache"))
        with headwater.create(str(place / "lake"), actor="tester") as registry:
            prepare(registry)
            yield registry


@pytest.fixture
def refusing(shared: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry, in which nothing that a test does may leave anything."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(Path(shared.url).parent / "work")
    before = head(shared)
    yield shared
    assert list(tmp_path.iterdir()) == []
    assert head(shared) == before


def values(found: Evaluated) -> dict[tuple[str, str], float]:
    return {(each.key, each.slice): each.value for each in found.metrics}


# -- on both lakes ----------------------------------------------------------------------------------------------------
def test_an_evaluation_keeps_predictions_and_metrics_in_one_commit(registry: Registry) -> None:
    prepare(registry)
    before = registry.head
    found = registry.evaluate(
        "m/1", on="flights@1.0.0", command=[sys.executable, "{model}/predict.py"], slices=["origin"]
    )

    label, score = [row["label"] for row in ROWS], [row["x"] for row in ROWS]
    prediction = [int(x > 0.5) for x in score]
    assert values(found)["accuracy", ""] == sk.accuracy_score(label, prediction)
    assert values(found)["auc", ""] == pytest.approx(sk.roc_auc_score(label, score))
    assert values(found)["log_loss", ""] == pytest.approx(sk.log_loss(label, score))
    assert values(found)["recall", "origin=LGA"] == 0.5
    assert values(found)["accuracy", "origin=JFK"] == pytest.approx(2 / 3)
    assert values(found)["accuracy", "origin="] == 1
    assert (found.task, found.positive, found.label, found.rows) == ("binary", "1", "label", 6)
    assert (found.dataset, found.actor, found.trained_on) == ("flights@1.0.0", "tester", False)

    table = found.table(["x"])
    assert table.column_names == ["id", "label", "prediction", "score", "origin", "x"]
    assert table.column("id").to_pylist() == [str(row["id"]) for row in ROWS]
    assert table.column("prediction").to_pylist() == [str(each) for each in prediction]
    assert table.column("score").to_pylist() == score
    assert table.column("origin").to_pylist() == [row["origin"] for row in ROWS]
    assert table.column("x").to_pylist() == [str(each) for each in score]

    # One commit has the row, the event, the edge and the object.
    at = registry.at(found.commit)
    sources = at.sql("SELECT DISTINCT source, dataset_id FROM lake.metrics WHERE version_id IS NOT NULL").fetchall()
    assert sources == [("computed", found.dataset_id)]
    assert at.sql("SELECT relation, source, target FROM lake.lineage WHERE relation = 'evaluated'").fetchall() == [
        ("evaluated", f"dataset:{found.dataset_id}", f"model:{found.version_id}")
    ]
    assert at.evaluation("m/1", on="flights").table().num_rows == 6
    entry = registry.log(limit=1)[0]
    assert (entry.kind, entry.subject, entry.message) == ("evaluate", "m/1", "evaluate m/1 on flights@1.0.0")
    assert registry.at(before).sql("SELECT count(*) FROM lake.metrics").fetchall() == [(0,)]
    with pytest.raises(NotFoundError, match=r"m/1 was not evaluated on flights@1\.0\.0"):
        registry.at(before).evaluation("m/1", on="flights")


def test_the_last_evaluation_stands_also_where_two_branches_made_one(registry: Registry) -> None:
    prepare(registry)
    first = registry.evaluate("m/1", on="flights", predict=lambda table: [1] * len(table))
    with registry.create_branch("exp") as exp:
        theirs = exp.evaluate("m/1", on="flights", predict=lambda table: [0] * len(table))
    ours = registry.evaluate("m/1", on="flights", predict=lambda table: table.column("label"))
    assert values(ours)["accuracy", ""] == 1
    registry.merge("exp")
    assert len({first.digest, theirs.digest, ours.digest}) == 3
    again = registry.evaluation("m/1", on="flights")
    assert (again.digest, again.command) == (ours.digest, ())
    assert again.table().column("prediction").to_pylist() == [str(row["label"]) for row in ROWS]
    edges = registry.sql("SELECT count(*) FROM lake.lineage WHERE relation = 'evaluated'").fetchall()
    assert edges == [(1,)]


def test_predictions_that_were_altered_are_not_read(registry: Registry) -> None:
    prepare(registry)
    found = registry.evaluate("m/1", on="flights", predict=lambda table: table.column("label"))
    lake = registry._context.lake
    lake.put_many(registry.working_branch, {found.path: b"forged"})
    commit = lake.commit(registry.working_branch, "forge", {})
    with registry._context.folds.at(commit) as fold:
        again = stored(registry._context, fold, found.version_id, found.dataset_id)
    assert again is not None
    with pytest.raises(IntegrityError, match=r"the predictions for flights@1\.0\.0 are not what was written"):
        again.table()


def test_the_command_line_evaluates_by_the_tag_and_prints_metrics(registry_url: str) -> None:
    with headwater.open(registry_url, actor="tester") as registry:
        prepare(registry)
        registry.tag("m/1", {"predict": f"{sys.executable} {{model}}/predict.py"})
    run = CommandLine()
    lake = ("--lake", registry_url)
    done = run(*lake, "evaluate", "m/1", "--on", "flights", "--slices", "origin")
    assert done.stdout.splitlines()[0] == "m/1 on flights@1.0.0, 6 rows"
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert lines[0] == ["accuracy", "precision", "recall", "f1", "auc", "log_loss", "brier"]
    assert lines[1][:3] == ["all", "rows", "0.6667"]
    assert ["label", "label"] in lines
    assert ["positive", "1"] in lines
    document = run.json(*lake, "evaluate", "m/1", "--on", "flights", "--", sys.executable, "model/predict.py")
    assert (document["name"], document["version"], document["dataset"]) == ("m", 1, "flights@1.0.0")
    assert document["command"] == [sys.executable, "model/predict.py"]
    assert {each["source"] for each in document["metrics"]} == {"computed"}
    kind, message, _ = run.error(*lake, "evaluate", "m/1", "--on", "nothing", status=1)
    assert (kind, message) == ("NotFoundError", "there is no dataset nothing")
    assert run.error(*lake, "evaluate", "m/1", "--on", "flights", "--timeout", "0", status=2)[1] == (
        "not a time limit: 0.0"
    )


# -- ways to predict --------------------------------------------------------------------------------------------------
def given_as(kind: str) -> str:
    writers = {
        "csv": "out.write('id,prediction\\n' + ''.join(f'{i},{p}\\n' for i, p in rows))",
        "json": "out.write(''.join(json.dumps({'prediction': p, 'id': i}) + '\\n' for i, p in rows))",
        "parquet": "import pyarrow as pa, pyarrow.parquet as pq; ids, some = zip(*rows);"
        " pq.write_table(pa.table({'id': pa.array(ids, pa.int8()), 'prediction': some}), out.name)",
    }
    rows = "rows = [(i, i % 2) for i in range(6)]"
    return f"import json, os\n{rows}\nout = open(os.environ['HEADWATER_OUTPUT'], 'w')\n{writers[kind]}"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_predictions_are_read_in_every_format(here: Registry, kind: str) -> None:
    found = here.evaluate("m/1", on="flights", command=command(given_as(kind)))
    assert found.table().column("prediction").to_pylist() == ["0", "1", "0", "1", "0", "1"]
    assert found.table().column("score").null_count == 6
    assert "auc" not in {each.key for each in found.metrics}


@pytest.mark.parametrize(
    "made",
    [
        lambda table: [1] * 6,
        lambda table: pa.array([1] * 6),
        lambda table: {"id": [5, 4, 3, 2, 1, 0], "prediction": [1] * 6},
        lambda table: table.select(["id"]).append_column("prediction", pa.array([1] * 6)),
    ],
    ids=["list", "array", "dict", "table"],
)
def test_a_function_gives_predictions_in_many_forms(here: Registry, made: Callable[[pa.Table], Any]) -> None:
    found = here.evaluate("m/1", on="flights", predict=made)
    assert found.table().column("prediction").to_pylist() == ["1"] * 6


def test_a_function_answers_a_dataset_row_by_row(here: Registry) -> None:
    pid = os.getpid()

    def predict(table: pa.Table) -> list[float]:
        assert os.getpid() != pid
        assert "HEADWATER_LAKE" not in os.environ
        return [value * 2 for value in table.column("x").to_pylist()]

    found = here.evaluate("m/1", on="flights", predict=predict, label="x")
    assert found.task == "regression"
    assert values(found)["mae", ""] == pytest.approx(sum(row["x"] for row in ROWS) / 6)


def test_where_there_is_no_key_predictions_are_in_the_order_of_rows(here: Registry) -> None:
    Path("flat.csv").write_text(as_csv(ROWS))
    here.add_dataset("flat", "flat.csv")
    Path("flat.csv").unlink()
    found = here.evaluate("m/1", on="flat", predict=lambda table: table.column("x").to_pylist(), label="x")
    assert values(found)["rmse", ""] == 0
    assert found.table().column_names == ["label", "prediction", "score"]
    with pytest.raises(InvalidInputError, match=r"has 5 rows, and flat@1\.0\.0 has 6"):
        here.evaluate("m/1", on="flat", predict=lambda table: {"prediction": [0.5] * 5}, label="x")
    with pytest.raises(HeadwaterError, match="ValueError: 5 predictions for 6 rows"):
        here.evaluate("m/1", on="flat", predict=lambda table: [0.5] * 5, label="x")


def test_slices_of_two_columns_are_measured_together(here: Registry) -> None:
    found = here.evaluate(
        "m/1", on="flights", predict=lambda table: table.column("label"), slices=["origin", "id+origin"]
    )
    assert {each.slice for each in found.metrics if each.slice.startswith("id=0")} == {"id=0,origin=JFK"}
    assert found.slices == ("origin", "id+origin")
    assert len({each.slice for each in found.metrics}) == 1 + 3 + 6


def test_a_command_gets_copies_and_not_the_lake(here: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", here.url)
    monkeypatch.setenv("HEADWATER_RUN_ID", "x")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "secret")
    code = """
import json, os
seen = {name: value for name, value in os.environ.items() if name.startswith(("HEADWATER_", "LAKECTL_"))}
data = os.environ["HEADWATER_DATA"]
seen["mode"] = oct(os.stat(data).st_mode & 0o777)
print(json.dumps(seen), flush=True)
os.chmod(data, 0o644)
open(data, "w").write("spoiled")
open(os.path.join(os.environ["HEADWATER_MODEL"], "limit"), "w").write("spoiled")
open(os.environ["HEADWATER_OUTPUT"], "w").write("id,prediction\\n" + "".join(f"{i},1\\n" for i in range(6)))
"""
    said: list[bytes] = []
    here.evaluate("m/1", on="flights", command=command(code), echo=said.append)
    seen = json.loads(b"".join(said))
    assert set(seen) == {"HEADWATER_MODEL", "HEADWATER_DATA", "HEADWATER_OUTPUT", "mode"}
    assert seen["mode"] == "0o444"
    assert not any(value.startswith(here.url) for value in seen.values())
    assert here.verify("m/1", "flights@1.0.0") == 2


def test_a_version_that_was_trained_on_the_data_is_told(here: Registry) -> None:
    here.register("m", "model", data=["flights@1.0.0"])
    assert here.evaluate("m/2", on="flights", predict=lambda table: table.column("label")).trained_on
    done = CommandLine()(
        *("--lake", here.url, "evaluate", "m/2", "--on", "flights", "--"),
        *(sys.executable, "model/predict.py"),
    )
    assert "m/2 was trained on flights@1.0.0: this is no test of it" in done.stderr


# -- refusals ---------------------------------------------------------------------------------------------------------
def wrote(text: str) -> list[str]:
    return command(f"import os; open(os.environ['HEADWATER_OUTPUT'], 'wb').write({text.encode()!r})")


ONES = "".join(f"{number},1\n" for number in range(6))
OUTPUTS: dict[str, tuple[list[str], type[HeadwaterError], str]] = {
    "nothing": (command("pass"), HeadwaterError, "the command wrote no predictions"),
    "empty": (wrote(""), InvalidInputError, "is empty"),
    "failed": (command("import sys; sys.exit('no such column')"), HeadwaterError, "exit status 1: 'no such column'"),
    "killed": (command("import os; os.kill(os.getpid(), 9)"), HeadwaterError, "was ended by signal 9"),
    "folder": (command("import os; os.mkdir(os.environ['HEADWATER_OUTPUT'])"), InvalidInputError, "not a plain file"),
    "pipe": (command("import os; os.mkfifo(os.environ['HEADWATER_OUTPUT'])"), InvalidInputError, "not a plain file"),
    "link": (
        command("import os; os.symlink('/etc/passwd', os.environ['HEADWATER_OUTPUT'])"),
        InvalidInputError,
        "not a plain file",
    ),
    "pickle": (
        command("import os, pickle; pickle.dump([1], open(os.environ['HEADWATER_OUTPUT'], 'wb'))"),
        InvalidInputError,
        "neither CSV nor Parquet nor JSON lines",
    ),
    "huge": (
        command("import os, time; open(os.environ['HEADWATER_OUTPUT'], 'wb').truncate(1 << 40); time.sleep(60)"),
        InvalidInputError,
        r"more than 67,133,440 bytes, for 6 rows",
    ),
    "huge at the end": (
        command("import os; open(os.environ['HEADWATER_OUTPUT'], 'wb').truncate(1 << 40)"),
        InvalidInputError,
        r"67,133,440 ",
    ),
    "not Parquet": (wrote("PAR1 and no more"), InvalidInputError, "can't be read as Parquet"),
    "not JSON": (wrote("{'id': 1}"), InvalidInputError, "can't be read as JSON"),
    "no key": (wrote("prediction\n" + "1\n" * 6), InvalidInputError, "has no column 'id', which is the key of flights"),
    "no prediction": (wrote("id,guess\n" + ONES), InvalidInputError, "neither a column prediction nor a column score"),
    "NUL": (wrote("id,predic\0tion\n" + ONES), InvalidInputError, "neither a column prediction|can't be read as CSV"),
    "missing": (wrote("id,prediction\n0,1\n"), InvalidInputError, "lacks 5 rows of flights@1.0.0, such as 'id=1'"),
    "doubled": (wrote("id,prediction\n0,1\n" + ONES), InvalidInputError, "has 1 key more than once, such as 'id=0'"),
    "extra": (wrote("id,prediction\n7,1\n" + ONES), InvalidInputError, "has 1 row that flights@1.0.0 lacks.*'id=7'"),
    "null": (wrote("id,prediction\n" + ONES[:-2] + "\n"), InvalidInputError, "is missing in 1 row, first in row 6"),
    "NaN": (
        wrote("id,score\n" + ONES[:-2] + "nan\n"),
        InvalidInputError,
        "the score of the output of the command is NaN or missing in 1 row, first in row 6",
    ),
    "text score": (wrote("id,score\n" + ONES[:-2] + "x\n"), InvalidInputError, "the scores .* are not numbers"),
    "list": (
        wrote("".join(f'{{"id": {each}, "prediction": [1]}}\n' for each in range(6))),
        InvalidInputError,
        r"the predictions of the output of the command are of type 'BIGINT\[\]'",
    ),
    "probability": (
        wrote("id,prediction\n" + ONES[:-2] + "0.5\n"),
        InvalidInputError,
        "the prediction 0.5 is no class",
    ),
    "no program": (["there-is-no-such-program"], NotFoundError, "'there-is-no-such-program' can't be run"),
    "NUL in it": (["a\0b"], InvalidInputError, "the command has a NUL in it"),
    "empty command": ([], InvalidInputError, "the command is empty"),
}


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_an_output_that_is_not_right_is_refused_and_leaves_nothing(refusing: Registry, name: str) -> None:
    words, kind, message = OUTPUTS[name]
    with pytest.raises(kind, match=message) as raised:
        refusing.evaluate("m/1", on="flights", command=words, timeout=30)
    assert raised.value.message.isprintable()


def test_an_output_that_changes_while_it_is_read_is_refused(here: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater import evaluation_rows

    real = os.fstat
    seen = []

    def fstat(handle: int) -> os.stat_result:
        found = real(handle)
        path = os.readlink(f"/proc/self/fd/{handle}") if os.path.exists("/proc/self/fd") else ""
        if path.endswith("output/predictions"):
            seen.append(path)
            with open(path, "a") as late:
                late.write("9,1\n")
        return found

    monkeypatch.setattr(evaluation_rows.os, "fstat", fstat)
    with pytest.raises(HeadwaterError, match="changed while it was read"):
        here.evaluate("m/1", on="flights", command=wrote("id,prediction\n" + ONES))
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "nope"}, "flights@1.0.0 has no column 'nope'"),
        ({"slices": ["nope"]}, "flights@1.0.0 has no column 'nope'"),
        ({"slices": ["origin", "origin"]}, "a slice is named twice"),
        ({"slices": ["origin+origin"]}, "names a column twice"),
        ({"slices": ["label"]}, "a slice can't be made of a column called label"),
        ({"timeout": float("nan")}, "not a time limit"),
        ({"command": ["true"]}, "give a command or a function, not both"),
        ({"task": "guess"}, "not a task: 'guess'"),
    ],
    ids=["label", "slice", "twice", "joined", "fixed", "timeout", "both", "task"],
)
def test_a_question_that_makes_no_sense_is_refused(refusing: Registry, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        refusing.evaluate("m/1", on="flights", predict=lambda table: table.column("label"), **arguments)


def test_without_a_command_or_a_label_it_is_said_what_to_do(here: Registry) -> None:
    with pytest.raises(InvalidInputError, match="nothing says how m/1 predicts") as raised:
        here.evaluate("m/1", on="flights")
    assert "headwater tag-model m/1 predict=" in raised.value.hint
    Path("other.csv").write_text("id,truth\n1,2\n")
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("x")
    here.add_dataset("other", "other.csv")
    here.add_dataset("folder", "folder")
    with pytest.raises(InvalidInputError, match=r"has no column called label, target or y: which column is true\?"):
        here.evaluate("m/1", on="other", predict=list)
    with pytest.raises(InvalidInputError, match=r"folder@1\.0\.0 is a folder of files, not a table"):
        here.evaluate("m/1", on="folder", predict=list)
    here.tag("m/1", {"predict": "python 'unclosed"})
    with pytest.raises(InvalidInputError, match="the tag predict of m/1 is no command: No closing quotation"):
        here.evaluate("m/1", on="flights")
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        here.at(here.head).evaluate("m/1", on="flights", predict=list)


def test_labels_that_are_missing_are_said(here: Registry) -> None:
    Path("holes.csv").write_text("id,label\n1,\n2,1\n")
    here.add_dataset("holes", "holes.csv", key=["id"])
    with pytest.raises(
        InvalidInputError, match=r"the label 'label' of holes@1\.0\.0 is missing in 1 row, first in row 1"
    ):
        here.evaluate("m/1", on="holes", predict=lambda table: {"id": [1, 2], "prediction": [1, 1]})


def test_a_version_deleted_meanwhile_gets_no_evaluation(here: Registry) -> None:
    def delete(_chunk: bytes) -> None:
        if not done:
            done.append(True)
            here.branch("main").delete("m/1", reason="wrong")

    done: list[bool] = []
    words = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(0.5)\n" + PREDICT]
    with pytest.raises(NotFoundError, match="m/1 was deleted by tester"):
        here.evaluate("m/1", on="flights", command=words, echo=delete)
    assert done
    assert here.sql("SELECT count(*) FROM lake.metrics").fetchall() == [(0,)]


# -- children ---------------------------------------------------------------------------------------------------------
HANG = """
import os, sys, time
if os.fork() == 0:
    if {session}:
        os.setsid()
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(60)
{after}
"""


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def pid_in(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def test_a_child_that_hangs_is_ended_with_all_that_it_started(here: Registry) -> None:
    words = ["sh", "-c", "sleep 60 & echo $! > ../pid; echo waiting; sleep 60"]
    with pytest.raises(HeadwaterError, match=r"the command took longer than 1 s and was ended: 'waiting'") as raised:
        here.evaluate("m/1", on="flights", command=words, timeout=1)
    assert raised.value.hint == "give it more time: --timeout"
    assert is_gone(pid_in(Path("../pid")))


def test_what_a_child_left_running_ends_with_it(here: Registry) -> None:
    after = f"while not os.path.exists(sys.argv[1]): pass\n{PREDICT}"
    words = [*command(HANG.format(session=False, after=after)), "../pid"]
    assert here.evaluate("m/1", on="flights", command=words, timeout=30).rows == 6
    assert is_gone(pid_in(Path("../pid")))


def test_output_that_a_stranger_holds_open_is_not_waited_for(here: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_LINGER", 0.05)
    after = f"while not os.path.exists(sys.argv[1]): pass\n{PREDICT}"
    words = [*command(HANG.format(session=True, after=after)), "../pid"]
    began = time.monotonic()
    assert here.evaluate("m/1", on="flights", command=words, timeout=30).rows == 6
    assert time.monotonic() - began < 30
    os.kill(pid_in(Path("../pid")), signal.SIGKILL)


def test_a_function_that_hangs_or_fails_is_said(here: Registry) -> None:
    with pytest.raises(HeadwaterError, match=r"the function took longer than 0[.]3 s and was ended"):
        here.evaluate("m/1", on="flights", predict=lambda table: time.sleep(60), timeout=0.3)

    def fails(table: pa.Table) -> None:
        raise ValueError("no such feature")

    with pytest.raises(HeadwaterError, match="ended with exit status 1: 'ValueError: no such feature'"):
        here.evaluate("m/1", on="flights", predict=fails)
    with pytest.raises(HeadwaterError, match="ended with exit status 1"):
        here.evaluate("m/1", on="flights", predict=lambda table: object())


def test_a_function_may_be_called_beside_other_threads(here: Registry) -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        found: list[Evaluated] = []
        beside = threading.Thread(
            target=lambda: found.append(here.evaluate("m/1", on="flights", predict=lambda t: t.column("label")))
        )
        beside.start()
        beside.join()
        assert values(found[0])["accuracy", ""] == 1
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_a_signal_ends_the_child_too_and_leaves_the_lake_as_it_was(here: Registry, number: signal.Signals) -> None:
    before = here.head
    pid = Path("../pid").resolve()
    words = command(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "--lake", here.url, "evaluate", "m/1", "--on", "flights", "--", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(pid.parent / "tmp")},
    )
    child = pid_in(pid)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert is_gone(child)
    assert here.head == before


def test_a_dialogue_says_why_there_is_no_answer(tmp_path: Path) -> None:
    def ask(code: str, line: bytes = b"{}", seconds: float = 10) -> bytes:
        with children.Dialogue(command(code), folder=tmp_path, variables={}) as child:
            return child.ask(line, time.monotonic() + seconds)

    assert ask("print(input()[::-1])", b"abc") == b"cba"
    assert ask("print(len(input()))", b"x" * 3_000_000) == b"3000000"
    with pytest.raises(HeadwaterError, match="the command did not answer in time"):
        ask("import time; time.sleep(60)", seconds=0.2)
    with pytest.raises(HeadwaterError, match="the command ended with exit status 3: 'bad model'"):
        ask("import sys; print('bad model', file=sys.stderr); sys.exit(3)")
    with pytest.raises(HeadwaterError, match="answered a line of more than 1,048,576 bytes"):
        ask("print('x' * 5_000_000)")
    with pytest.raises(NotFoundError, match="'no-such-program' can't be run"):
        children.Dialogue(["no-such-program"], folder=tmp_path, variables={})


def test_parquet_is_what_is_kept(here: Registry) -> None:
    found = here.evaluate("m/1", on="flights", predict=lambda table: table.column("label"), slices=["origin"])
    body = here._context.lake.read(here.head, found.path)
    assert found.path.startswith("evaluations/")
    assert pq.read_table(pa.BufferReader(body)).equals(found.table())


def test_what_was_computed_is_no_part_of_a_reproduction(here: Registry) -> None:
    from headwater.recipe import measured

    found = here.evaluate("m/1", on="flights", predict=lambda table: table.column("label"))
    with here._context.reading() as fold:
        assert measured(here._context, fold, [found.version_id], []) == {}


def test_an_evaluation_is_told_in_words_undone_and_exported(here: Registry, tmp_path: Path) -> None:
    with here.create_branch("exp") as exp:
        found = exp.evaluate("m/1", on="flights", predict=lambda table: table.column("label"))
    words = f"6 predictions for flights@1.0.0 ({found.digest[:8]})"
    (label,) = here.diff("main", "exp").events
    assert label.sentence == f"evaluation of m/1: {words}"
    here.merge("exp")
    here.export(tmp_path / "export")
    assert (tmp_path / "export" / found.path).stat().st_size > 0
    undone = here.revert(here.head)
    (change,) = [each for each in undone.changes if each.kind == "evaluation"]
    assert (change.name, change.before, change.after) == ("evaluation of m/1 on flights@1.0.0", words, None)
    with here._context.reading() as fold:
        assert stored(here._context, fold, found.version_id, found.dataset_id) is None
    assert here.metrics("m/1") == []


def test_a_dataset_of_several_files_is_a_folder_and_in_the_order_of_their_names(here: Registry) -> None:
    Path("parts").mkdir()
    Path("parts/b.csv").write_text("x,label\n3,3.5\n")
    Path("parts/a.csv").write_text("x,label\n1,1.5\n2,2.5\n")
    here.add_dataset("parts", "parts")
    code = """
import os
lines = [line for name in sorted(os.listdir(os.environ["HEADWATER_DATA"]))
         for line in open(os.path.join(os.environ["HEADWATER_DATA"], name)).read().split()[1:]]
open(os.environ["HEADWATER_OUTPUT"], "w").write("prediction\\n" + "".join(line.split(",")[1] + "\\n" for line in lines))
"""
    found = here.evaluate("m/1", on="parts", command=command(code))
    assert found.table(["x"]).column("x").to_pylist() == ["1", "2", "3"]
    assert values(found) == {("rmse", ""): 0, ("mae", ""): 0, ("r2", ""): 1}


def test_a_version_that_lies_elsewhere_is_fetched_and_checked(here: Registry) -> None:
    from hashlib import sha256

    body = b"0.5"
    Path("limit").write_bytes(body)
    here.register("m", external=(Path("limit").resolve().as_uri(), sha256(body).hexdigest()))
    assert values(here.evaluate("m/2", on="flights", command=command(PREDICT)))["accuracy", ""] == pytest.approx(4 / 6)
    Path("limit").write_bytes(b"0.6")
    with pytest.raises(IntegrityError):
        here.evaluate("m/2", on="flights", command=command(PREDICT))


def test_who_may_not_evaluate_is_refused_before_anything_runs(here: Registry) -> None:
    here.grant("author", "alice", "m")
    with pytest.raises(PermissionDeniedError, match="tester may not register or change m"):
        here.evaluate("m/1", on="flights", command=["there-is-no-such-program"])
    with headwater.open(here.url, actor="alice") as alice:
        assert alice.evaluate("m/1", on="flights", predict=lambda table: table.column("label")).actor == "alice"
