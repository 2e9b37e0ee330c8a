"""URNs: what is one, what each part means, and how a wrong one is refused."""

from __future__ import annotations

import pytest

from headwater.errors import InvalidInputError
from headwater.urns import KINDS, Urn, dataset_urn, is_id, kind_of, model_urn, parse_urn

ID = "0192f3a1-6c1e-7cc1-8f6e-3a5d1c2b4e5f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:flight-delay/7", Urn("model", "flight-delay/7")),
        ("models:/flight-delay/7", Urn("model", "flight-delay/7")),
        ("models:/flight-delay@champion", Urn("model", "flight-delay@champion")),
        ("flight-delay@champion", Urn("model", "flight-delay@champion")),
        ("flight-delay/7", Urn("model", "flight-delay/7")),
        ('"a/b:c"/7', Urn("model", '"a/b:c"/7')),
        ('model:"a@b"@champion', Urn("model", '"a@b"@champion')),
        ("flights@1.1.0", Urn("dataset", "flights@1.1.0")),
        ('dataset:"a b"@1.0.0', Urn("dataset", '"a b"@1.0.0')),
        ("flights", Urn("", "flights")),
        (f"run:{ID}", Urn("run", ID)),
        ("run:0192F3A1", Urn("run", "0192f3a1")),
        (f"deployment:{ID}", Urn("deployment", ID)),
        (f"prediction:{ID}", Urn("prediction", ID)),
        ("code:git@example.org:a/b.git@3F2A9C1B", Urn("code", "git@example.org:a/b.git", "3f2a9c1b")),
        ("code:/home/someone/it's@3f2a", Urn("code", "/home/someone/it's", "3f2a")),
        ("object:artifacts/a@b/model.bin@main~1", Urn("object", "artifacts/a@b/model.bin", "main~1")),
    ],
)
def test_what_a_urn_means(text: str, expected: Urn) -> None:
    assert parse_urn(text) == expected
    assert parse_urn(str(parse_urn(text))) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "not a URN: ''", "prediction:ID"),
        ("x" * 10_000, "not a URN", "prediction:ID"),
        ("run:\x1b[31m", "not a URN", "prediction:ID"),
        ("artifact:x", "there is no kind of URN 'artifact'", ", ".join(KINDS)),
        ("https://example.org/x", "there is no kind of URN 'https'", "prediction"),
        ("run:", "not the ID of a run: ''", "run:ID"),
        ("run:abc", "not the ID of a run: 'abc'", "8 or more"),
        ("prediction:' OR 1=1 --", "not the ID of a prediction", "prediction:ID"),
        ("deployment:production", "not the ID of a deployment", "deployment:ID"),
        ("code:3f2a9c1b", "not a URN: 'code:3f2a9c1b'", "code:REPOSITORY@COMMIT"),
        ("code:repo@branch", "not a URN", "code:REPOSITORY@COMMIT"),
        ("object:data/x", "not a URN", "object:PATH@COMMIT"),
        ("object:@main", "not a URN", "object:PATH@COMMIT"),
        ("model:", "not a model", "NAME/7"),
        ("model:a/x", "not a version: 'x'", "whole number"),
        ("dataset:a/1", "not a dataset", "NAME@1.1.0"),
        ("flights@1", "not a dataset version: '1'", "NAME@1.1.0"),
    ],
)
def test_what_is_no_urn(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_urn(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_how_things_are_written() -> None:
    assert model_urn("flight-delay", 7) == "model:flight-delay/7"
    assert model_urn("Flight Delay") == 'model:"Flight Delay"'
    assert dataset_urn("a/b", "1.0.0") == 'dataset:"a/b"@1.0.0'
    assert (kind_of("run:x"), kind_of("models:/x"), kind_of("x"), kind_of('"a:b"')) == ("run", "model", "", "")
    assert (is_id(ID), is_id(ID[:-1])) == (True, False)
