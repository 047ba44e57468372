"""What a request must be, and what is said of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from mycelium.inference.asking import TOKENS_GUESSED, Bad, check, read

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def asked(path: str = CHAT, **change: Any) -> Any:
    found = read(path, {**GOOD, **change})
    check(found)
    return found


def test_a_plain_request_is_good_and_its_tokens_are_guessed():
    found = asked(max_tokens=7, n=2)
    assert (found.model, found.stream, found.choices, found.answer_tokens) == ("m", False, 2, 14)
    assert asked().answer_tokens == TOKENS_GUESSED


def test_null_means_that_a_parameter_was_not_given():
    assert asked(temperature=None, stop=None, stream=None, stream_options=None).stream is False


def test_every_known_parameter_of_a_chat_is_taken():
    asked(
        stop=["a", "b"], seed=1, temperature=0.5, top_p=1, presence_penalty=-1, frequency_penalty=1, logprobs=True,
        top_logprobs=3, tools=[], tool_choice="auto", response_format={"type": "json_object"}, user="u", store=False,
        stream=True, stream_options={"include_usage": True}, max_completion_tokens=5, service_tier="auto",
    )  # fmt: skip


def test_tools_their_calls_and_the_rest_of_a_talk_are_taken():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": "hello", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "1"},
    ]
    asked(messages=talk, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    asked(tools=[TOOL], tool_choice="required", logit_bias={"5": -100})
    asked(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}})


def test_probabilities_of_a_completion_are_refused_because_the_backend_tells_them_in_another_form():
    with pytest.raises(Bad) as bad:
        check(read("/v1/completions", {"model": "m", "prompt": "x", "logprobs": 2}))
    assert bad.value.param == "logprobs"


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"stop": ["a"] * 5}, "stop"),
        (CHAT, {"stop": 5}, "stop"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format"),
        (CHAT, {"response_format": "json"}, "response_format"),
        (CHAT, {"store": True}, "store"),
        (CHAT, {"modalities": ["audio"]}, "modalities"),
        (CHAT, {"prediction": {}}, "prediction"),
        (CHAT, {"temperature": True}, "temperature"),
        (CHAT, {"seed": 1.5}, "seed"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        (CHAT, {"messages": ["hello"]}, "messages"),
        (CHAT, {"messages": [{"role": "assistant", "content": None}]}, "messages"),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages"),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages"),
        (CHAT, {"stop": [""]}, "stop"),
        (CHAT, {"tools": [1]}, "tools"),
        (CHAT, {"tools": [{}]}, "tools"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools"),
        (CHAT, {"tools": [TOOL], "tool_choice": "banana"}, "tool_choice"),
        (CHAT, {"tool_choice": "required"}, "tool_choice"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"logit_bias": {"x": "y"}}, "logit_bias"),
        (CHAT, {"logit_bias": {"5": 101}}, "logit_bias"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format"),
        ("/v1/completions", {"messages": None, "prompt": [1, 2]}, "messages"),
    ],
)
def test_what_is_wrong_is_named(path: str, change: dict[str, Any], param: str):
    with pytest.raises(Bad) as bad:
        asked(path, **change)
    assert bad.value.param == param


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"model": ""}, {"model": 5}, {"model": "m", "stream": 1}])
def test_what_is_no_request_is_refused(document: Any):
    with pytest.raises(Bad):
        read(CHAT, document)


@pytest.mark.parametrize("value", ["", [], [""], [1], [[1]], None, {"a": 1}, ["x"] * 2049])
def test_what_cannot_be_embedded_is_refused(value: Any):
    with pytest.raises(Bad):
        check(read("/v1/embeddings", {"model": "m", "input": value}))


def test_the_text_of_strange_messages_is_still_a_text():
    for messages in (None, 5, "x", [5], [{"role": 1, "content": [None, {"text": 3}]}]):
        assert isinstance(read(CHAT, {"model": "m", "messages": messages}).text, str)
