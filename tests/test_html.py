"""What notebooks show: things as HTML in which nothing that came from elsewhere is markup, and long lists are cut."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from headwater import hypertext
from headwater.registry import Registry

HOSTILE = "<script>alert(1)</script><img src=x onerror='x()'>\"&$x^2$\u202egnp.exe"
ALLOWED = {"div", "p", "strong", "small", "table", "thead", "tbody", "tr", "th", "td"}


class Tags(HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(page: str) -> str:
    """Return a page's text; it may have no tag or attribute but ours."""
    found = Tags(page)
    assert found.tags <= ALLOWED
    assert found.attributes <= {"class", "style"}
    assert "\u202e" not in page
    assert "mathjax_ignore" in page
    return found.text


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def test_hostile_texts_are_shown_and_do_nothing(registry: Registry, artifact: Path, tmp_path: Path) -> None:
    registry.register(
        "m", artifact, description=HOSTILE, tags={"t": HOSTILE}, params={"p": HOSTILE}, metrics={"auc": 0.5}
    )
    registry.set_alias("m", "champion", 1)
    registry.describe("m", HOSTILE)
    registry.tag("m", {"owner": HOSTILE})
    data = tmp_path / "rows.csv"
    data.write_text('"<b>id</b>",v\n1,2\n')
    registry.add_dataset("rows", data, description=HOSTILE)
    with registry.start_run(HOSTILE[:45], experiment=HOSTILE[:45], params={"p": HOSTILE}, code=tmp_path) as run:
        run.log_metric("auc", 0.25)
    shown = "<script>alert(1)</script><img src=x onerror='x()'>\"&$x^2$\\u202egnp.exe"
    assert shown in text_of(registry._repr_html_())
    version = text_of(registry.get("m/1")._repr_html_())
    assert version.count(shown) == 3
    assert "m/1" in version
    assert "auc=0.5" in version
    assert text_of(registry.model("m")._repr_html_()).count(shown) == 2
    page = text_of(registry.dataset("rows")._repr_html_())
    assert shown in page
    assert "<b>id</b>" in page
    page = text_of(registry.run(run.run_id)._repr_html_())
    assert shown in page
    assert "auc=0.25" in page
    assert HOSTILE[:20] in text_of(run._repr_html_())
    found = registry.sql('SELECT $x AS "<i>col</i>", 1.5 AS n, NULL AS nothing', {"x": HOSTILE})
    page = text_of(found._repr_html_())
    assert shown in page
    assert "<i>col</i>" in page


def test_an_import_may_have_brought_a_hostile_name(registry: Registry) -> None:
    from dataclasses import replace

    from headwater.model import Model

    made = Model(HOSTILE, "id", "c", registry.log()[0].recorded_at, HOSTILE, 1, 1, {HOSTILE: 1}, None, {HOSTILE: "v"})
    assert text_of(made._repr_html_()).count("<script>") == 4
    assert "<script>" in text_of(replace(made, description=HOSTILE)._repr_html_())


def test_a_registry_shows_where_it_is_and_its_first_models(registry: Registry, artifact: Path) -> None:
    names = [f"model-{number:02}" for number in range(23)]
    for name in names:
        registry.register(name, artifact)
    registry.delete("model-00")
    page = text_of(registry._repr_html_())
    assert registry.url in page
    assert registry.head in page
    assert "22 rows, the first 20 shown" in page
    assert [name for name in names if name in page] == names[1:21]
    pinned = registry.at("main~5")
    assert "main~5" in text_of(pinned._repr_html_())


def test_long_lists_are_cut_with_a_count(registry: Registry) -> None:
    found = registry.sql("SELECT i, repeat('x', 5000) AS long, range(50) AS many FROM range(1234) t(i)")
    page = text_of(found._repr_html_())
    assert "1,234 rows, the first 100 shown" in page
    assert page.count("(5,000 characters)") == 100
    assert "18, 19, … (50 in all)" in page
    assert "99" in page
    assert len(page) < 300_000
    assert "shown" not in text_of(registry.sql("SELECT 1 AS one")._repr_html_())


def test_a_registry_that_cannot_be_reached_says_so(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.errors import LakeError

    def fail(self: Registry) -> None:
        raise LakeError("the lake <b>is</b> away")

    monkeypatch.setattr(Registry, "status", fail)
    assert "the lake <b>is</b> away" in text_of(registry._repr_html_())


def test_a_version_without_its_registry_shows_what_it_holds(registry: Registry, artifact: Path) -> None:
    from dataclasses import replace

    version = registry.register("m", artifact, metrics={"auc": 0.5})
    page = text_of(replace(version, _owner=None)._repr_html_())
    assert "m/1" in page
    assert "auc" not in page


def test_escape_is_the_same_for_all_kinds_of_values() -> None:
    assert hypertext.escape("<") == "&lt;"
    assert hypertext.escape(None) == ""
    assert hypertext.escape({"<": "&"}) == "&lt;=&amp;"
    assert hypertext.escape("\x1b[31m\x00") == "\\u001b[31m\\u0000"
    assert hypertext.escape(hypertext.escape("<")) == "&lt;"
    assert hypertext.table(("<",), [("'",)]) == (
        '<table><thead><tr><th style="text-align:left">&lt;</th></tr></thead>'
        '<tbody><tr><td style="text-align:left">&#x27;</td></tr></tbody></table>'
    )
