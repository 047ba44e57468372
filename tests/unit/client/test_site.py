from __future__ import annotations

import http.client
import io
import json
from typing import Any

import pytest

from mycelium.base.errors import KINDS, Missing, Refused, Unavailable, Unknown
from mycelium.client import site as client_module
from mycelium.client.site import Client, Event, _events


class Answer(io.BytesIO):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body)
        self.status = status


class Wire:
    """Plays the site's side: one answer, or error, for each request, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer | Exception) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._answers = list(answers)
        monkeypatch.setattr(Client, "_exchange", self._exchange)
        monkeypatch.setattr(client_module.time, "sleep", lambda _: None)

    def _exchange(self, method: str, target: str, body: Any, headers: dict[str, str]) -> Any:
        self.asked.append((method, target, headers))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ok(document: Any) -> Answer:
    return Answer(200, json.dumps(document).encode())


def wrong(kind: str, status: int = 0) -> Answer:
    body = {"error": {"kind": kind, "message": "so it is", "hint": "do this"}}
    return Answer(status or KINDS[kind].http, json.dumps(body).encode())


def test_a_document_comes_back_and_the_token_goes_along(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, ok({"a": 1}))
    assert Client("http://x:1/base", "secret").get("/jobs", all=True, state=None, limit=5) == {"a": 1}
    method, target, headers = wire.asked[0]
    assert (method, target) == ("GET", "/base/jobs?all=1&limit=5")
    assert headers["Authorization"] == "Bearer secret"


def test_a_name_cannot_leave_its_place_in_the_path(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, ok({}))
    Client("http://x:1").get("/nodes/a?b#c d")
    assert wire.asked[0][1] == "/nodes/a%3Fb%23c%20d"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_site_is_the_same_error_here(monkeypatch: pytest.MonkeyPatch, kind: str):
    Wire(monkeypatch, wrong(kind))
    with pytest.raises(KINDS[kind], match="so it is") as caught:
        Client("http://x:1").delete("/nodes/node-1")
    assert caught.value.hint == "do this"


def test_a_token_that_is_not_valid_is_told_from_what_is_not_allowed(monkeypatch: pytest.MonkeyPatch):
    Wire(monkeypatch, wrong("denied", 401))
    with pytest.raises(Unknown):
        Client("http://x:1").get("/jobs")


@pytest.mark.parametrize("status", [200, 404, 502])
def test_something_else_that_answers_is_no_site(monkeypatch: pytest.MonkeyPatch, status: int):
    Wire(monkeypatch, Answer(status, b"<html>nginx</html>"))
    with pytest.raises(Refused, match="is not a Mycelium site"):
        Client("http://x:1").get("/jobs")


def test_a_site_that_never_answered_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, ConnectionRefusedError())
    with pytest.raises(Unavailable, match="no site answers"):
        Client("http://x:1").get("/jobs")
    assert len(wire.asked) == 1


def test_a_site_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    gone = [ConnectionRefusedError(), wrong("unavailable"), http.client.RemoteDisconnected("")]
    Wire(monkeypatch, ok(1), *gone, ok(2))
    client = Client("http://x:1")
    assert [client.get("/a"), client.get("/b")] == [1, 2]


def test_what_may_not_be_repeated_is_not(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, ok(1), wrong("unavailable"))
    client = Client("http://x:1")
    client.get("/a")
    with pytest.raises(Unavailable):
        client.post("/accounts", {"name": "a"})
    assert len(wire.asked) == 2


def test_a_submit_is_repeated_with_the_same_key(monkeypatch: pytest.MonkeyPatch):
    wire = Wire(monkeypatch, ok(1), ConnectionResetError(), ok({"jobs": []}))
    client = Client("http://x:1")
    client.get("/a")
    client.post("/jobs", {"jobs": []}, key="k")
    assert [headers.get("Idempotency-Key") for _, _, headers in wire.asked] == [None, "k", "k"]


def test_events_of_a_stream_are_read_as_the_standard_says():
    lines = (
        b': still here\n\nevent: stdout\ndata: {"a":\ndata: 1}\n\nevent: end\r\ndata: 2\r\n\r\nevent: cut\ndata: 3\n'
    )
    assert list(_events(io.BytesIO(lines))) == [Event("stdout", {"a": 1}), Event("end", 2)]


def test_a_stream_of_something_else_is_no_sites(monkeypatch: pytest.MonkeyPatch):
    Wire(monkeypatch, Answer(200, b"data: nonsense\n\n"))
    with pytest.raises(Refused, match="is not a Mycelium site"):
        list(Client("http://x:1").stream("/jobs/job-9/logs"))


def test_a_missing_job_is_missing_on_a_stream_too(monkeypatch: pytest.MonkeyPatch):
    Wire(monkeypatch, wrong("missing"))
    with pytest.raises(Missing):
        list(Client("http://x:1").stream("/jobs/job-9/logs"))
