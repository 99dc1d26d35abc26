"""Talks to an agent with the package `websockets`, and prints what it saw as one JSON document.

chat_websockets.py unix PATH AGENT TEXT
chat_websockets.py tcp HOST:PORT AGENT TEXT    (the token comes in AGENTBOT_TOKEN)
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

PROTOCOL = "agentbot.chat.v1"


class Client:
    def __init__(self, socket):
        self.socket, self.events, self.number = socket, [], 0

    async def ask(self, method, params, fragments=1):
        self.number += 1
        wanted = str(self.number)
        text = json.dumps({"type": "req", "id": wanted, "method": method, "params": params})
        step = -(-len(text) // fragments)
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        # A list goes out as one message in fragments.
        await self.socket.send(pieces if fragments > 1 else text)
        while True:
            frame = json.loads(await self.socket.recv())
            if frame["type"] == "res" and frame["id"] == wanted:
                return frame
            self.events.append(frame)

    async def until_done(self, turn):
        while True:
            for frame in self.events:
                if frame["event"] == "chat.done" and frame["payload"]["turn"] == turn:
                    return frame["payload"]
            self.events.append(json.loads(await self.socket.recv()))


async def main(way, where, agent, text):
    options = {"subprotocols": [PROTOCOL], "ping_interval": 0.2, "ping_timeout": 5, "open_timeout": 10}
    if way == "unix":
        opening = unix_connect(where, uri="ws://localhost/api/chat/ws", **options)
    else:
        token = {"Authorization": f"Bearer {os.environ['AGENTBOT_TOKEN']}"}
        opening = connect(f"ws://{where}/api/chat/ws", additional_headers=token, **options)
    async with asyncio.timeout(30), opening as socket:
        client = Client(socket)
        connected = await client.ask("connect", {"version": 1, "client": "websockets"})
        await client.ask("chat.subscribe", {"agent": agent})
        sent = await client.ask("chat.send", {"agent": agent, "text": text}, fragments=7)
        # Pings go to and fro while it waits.
        await asyncio.sleep(0.7)
        done = await client.until_done(sent["payload"]["turn"])
        refused = await client.ask("no.such.method", {})
        await socket.ping()
        messages = [frame["payload"]["content"] for frame in client.events if frame["event"] == "chat.message"]
        pieces = [frame["payload"]["text"] for frame in client.events if frame["event"] == "chat.delta"]
        told = {
            "protocol": socket.subprotocol,
            "actor": connected["payload"]["actor"],
            "messages": messages,
            "pieces": "".join(pieces),
            "status": done["status"],
            "unknown": refused["error"]["code"],
        }
        await socket.send(b"\x00\x01 a binary message")
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            told["close"] = closed.rcvd.code if closed.rcvd else None
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
