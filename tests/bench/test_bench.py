"""What the bench prints is what it measured; the bench itself is run by `make bench`, not by the tests."""

from __future__ import annotations

import http.client
import http.server
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402
from figures_lakefs import CountingProxy  # noqa: E402
from report import BEGIN, END, HEADINGS, Figure  # noqa: E402

FIGURES = [
    Figure("resolve", "< 100 µs", "6 µs", "2 ms", "333×", True),
    Figure("list", "≥ 20×", "198 ms", "1.65 s", "8.3×", False),
    Figure("the same: p95", "", "210 ms"),
]


def test_a_figure_says_whether_its_target_is_reached() -> None:
    assert [figure.cells[-1] for figure in FIGURES] == ["reached", "MISSED", ""]


def test_durations_have_a_unit_and_three_digits() -> None:
    shown = [report.shown(seconds) for seconds in (6.04e-6, 0.00574, 0.0999, 0.198, 2.345, 123.4)]
    assert shown == ["6.04 µs", "5.74 ms", "99.9 ms", "198 ms", "2.35 s", "123 s"]


def test_a_percentile_is_one_of_the_measured() -> None:
    assert report.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert report.percentile([float(i) for i in range(1, 101)], 99) == 99.0
    assert report.percentile([7.0], 99) == 7.0


def test_write_replaces_the_table_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    for _ in range(2):
        report.write(readme, FIGURES, "A machine.")
        text = readme.read_text("utf-8")
        assert text.startswith(f"before\n{BEGIN}\nA machine.\n\n| what |")
        assert text.endswith(f"|\n{END}\nafter\n")
        assert "old" not in text
        assert text.count("| resolve | < 100 µs | 6 µs | 2 ms | 333× | reached |") == 1


def test_the_readme_has_a_place_for_the_table() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert f"| {' | '.join(HEADINGS)} |" in text


def test_the_proxy_counts_requests_and_changes_nothing() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = CountingProxy(server.server_address[1])
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
        for number in range(5):
            connection.request("GET", f"/{number}")
            assert connection.getresponse().read() == f"/{number}".encode()
        assert proxy.requests == 5
        connection.close()
        proxy.close()
        server.shutdown()
