"""Sends a request to a replica and its answer back: retried elsewhere while no byte has come, metered, cut off when the
client leaves.

An answer that is streamed passes through event by event; one that is not is read whole, so that a replica that dies in
the middle costs the client nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from mycelium.base.documents import is_object
from mycelium.base.ids import JobId
from mycelium.base.limits import ANSWER_BYTES_MAX, REPLICA_TRIES_MAX
from mycelium.inference.asking import Bad, CheckedRequest
from mycelium.inference.model import Used
from mycelium.inference.router import prefixes
from mycelium.serve.gateway import errors
from mycelium.serve.gateway.fleet import Fleet, Member
from mycelium.serve.gateway.table import DeploymentRow
from mycelium.serve.http1.client import Broken, HttpClient, Reply
from mycelium.serve.http1.errors import unavailable

EVENT_BYTES_MAX = 4 << 20
PROPS_BYTES_MAX = 4 << 20
DONE = b"data: [DONE]\n\n"
HEADERS = {"content-type": "application/json"}


class WholeAnswer:
    """A whole answer, and what it used."""

    def __init__(self, status: int, body: bytes, used: Used) -> None:
        self.status = status
        self.body = body
        self.used = used


class Relay:
    def __init__(self, fleet: Fleet, client: HttpClient) -> None:
        self._fleet = fleet
        self._client = client
        self._takes_tools: WeakKeyDictionary[Member, bool] = WeakKeyDictionary()

    async def whole(self, key: str, row: DeploymentRow, asked: CheckedRequest, *, batch: bool = False) -> WholeAnswer:
        """The answer in one piece. Errors: `ApiError`, also for what the backend refused."""
        body = msgspec.json.encode(wire_body(row, asked))
        blocks = prefixes(asked.text)
        avoid: frozenset[JobId] = frozenset()
        headers = _headers(row)
        for _ in range(REPLICA_TRIES_MAX):
            async with self._fleet.place(key, row.name, blocks, asked.tokens, batch=batch, avoid=avoid) as member:
                try:
                    if asked.body.get("tools"):
                        await self._check_tools(member)
                    reply = await self._client.send(member.target, "POST", _path(member, asked), body, headers)
                    try:
                        data = await reply.read(ANSWER_BYTES_MAX)
                    finally:
                        reply.close()
                except Broken:
                    self._fleet.suspect(member)
                    avoid |= {member.job}
                    continue
                self._heard(member)
                if reply.status == 503:  # it is loading, or shutting down
                    self._fleet.suspect(member)
                    avoid |= {member.job}
                    continue
                if reply.status != 200:
                    raise errors.of_backend(reply.status, data)
                used = _usage(data, asked)
                member.count(used.completion_tokens or used.prompt_tokens)
                return WholeAnswer(200, data, used)
        raise unavailable(f"the replicas of {row.name} do not answer")

    async def stream(
        self, key: str, row: DeploymentRow, asked: CheckedRequest, tally: Tally
    ) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer, the usage event only if it was asked for.

        `tally` holds what was used so far, at every moment. Errors: `ApiError`.
        """
        body = msgspec.json.encode(wire_body(row, asked))
        blocks = prefixes(asked.text)
        avoid: frozenset[JobId] = frozenset()
        headers = _headers(row)
        for _ in range(REPLICA_TRIES_MAX):
            async with self._fleet.place(key, row.name, blocks, asked.tokens, batch=False, avoid=avoid) as member:
                reply: Reply | None = None
                tally.waits_on(member)
                try:
                    if asked.body.get("tools"):
                        await self._check_tools(member)
                    reply = await self._client.send(member.target, "POST", _path(member, asked), body, headers)
                    if reply.status == 503:
                        self._fleet.suspect(member)
                        avoid |= {member.job}
                        continue
                    if reply.status != 200:
                        raise errors.of_backend(reply.status, await _read(reply))
                    async for event in self._events(member, reply, asked, tally):
                        yield event
                    return
                except Broken:
                    self._fleet.suspect(member)
                    if tally.events:
                        raise unavailable("the replica that was answering is gone; ask again") from None
                    avoid |= {member.job}
                finally:
                    tally.waits_no_more()
                    if reply is not None:
                        reply.close()
        raise unavailable(f"the replicas of {row.name} do not answer")

    async def _check_tools(self, member: Member) -> None:
        """A model whose template has no tools would ignore them. Errors: `ApiError`, `Broken`."""
        if not member.attempt:
            return  # an upstream knows itself what it can
        if member not in self._takes_tools:
            reply = await self._client.send(member.target, "GET", "/props")
            try:
                self._takes_tools[member] = takes_tools(reply.status, await reply.read(PROPS_BYTES_MAX))
            finally:
                reply.close()
        if not self._takes_tools[member]:
            raise errors.of_bad(Bad("tools cannot be used with this model", "tools", "unsupported_parameter"))

    async def _events(self, member: Member, reply: Reply, asked: CheckedRequest, tally: Tally) -> AsyncIterator[bytes]:
        done = False
        async for event in _split(reply.pieces()):
            if event.startswith(b":"):
                continue
            data = event.partition(b"data:")[2].strip()
            if data == b"[DONE]":
                done = True
                yield DONE
                continue
            if not tally.events:
                self._heard(member)
                tally.first_s = time.monotonic()
                tally.waits_no_more()
                self._fleet.pump(member.deployment)
                member.ttft_ms += (tally.ttft_ms() - member.ttft_ms) * (0.2 if member.requests else 1.0)
            tally.events += 1
            member.heard_s = time.monotonic()
            if b'"error"' in data[:10]:
                raise errors.of_backend(500, bytes(data))
            usage = _chunk_usage(data) if b'"usage":{' in data or b'"usage": {' in data else None
            if usage is not None:
                tally.usage = usage
                if not asked.include_usage and b'"choices":[]' in data.replace(b" ", b""):
                    continue
            else:
                tally.tokens += 1
                member.count(1)
            yield event + b"\n\n"
        if not done:
            raise Broken("the stream ended before its end")

    def _heard(self, member: Member) -> None:
        member.heard_s = time.monotonic()
        member.requests += 1


class Tally:
    """What a streamed answer has used so far, whether or not it comes to its end."""

    def __init__(self, asked: CheckedRequest, begun_s: float) -> None:
        self._asked = asked
        self._begun_s = begun_s
        self._waits_on: Member | None = None
        self.events = 0
        self.tokens = 0
        self.first_s = 0.0
        self.usage: dict[str, Any] | None = None

    def waits_on(self, member: Member) -> None:
        """For its first token; the lines of batches give way until `waits_no_more`."""
        member.urgent += 1
        self._waits_on = member

    def waits_no_more(self) -> None:
        if self._waits_on is not None:
            self._waits_on.urgent -= 1
            self._waits_on = None

    def ttft_ms(self) -> float:
        return (self.first_s - self._begun_s) * 1000

    def used(self, *, failed: bool) -> Used:
        """By the backend's own count when it came to give it, else by the events that were sent: one token each."""
        if not self.events:
            return Used(1, int(failed))
        counted = max(0, self.tokens - 2 * self._asked.choices)  # the first and the last event of a choice hold no text
        prompt = int((self.usage or {}).get("prompt_tokens") or self._asked.prompt_tokens)
        said = int((self.usage or {}).get("completion_tokens") or 0)
        return Used(1, int(failed), prompt, max(said, counted), round(self.ttft_ms()), 1)


def takes_tools(status: int, props: bytes) -> bool:
    """By what llama.cpp tells of the model's template; another backend that tells nothing refuses them itself."""
    try:
        return status != 200 or _props.decode(props).chat_template_caps.get("supports_tools") is not False
    except msgspec.DecodeError:
        return True


def wire_body(row: DeploymentRow, asked: CheckedRequest) -> Mapping[str, Any]:
    """What is sent: the request, with a usage event asked for, because every token is accounted for."""
    body: Mapping[str, Any] = {**asked.body, "model": row.upstream_model} if row.upstream_model else asked.body
    if asked.path == "/v1/embeddings" and not row.upstream:
        return {**body, "encoding_format": "float"}
    if not asked.stream:
        return body
    options: dict[str, Any] = body.get("stream_options") or {}
    return {**body, "stream_options": {**options, "include_usage": True}}


def _headers(row: DeploymentRow) -> Mapping[str, str]:
    return {**HEADERS, "authorization": f"Bearer {row.upstream_key}"} if row.upstream_key else HEADERS


def _path(member: Member, asked: CheckedRequest) -> str:
    """An upstream's URL ends with /v1 already."""
    return asked.path if member.attempt else asked.path.removeprefix("/v1")


async def _read(reply: Reply) -> bytes:
    return await reply.read(ANSWER_BYTES_MAX)


async def _split(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of a stream, without the empty lines between them. Errors: `Broken` for one without end."""
    waiting = b""
    async for piece in pieces:
        waiting += piece.replace(b"\r\n", b"\n") if b"\r" in piece else piece
        if b"\n\n" not in waiting:
            if len(waiting) > EVENT_BYTES_MAX:
                raise Broken("an event without end")
            continue
        *events, waiting = waiting.split(b"\n\n")
        for event in events:
            if event:
                yield event


def _chunk_usage(data: bytes) -> dict[str, Any] | None:
    try:
        usage = msgspec.json.decode(data).get("usage")
    except (msgspec.DecodeError, AttributeError):
        return None
    return usage if is_object(usage) else None


class _Props(msgspec.Struct):
    chat_template_caps: dict[str, Any] = {}


_props = msgspec.json.Decoder(_Props)


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Whole(msgspec.Struct):
    usage: _Usage | None = None


_whole = msgspec.json.Decoder(_Whole)


def _usage(data: bytes, asked: CheckedRequest) -> Used:
    try:
        usage = _whole.decode(data).usage
    except msgspec.DecodeError:
        usage = None
    if usage is None:
        return Used(1, 0, asked.prompt_tokens, len(data) // 8)  # a backend that does not say: guessed from the answer
    return Used(1, 0, usage.prompt_tokens, usage.completion_tokens)
