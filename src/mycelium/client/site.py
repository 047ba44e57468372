"""How `myc` speaks with a site: JSON over HTTP, and streams of server-sent events.

It uses the standard library's client: importing httpx takes 200 ms, which is more than most commands take in all.
What is safe to repeat is repeated with growing pauses while the site is away, once it has answered this command before.
Errors: those of the site, as it says them; `Unavailable` when it does not answer.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from mycelium.base.errors import KINDS, Problem, Refused, Unavailable, Unknown
from mycelium.base.home import Home
from mycelium.client import settings

CONNECT_S = 10.0
ANSWER_S = 60.0  # also the longest silence of a stream before it is opened anew
AWAY_S = 30.0  # how long a site may be away in the middle of a command
PAUSE_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Event(NamedTuple):
    """One server-sent event."""

    kind: str
    data: Any


Body = bytes | Callable[[], Iterator[bytes]] | None

ABSENT_HINT = "`myc up --detach` starts one here; `myc login URL` uses another"


class Client:
    """One connection to one site."""

    def __init__(self, url: str, token: str = "", *, absent_hint: str = ABSENT_HINT, ca: str = "") -> None:
        """`ca`: the certificate to trust instead of those that lie here."""
        self.url = url
        self._ca = ca
        self._absent_hint = absent_hint
        self.token = token
        parts = urlsplit(url)
        self._https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None
        self._answered = False  # whether this site has answered before: then its absence is a pause

    # One request, one document.

    def get(self, path: str, **query: Any) -> Any:
        return self._parse(self.send("GET", path, query=query))

    def post(self, path: str, document: Any = None, *, key: str = "", **query: Any) -> Any:
        """With a `key`, the request is repeated until it is answered: the site does it once."""
        body = json.dumps(document if document is not None else {}).encode()
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        return self._parse(self.send("POST", path, body, headers, query=query, again=bool(key)))

    def delete(self, path: str) -> Any:
        return self._parse(self.send("DELETE", path))

    def send(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: dict[str, str] | None = None,
        *,
        query: dict[str, Any] | None = None,
        again: bool = False,
    ) -> bytes:
        """The body of the answer. `again`: it may be repeated, as every GET may."""
        for pause_s in self._pauses(again or method == "GET"):
            try:
                response = self._open(method, path, body, headers, query or {})
                return self._read(response)
            except Unavailable:
                self.close()
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("unreachable: the last pause is None")

    def stream(self, path: str, **query: Any) -> Iterator[Event]:
        """The events of a stream until the site ends it. Errors: also `Unavailable` when the connection breaks."""
        headers = {"Accept": "text/event-stream"}
        response = self._open("GET", path, None, headers, query)
        if response.status >= 300:
            self._read(response)
        try:
            yield from _events(response)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the site at {self.url} stopped answering ({type(error).__name__})") from None
        except ValueError:
            raise self._no_site("its stream is not one of events") from None
        finally:
            self.close()  # a stream that was left in the middle cannot carry another request

    def download(self, path: str, **query: Any) -> http.client.HTTPResponse:
        """An open answer, to be read in pieces."""
        response = self._open("GET", path, None, {}, query)
        if response.status >= 300:
            self._read(response)
        return response

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # The wire.

    def _pauses(self, again: bool) -> Iterator[float | None]:
        """How long to wait before each next try; None: there is none."""
        until = time.monotonic() + AWAY_S
        tries = 0
        while again and self._answered and time.monotonic() < until:
            yield PAUSE_S[min(tries, len(PAUSE_S) - 1)]
            tries += 1
        yield None

    def _open(
        self, method: str, path: str, body: Body, headers: dict[str, str] | None, query: dict[str, Any]
    ) -> http.client.HTTPResponse:
        asked = {name: _plain(value) for name, value in query.items() if value is not None}
        target = self._prefix + quote(path) + (f"?{urlencode(asked)}" if asked else "")
        known = {"Accept": "application/json", **(headers or {})}
        if self.token:
            known["Authorization"] = f"Bearer {self.token}"
        kept = self._connection is not None
        try:
            return self._exchange(method, target, body, known)
        except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
            self.close()
            if not kept:
                raise self._absent() from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._absent(error) from None
        # A connection that was kept open may have been closed by the site meanwhile: that is no failure of the site.
        try:
            return self._exchange(method, target, body, known)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._absent(error) from None

    def _exchange(self, method: str, target: str, body: Body, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = self._new_connection()
            self._connection.connect()
            self._connection.sock.settimeout(ANSWER_S)
        data = body() if callable(body) else body
        self._connection.request(method, target, data, headers, encode_chunked=callable(body))
        return self._connection.getresponse()

    def _new_connection(self) -> http.client.HTTPConnection:
        if not self._https:
            return http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_S)
        return http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_S, context=trusted(self._ca))

    def _absent(self, error: Exception | None = None) -> Problem:
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return self._no_site("it does not speak HTTP")
        if type(error).__module__ == "ssl":  # not imported unless the URL asks for it
            return Unavailable(
                f"no safe connection to {self.url}: {getattr(error, 'verify_message', '') or 'it does not speak TLS'}",
                hint="check http and https in the URL; SSL_CERT_FILE names a certificate to trust",
            )
        if isinstance(error, TimeoutError):
            return Unavailable(f"the site at {self.url} did not answer in time", hint="`myc status` says if it is up")
        return Unavailable(f"no site answers at {self.url}", hint=self._absent_hint)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._absent(error) from None
        self._answered = True
        if response.status < 300:
            return data
        raise self._problem(response.status, data)

    def _parse(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            raise self._no_site("its answer is not JSON") from None

    def _no_site(self, why: str) -> Refused:
        return Refused(f"what answers at {self.url} is not a Mycelium site ({why})", hint="check the URL")

    def _problem(self, status: int, data: bytes) -> Problem:
        try:
            error = json.loads(data)["error"]
            kind, message, hint = KINDS[error["kind"]], str(error["message"]), str(error.get("hint", ""))
        except (ValueError, KeyError, TypeError):
            return self._no_site(f"status {status}")
        if status == Unknown.http:
            return Unknown(message, hint=hint or f"`myc login {self.url} --token -` keeps a new token")
        return kind(message, hint=hint)


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Source: the HTML standard, section 9.2.6."""
    kind, data = "message", list[str]()
    for raw in lines:
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if data:
                yield Event(kind, json.loads("\n".join(data)))
            kind, data = "message", list[str]()
            continue
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)


def trusted(pem: str = "") -> Any:
    """Whom TLS trusts: the CA of the site of this home beside the system's. The module is imported only where it is
    needed, because it takes longer than most commands."""
    import ssl

    context = ssl.create_default_context()
    if pem:
        context.load_verify_locations(cadata=pem)
        return context
    ca = Home(settings.home()).tls.ca
    if ca.exists():
        context.load_verify_locations(ca)
    return context


def connect() -> Client:
    """The site that `myc` was told to talk to."""
    place = settings.place()
    return Client(place.url, place.token)
