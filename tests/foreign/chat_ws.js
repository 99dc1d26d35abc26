// Talks to an agent with the package `ws`, and prints what it saw as one JSON document.
//
// node chat_ws.js unix PATH AGENT TEXT
// node chat_ws.js tcp HOST:PORT AGENT TEXT    (the token comes in AGENTBOT_TOKEN)
//
// The package is looked for in NODE_PATH.
'use strict';

const WebSocket = require('ws');

const PROTOCOL = 'agentbot.chat.v1';
const [way, where, agent, text] = process.argv.slice(2);

const address = way === 'unix' ? `ws+unix:${where}:/api/chat/ws` : `ws://${where}/api/chat/ws`;
// A browser cannot set headers: it offers its token beside the protocol.
const protocols = way === 'unix' ? [PROTOCOL] : [PROTOCOL, `token.${process.env.AGENTBOT_TOKEN}`];
const socket = new WebSocket(address, protocols, { handshakeTimeout: 10000 });

const waiting = new Map();
const told = { messages: [], pieces: '', pongs: 0 };
const ended = new Map();
let number = 0;

function ask(method, params, fragments = 1) {
  const id = String(++number);
  const frame = Buffer.from(JSON.stringify({ type: 'req', id, method, params }));
  const step = Math.ceil(frame.length / fragments);
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    for (let at = 0; at < frame.length; at += step) {
      socket.send(frame.subarray(at, at + step), { binary: false, fin: at + step >= frame.length });
    }
  });
}

function done(turn) {
  return new Promise((resolve) => {
    const look = () => (ended.has(turn) ? resolve(ended.get(turn)) : setTimeout(look, 10));
    look();
  });
}

socket.on('message', (data, binary) => {
  if (binary) throw new Error('a binary message');
  const frame = JSON.parse(data.toString());
  if (frame.type === 'res') {
    waiting.get(frame.id)(frame);
    waiting.delete(frame.id);
  } else if (frame.event === 'chat.message') {
    told.messages.push(frame.payload.content);
  } else if (frame.event === 'chat.delta') {
    told.pieces += frame.payload.text;
  } else if (frame.event === 'chat.done') {
    ended.set(frame.payload.turn, frame.payload);
  }
});
socket.on('pong', () => { told.pongs += 1; });
socket.on('error', (error) => { told.error = error.message; });
socket.on('unexpected-response', (_, response) => {
  console.log(JSON.stringify({ refused: response.statusCode }));
  process.exit(0);
});
socket.on('close', (code) => {
  told.close = code;
  console.log(JSON.stringify(told));
  process.exit(0);
});
socket.on('open', async () => {
  told.protocol = socket.protocol;
  const connected = await ask('connect', { version: 1, client: 'ws' });
  told.actor = connected.payload.actor;
  const subscribed = await ask('chat.subscribe', { agent });
  if (!subscribed.ok) {
    told.refused = subscribed.error.code;
    socket.close(1000);
    return;
  }
  socket.ping('are you there?');
  const sent = await ask('chat.send', { agent, text }, 5);
  told.status = (await done(sent.payload.turn)).status;
  told.unknown = (await ask('no.such.method', {})).error.code;
  socket.ping();
  // A text message that is not UTF-8.
  socket.send(Buffer.from([0x22, 0xff, 0xfe, 0x22]), { binary: false });
});
setTimeout(() => {
  console.error('it took too long');
  process.exit(1);
}, 30000).unref();
