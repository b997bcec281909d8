// A service on Node's own HTTP server, with undici and the
// built-in fetch as its clients; knows nothing of tracing.
'use strict';

const http = require('node:http');
const { request: undici } = require('undici');

const passedOn = (headers) =>
  Object.fromEntries(
    ['traceparent', 'tracestate']
      .filter((name) => name in headers)
      .map((name) => [name, headers[name]]),
  );

async function call(incoming, url) {
  const answer = await undici(url, { headers: passedOn(incoming.headers) });
  const body = await answer.body.text();
  return JSON.stringify({ status: answer.statusCode, length: body.length });
}

async function callByFetch(incoming, url) {
  const answer = await fetch(url, { headers: passedOn(incoming.headers) });
  const body = await answer.text();
  return JSON.stringify({ status: answer.status, length: body.length });
}

const server = http.createServer(async (incoming, outgoing) => {
  const url = new URL(incoming.url, 'http://localhost');
  try {
    if (url.pathname === '/hello') {
      outgoing.end('hello\n');
    } else if (url.pathname.startsWith('/status/')) {
      outgoing.writeHead(Number(url.pathname.slice('/status/'.length))).end();
    } else if (url.pathname === '/echo') {
      incoming.pipe(outgoing);
    } else if (url.pathname === '/stream') {
      for (let number = 0; number < 5; number += 1) outgoing.write(`line ${number}\n`);
      outgoing.end();
    } else if (url.pathname === '/call') {
      const client = process.env.CLIENT === 'fetch' ? callByFetch : call;
      outgoing.end(await client(incoming, url.searchParams.get('url')));
    } else {
      outgoing.writeHead(404).end('not found\n');
    }
  } catch (error) {
    outgoing.writeHead(502).end(`${error.message}\n`);
  }
});

server.listen(Number(process.env.PORT), '127.0.0.1');
