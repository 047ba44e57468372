"""`/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
import time
from typing import Any

import msgspec

from mycelium.base.limits import COMPLETION_BYTES_MAX, REQUEST_TIME_S
from mycelium.inference.asking import Bad, CheckedRequest, check, read
from mycelium.inference.model import ModelKind, Used
from mycelium.inference.rules import ENDPOINTS
from mycelium.serve.gateway import errors
from mycelium.serve.gateway.callers import Callers
from mycelium.serve.gateway.fleet import Fleet
from mycelium.serve.gateway.metering import Meter
from mycelium.serve.gateway.relay import Relay, Tally, WholeAnswer
from mycelium.serve.gateway.table import CallerRow, DeploymentRow
from mycelium.serve.http1.errors import ApiError, unavailable
from mycelium.serve.http1.exchange import EVENTS, Exchange


class Completions:
    def __init__(self, fleet: Fleet, relay: Relay, callers: Callers, meter: Meter) -> None:
        self._fleet = fleet
        self._relay = relay
        self._callers = callers
        self._meter = meter

    async def serve(self, exchange: Exchange) -> None:
        row = self._callers.who(exchange)
        document = await exchange.read_json(COMPLETION_BYTES_MAX)
        asked, deployment = self.admit(row, exchange.path, document)
        self._callers.take(row, asked.tokens)
        exchange.ends_with_client = True
        line, tally = row.key or row.account, Tally(asked, time.monotonic())
        used: Used | None = None
        try:
            async with asyncio.timeout(REQUEST_TIME_S):
                if asked.stream:
                    await self._stream(exchange, line, deployment, asked, tally)
                    used = tally.used(failed=False)
                else:
                    answer = await self.answer(line, deployment, asked)
                    used = answer.used
                    await exchange.answer_bytes(answer.body)
        except TimeoutError:
            raise unavailable(f"the request was not through after {REQUEST_TIME_S}s") from None
        finally:
            used = used or tally.used(failed=True)
            self._callers.settle(row, asked.tokens, used.prompt_tokens + used.completion_tokens)
            self._meter.add(row.key, row.account, deployment.name, used)

    def admit(self, row: CallerRow, path: str, document: Any) -> tuple[CheckedRequest, DeploymentRow]:
        """The request, found good, and who serves it. Errors: `ApiError`."""
        try:
            asked = read(path, document)
            deployment = self.admit_model(row, path, asked.model)
            if not deployment.upstream:
                check(asked)
        except Bad as bad:
            raise errors.of_bad(bad) from None
        return asked, deployment

    def admit_model(self, row: CallerRow, path: str, model: str) -> DeploymentRow:
        """Who serves this model to this caller at this endpoint. Errors: `ApiError`."""
        deployment = self._callers.may_ask(row, self._fleet.deployments.get(model), model)
        if deployment.kind is not ENDPOINTS[path]:
            what = "makes embeddings" if deployment.kind is ModelKind.EMBEDDING else "makes no embeddings"
            raise errors.of_bad(Bad(f"the model {model!r} {what}", "model", "unsupported_endpoint"))
        return deployment

    async def answer(
        self, line: str, deployment: DeploymentRow, asked: CheckedRequest, *, batch: bool = False
    ) -> WholeAnswer:
        """The whole answer of one request. Errors: `ApiError`."""
        if asked.choices > 1 and not deployment.upstream:
            return await self._choices(line, deployment, asked, batch=batch)
        answer = await self._relay.whole(line, deployment, asked, batch=batch)
        if asked.path == "/v1/embeddings" and not deployment.upstream:
            answer.body = _embeddings(answer.body, asked.body.get("encoding_format") == "base64")
        return answer

    async def _choices(
        self, line: str, deployment: DeploymentRow, asked: CheckedRequest, *, batch: bool
    ) -> WholeAnswer:
        """Several choices are several requests: the backend would count the tokens of one of them only."""
        seed = asked.body.get("seed")
        alone = [
            msgspec.structs.replace(
                asked,
                body={**asked.body, "n": 1, **({} if seed is None else {"seed": seed + number})},
                choices=1,
                answer_tokens=asked.answer_tokens // asked.choices,
            )
            for number in range(asked.choices)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_kept(self._relay.whole(line, deployment, one, batch=batch))) for one in alone]
        answers: list[WholeAnswer] = []
        for task in tasks:
            found = task.result()
            if isinstance(found, ApiError):
                raise found
            answers.append(found)
        documents = [msgspec.json.decode(answer.body) for answer in answers]
        whole = documents[0]
        whole["choices"] = [{**found["choices"][0], "index": index} for index, found in enumerate(documents)]
        completion = sum(answer.used.completion_tokens for answer in answers)
        prompt = answers[0].used.prompt_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        whole["usage"] = {**(whole.get("usage") or {}), **usage}
        return WholeAnswer(200, msgspec.json.encode(whole), Used(1, 0, prompt, completion))

    async def _stream(
        self, exchange: Exchange, line: str, deployment: DeploymentRow, asked: CheckedRequest, tally: Tally
    ) -> None:
        """Nothing is sent before the first event has come: until then the request can move to another replica."""
        async with contextlib.aclosing(self._relay.stream(line, deployment, asked, tally)) as events:
            async for event in events:
                if not exchange.began:
                    exchange.begin(200, EVENTS)
                await exchange.write(event)
        await exchange.write(b"", more=False)


async def _kept(work: Any) -> WholeAnswer | ApiError:
    """An error as a value: a group of tasks would wrap it."""
    try:
        return await work
    except ApiError as error:
        return error


def _embeddings(body: bytes, as_base64: bool) -> bytes:
    """As the official client wants them: little-endian floats in base64, unless lists of numbers were asked for."""
    if not as_base64:
        return body
    document = msgspec.json.decode(body)
    for item in document["data"]:
        vector: list[float] = item["embedding"]
        item["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return msgspec.json.encode(document)
