"""Talks to an agent with OpenAI's own SDK through the TCP door, and prints what it saw as one JSON document.

openai_sdk.py HOST:PORT TEXT    (the token comes in AGENTBOT_TOKEN)
"""

import json
import os
import sys

import openai

door, text = sys.argv[1:]
client = openai.OpenAI(
    base_url=f"http://{door}/v1", api_key=os.environ["AGENTBOT_TOKEN"], max_retries=0, timeout=30
)


def refused(call):
    """The status and code of the refusal of a call, or what it gave instead."""
    try:
        return {"instead": repr(call())}
    except openai.APIStatusError as error:
        return {"status": error.status_code, "code": error.code, "kind": type(error).__name__}


def ask(content, model, **options):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=model, messages=messages, **options)


told = {}
try:
    models = [model.id for model in client.models.list()]
    told["models"] = models
    plain = ask(text, models[0], user="sdk")
    told["plain"] = plain.choices[0].message.content
    told["finish"] = plain.choices[0].finish_reason
    told["object"] = plain.object
    pieces, finish = [], None
    for chunk in ask(text, models[0], user="sdk", stream=True):
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    told["pieces"], told["streamed"], told["stream_finish"] = len(pieces), "".join(pieces), finish
    told["no_messages"] = refused(lambda: client.chat.completions.create(model=models[0], messages=[]))
    told["too_long"] = refused(lambda: ask("x" * (64 * 1024 + 1), models[0]))
except openai.APIStatusError as error:
    told["refused"] = {"status": error.status_code, "code": error.code, "kind": type(error).__name__}
print(json.dumps(told))
