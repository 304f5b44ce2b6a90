"""The pages a server serves: what they are made of, who may open them, and what they may ask."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import httpx2
import pytest

from candor.errors import InvalidRequest
from candor.http.document import document
from candor.http.guards import check_origin
from candor.http.pages.reference import reference
from candor.page import render
from candor.page.render import policy, script
from candor.probes import probe
from demo.next_steps import CONTENT, RESPONSES
from tests.pages import PageText
from tests.paths import ROOT
from tests.service.serving import error_of, running, score, tiny_app


def test_the_root_leads_to_the_inspector(url: str) -> None:
    answer = httpx2.get(url)
    assert (answer.status_code, answer.headers["location"]) == (307, "inspector")
    assert httpx2.get(url, follow_redirects=True).text.startswith("<!doctype html>")


@pytest.mark.parametrize("path", ["/inspector", "/inspector/", "/docs"])
def test_a_page_may_ask_its_own_server_alone(url: str, path: str) -> None:
    answer = httpx2.get(url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = answer.headers["content-security-policy"]
    assert rules == policy(live=True)
    assert {"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"} <= {
        *rules.split("; ")
    }
    assert "unsafe" not in rules
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = PageText(answer.text)
    assert [one for one in page.fetched if one not in ("data:,", "openapi.json", "inspector")] == []
    assert page.handlers == []
    assert page.policy is None  # the header says it; a second one could only forbid more


def test_the_inspector_holds_nothing_of_the_server_and_needs_no_key() -> None:
    with running(tiny_app(api_key="k" * 16)) as url:
        page = httpx2.get(f"{url}/inspector", headers={"host": "a-proxy.example"})
        assert page.status_code == 200
        assert page.content == render.inspector()
        assert httpx2.get(url).status_code == 307
        for path in ("/docs", "/openapi.json", "/v1/models", "/inspector/x"):
            assert httpx2.get(url + path).status_code == 401


@pytest.mark.parametrize("settings", [{"inspector": False}, {"host": "0.0.0.0"}])
def test_a_server_without_the_inspector_says_how_to_have_it(settings: dict[str, Any]) -> None:
    """`running` binds loopback whatever the settings say; the default follows the settings."""
    with running(tiny_app(insecure_no_auth=True, **settings)) as url:
        for path in ("/", "/inspector", "/inspector/"):
            answer = httpx2.get(url + path)
            assert answer.status_code == 404
            assert "start the server with --inspector" in error_of(answer).message
        assert "inspector" not in PageText(httpx2.get(f"{url}/docs").text).fetched
        assert score(url).status_code == 200
    with running(tiny_app(insecure_no_auth=True, **settings | {"inspector": True})) as url:
        assert httpx2.get(f"{url}/inspector").content == render.inspector()
        assert "inspector" in PageText(httpx2.get(f"{url}/docs").text).fetched


def test_without_the_inspector_no_path_is_free_of_the_key() -> None:
    with running(tiny_app(api_key="k" * 16, inspector=False)) as url:
        for path in ("/", "/inspector"):
            assert httpx2.get(url + path).status_code == 401
            assert httpx2.get(url + path, auth=("any", "k" * 16)).status_code == 404


def test_the_page_begins_with_the_request_of_the_readme() -> None:
    """And so with a flip on the demo's model (tests/docs/test_commands.py)."""
    example = script()[script().index("const EXAMPLES") :].split("},\n")[0]
    assert json.dumps(CONTENT) in example
    for response in RESPONSES:
        assert json.dumps(response) in example


def test_without_a_key_the_page_has_the_servers_own_names_only(url: str) -> None:
    answer = httpx2.get(f"{url}/inspector", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "--host-name" in error_of(answer).message


def test_a_post_from_the_servers_own_page_is_answered_and_no_other(url: str) -> None:
    assert score(url, headers={"origin": url}).status_code == 200
    for origin in ("http://evil.example", "null", url.replace("http:", "ftp:"), f"{url}1", ""):
        answer = score(url, headers={"origin": origin})
        assert answer.status_code == 400, origin
        assert "web pages of other servers" in error_of(answer).message


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (b"https://candor.example", b"candor.example", True),
        (b"https://candor.example", b"candor.example:443", True),
        (b"http://candor.example", b"Candor.Example:80", True),
        (b"http://[::1]:8000", b"[::1]:8000", True),
        (b"http://candor.example:8001", b"candor.example:8000", False),
        (b"http://candor.example.evil", b"candor.example", False),
        (b"null", b"null", False),
        (b"", b"", False),
    ],
)
def test_an_origin_is_the_servers_own_or_refused(origin: bytes, host: bytes, own: bool) -> None:
    headers = [(b"host", host), (b"origin", origin)]
    if own:
        check_origin(headers)
    else:
        with pytest.raises(InvalidRequest):
            check_origin(headers)


def test_two_origins_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        check_origin([(b"host", b"a"), (b"origin", b"http://a"), (b"origin", b"http://b")])


def test_the_reference_has_every_route_every_type_and_a_call_that_works(url: str) -> None:
    described = json.loads(document())
    page = PageText(reference(described))
    for path in described["paths"]:
        assert path in page.seen
    for name, schema in described["components"]["schemas"].items():
        assert not schema.get("properties") or name in page.seen
    command = next(
        line for line in page.seen.splitlines() if line.startswith("curl") and "/v1/rewards" in line
    )
    words = shlex.split(command)
    body = json.loads(words[words.index("-d") + 1])
    assert words[2] == "http://127.0.0.1:8000/v1/rewards"
    assert httpx2.post(f"{url}/v1/rewards", json=body).status_code == 200


def test_the_scripts_pooling_is_the_probes() -> None:
    assert f"const TOPK_SHARE = {probe.TOPK_SHARE};" in script()
    assert f"const ROLLING_WINDOW = {probe.ROLLING_WINDOW};" in script()


def test_the_script_is_whole_and_writes_no_markup() -> None:
    found = {path.stem for path in (ROOT / "service/candor/page/script").glob("*.js")}
    assert found == set(render.SCRIPTS)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", " eval("):
        assert forbidden not in script()
    assert not re.search(r"</script|<!--", script())
    assert "localStorage" not in script()


def test_data_cannot_end_its_element() -> None:
    text = str(render.embedded({"text": "</script><script>alert(1)</script><!--"}))
    assert "<" not in text
    assert json.loads(text)["text"].startswith("</script>")
