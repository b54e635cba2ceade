"""Measure, print a table, write bench/results.json. `python -m tests.bench 1 4` measures only these rows."""

from __future__ import annotations

import http.cookiejar
import re
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from tests.bench import rows_browser, rows_http, rows_pages, rows_ssh
from tests.bench.table import HEAD, Results
from tests.server import ROOT, Server


def main(wanted: list[str]) -> int:
    """Run the rows that are asked for, all without any, and return the exit status: 1 if a target is missed."""
    results = Results()
    print(HEAD)

    def asks(row: str) -> bool:
        return not wanted or row in wanted

    with tempfile.TemporaryDirectory(prefix="skstack-bench-") as folder:
        server = Server(Path(folder), workers=16, web_threads=128).prepare()
        server.catalog(rows_http.CATALOG.replace("MUCH", rows_http.MUCH))
        server.start()
        try:
            cookie = sign_in(server)
            before = rows_http.idle(server, results, "fresh") if asks("5") else None
            if asks("1"):
                rows_http.first_line(server, results)
            if asks("3"):
                rows_http.much_output(server, results)
            if asks("4"):
                rows_http.many_jobs(server, results)
            if before is not None:
                rows_http.idle(server, results, "after the load", before)
            if asks("2"):
                rows_http.watchers(server, results, cookie)
            if asks("6"):
                rows_ssh.measure(results, Path(folder))
            if asks("8"):
                rows_browser.long_log(server, results)
            if asks("9"):
                rows_browser.weight(server, results)
        finally:
            server.stop()
    if asks("7"):
        rows_pages.measure(results, sign_in)
    results.write(ROOT / "bench" / "results.json")
    missed = [row for row in results.rows if row.met is False]
    print(f"{len(results.rows)} figures, {len(missed)} targets missed; written to bench/results.json")
    return 1 if missed else 0


def sign_in(server: Server) -> str:
    """Sign the administrator in, as a browser would, and return the cookie."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = opener.open(f"{server.url}/sign-in").read().decode()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token is not None
    form = {"csrf_token": token[1], "username": "admin", "password": server.admin_password}
    opener.open(f"{server.url}/sign-in", urllib.parse.urlencode(form).encode())
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
