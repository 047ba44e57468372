"""How `myc` speaks with the site's gateway: with the account's own token, over OpenAI's API."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mycelium.base.errors import Conflict, Denied, Exhausted, Missing, Refused, Unavailable, Unknown
from mycelium.client.site import connect, trusted

ANSWER_S = 600.0
BY_STATUS = {401: Unknown, 403: Denied, 404: Missing, 409: Conflict, 429: Exhausted}


class GatewayClient:
    def __init__(self) -> None:
        client = connect()
        url: str | None = client.get("/deployments")["gateway"]
        if url is None:
            raise Unavailable("the site has no gateway yet", hint="serve a model first: `myc serve smollm2-135m`")
        parts, site = urlsplit(url), urlsplit(client.url)
        # A gateway that listens on every address is reached where the site was.
        self._host = (site.hostname if parts.hostname in ("0.0.0.0", "::") else parts.hostname) or "127.0.0.1"
        self._port = parts.port
        self._https = parts.scheme == "https"
        self._token = client.token

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Errors: as the site's own."""
        body = None if document is None else json.dumps(document).encode()
        return json.loads(self._send(method, path, body, {"content-type": "application/json"}).read())

    def events(self, path: str, document: Any) -> Iterator[Any]:
        """The events of a streamed answer. Errors: also what the stream itself says went wrong."""
        reply = self._send("POST", path, json.dumps(document).encode(), {"content-type": "application/json"})
        for raw in reply:
            data = raw.decode().strip().removeprefix("data:").strip() if raw.startswith(b"data:") else ""
            if data == "[DONE]":
                return
            if data:
                event = json.loads(data)
                if "error" in event:
                    raise Unavailable(event["error"]["message"])
                yield event

    def upload(self, path: Path) -> Any:
        """A file for batches."""
        mark = os.urandom(12).hex()
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        )
        try:
            body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        except OSError as error:
            raise Missing(f"{path} cannot be read: {error.strerror}") from None
        headers = {"content-type": f"multipart/form-data; boundary={mark}"}
        return json.loads(self._send("POST", "/v1/files", body, headers).read())

    def download(self, path: str) -> Iterator[bytes]:
        reply = self._send("GET", path, None, {})
        while piece := reply.read(1 << 20):
            yield piece

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._https:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=ANSWER_S, context=trusted())
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, {**headers, "authorization": f"Bearer {self._token}"})
            reply = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the gateway does not answer ({type(error).__name__})", hint="try again") from None
        if reply.status >= 300:
            raise self._problem(reply)
        return reply

    def _problem(self, reply: http.client.HTTPResponse) -> Exception:
        try:
            message = str(json.loads(reply.read())["error"]["message"])
        except (ValueError, KeyError, TypeError, OSError):
            message = f"the gateway answered with status {reply.status}"
        kind = BY_STATUS.get(reply.status, Unavailable if reply.status >= 500 else Refused)
        return kind(message[:1].lower() + message[1:].rstrip("."))
