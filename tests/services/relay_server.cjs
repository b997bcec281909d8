// Calls what it is asked to call and answers what it was answered, for each call a line of JSON;
// over connections that it keeps. `FORWARD` is `none` or `all`: what of the request's headers goes
// along, as they came.
'use strict';

const http = require('node:http');

const HOP = new Set(['host', 'connection']);
const agent = new http.Agent({ keepAlive: true });

function forwarded(raw) {
  const headers = [];
  for (let at = 0; process.env.FORWARD === 'all' && at < raw.length; at += 2) {
    if (!HOP.has(raw[at].toLowerCase())) headers.push(raw[at], raw[at + 1]);
  }
  return headers;
}

function call(url, raw) {
  return new Promise((resolve, reject) => {
    const headers = ['Host', url.host, ...forwarded(raw)];
    const request = http.request(url, { agent, headers }, (answer) => {
      let body = '';
      answer.setEncoding('latin1');
      answer.on('data', (data) => { body += data; });
      answer.on('end', () => resolve(body));
    });
    request.on('error', reject);
    request.end();
  });
}

const server = http.createServer(async (incoming, outgoing) => {
  const query = new URL(incoming.url, 'http://localhost').searchParams;
  try {
    const answers = [];
    for (let times = Number(query.get('times') ?? 1); times > 0; times -= 1) {
      answers.push(await call(new URL(query.get('url')), incoming.rawHeaders));
    }
    outgoing.end(answers.map((answer) => `${JSON.stringify(answer)}\n`).join(''));
  } catch (error) {
    outgoing.writeHead(502).end(`${error.message}\n`);
  }
});

server.listen(Number(process.env.PORT), '127.0.0.1');
