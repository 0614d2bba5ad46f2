"""OpenAI's and LangChain's clients against a server, as their users call them.

    python -m venv v && v/bin/pip install openai==3.57.0 langchain-openai==1.7.4
    v/bin/python bunny-serve/checks/clients.py --bunny target/release/bunny-cli
"""

import argparse
import asyncio
import base64
import pathlib
import threading

import openai
import running
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

PICTURE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "pictures" / "shapes.jpg"
URL = "data:image/jpeg;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
CONTENT = [
    {"type": "text", "text": "What is in the picture?"},
    {"type": "image_url", "image_url": {"url": URL, "detail": "high"}},
]
QUESTION = {"model": "builtin", "messages": [{"role": "user", "content": CONTENT}], "temperature": 0}


def refused(kind, act):
    """The error of an act, which must be of this class."""
    try:
        act()
    except kind as error:
        assert type(error) is kind, error
        return error
    raise AssertionError(f"no {kind.__name__}")


def whole_and_streamed(client):
    answer = client.chat.completions.create(**QUESTION)
    text = answer.choices[0].message.content
    assert text and not text.startswith(" "), text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens_details.image_tokens > 1
    details = answer.usage.completion_tokens_details
    assert (details.text_tokens, details.reasoning_tokens) == (answer.usage.completion_tokens, 0), details
    assert answer._request_id
    stream = client.chat.completions.create(**QUESTION, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    with client.chat.completions.stream(**QUESTION) as helped:
        assert helped.get_final_completion().choices[0].message.content == text
    several = client.chat.completions.create(
        **QUESTION | {"temperature": 1.5}, n=3, seed=1, logprobs=True, top_logprobs=2, stop=["."])
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len(several.choices[0].logprobs.content[0].top_logprobs) == 2
    completed = client.completions.create(
        model="builtin", prompt="USER: What is 2 + 2? ASSISTANT:", echo=True, max_tokens=4, logprobs=1)
    assert completed.choices[0].text.startswith("USER:")
    assert [model.id for model in client.models.list()] == ["builtin"]
    assert client.models.retrieve("builtin").owned_by == "bunny"
    return text


async def at_once(client, text):
    answers = [client.chat.completions.create(**QUESTION) for _ in range(32)]
    for answer in await asyncio.gather(*answers):
        assert answer.choices[0].message.content == text
    stream = await client.chat.completions.create(**QUESTION, stream=True)
    async for _ in stream:
        break
    await stream.close()


def errors(client, url):
    create = client.chat.completions.create
    error = refused(openai.NotFoundError, lambda: create(**QUESTION | {"model": "gpt"}))
    assert (error.code, error.param) == ("model_not_found", "model")
    error = refused(openai.BadRequestError, lambda: create(**QUESTION | {"temperature": 3}))
    assert error.param == "temperature" and error.type == "invalid_request_error"
    long = [{"role": "user", "content": "word " * 5000}]
    error = refused(openai.BadRequestError, lambda: create(**QUESTION | {"messages": long}))
    assert error.code == "context_length_exceeded"
    wrong = openai.OpenAI(base_url=url + "/v1", api_key="wrong")
    refused(openai.AuthenticationError, lambda: wrong.models.list())


def retries(client):
    """A full server answers 429 with Retry-After; the client waits and asks again by itself."""
    busy = {**QUESTION, "temperature": 2, "max_tokens": 200, "stream": True, "extra_body": {"ignore_eos": True}}
    held = [client.chat.completions.create(**busy) for _ in range(2)]
    impatient = client.with_options(max_retries=0)
    error = refused(openai.RateLimitError, lambda: impatient.chat.completions.create(**QUESTION))
    assert error.code == "queue_full" and error.response.headers["retry-after"]
    threading.Timer(0.5, lambda: [stream.close() for stream in held]).start()
    assert client.with_options(max_retries=5).chat.completions.create(**QUESTION).choices


def langchain(url, text):
    model = ChatOpenAI(base_url=url + "/v1", api_key="secret", model="builtin", temperature=0, max_tokens=64)
    message = HumanMessage(content=CONTENT)
    answer = model.invoke([message])
    assert answer.content == text and answer.usage_metadata["input_tokens"] > 1
    assert "".join(chunk.content for chunk in model.stream([message])) == text
    assert [one.content for one in model.batch([[message]] * 4)] == [text] * 4
    assert asyncio.run(model.ainvoke([message])).content == text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bunny", required=True)
    bunny = parser.parse_args().bunny
    with running.server(bunny, "--api-key", "secret") as (url, _):
        client = openai.OpenAI(base_url=url + "/v1", api_key="secret")
        text = whole_and_streamed(client)
        asyncio.run(at_once(openai.AsyncOpenAI(base_url=url, api_key="secret"), text))
        errors(client, url)
        langchain(url, text)
    with running.server(bunny, "--slots", "1", "--max-queue", "1") as (url, _):
        retries(openai.OpenAI(base_url=url + "/v1", api_key="none"))
    print("all clients are content")


if __name__ == "__main__":
    main()
