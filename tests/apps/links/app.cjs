// A service on Node's own HTTP server; CLIENT selects how it calls: `http`, `undici` or `fetch`.
// Knows nothing of tracing. The plan in a request's query is explained in plan.py.
'use strict';

const http = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');

function callByHttp(url) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, (answer) => {
      answer.resume().on('error', reject).on('end', () => resolve(answer.statusCode));
    });
    request.on('error', reject);
  });
}

async function callByFetch(url) {
  const answer = await fetch(url);
  await answer.text();
  return answer.status;
}

function undiciCall() {
  const { request } = require('undici');
  return async (url) => {
    const answer = await request(url);
    await answer.body.text();
    return answer.statusCode;
  };
}

const clients = { http: () => callByHttp, fetch: () => callByFetch, undici: undiciCall };
const status = clients[process.env.CLIENT]();

async function call(url) {
  const code = await status(url);
  if (code !== 200) throw new Error(`${url} answered ${code}`);
}

async function work(url) {
  const tag = url.pathname.split('/')[2];
  let made = 0;
  const next = () => call(`${process.env.LEAF}/leaf/${tag}/${made++}`);
  for (const word of url.searchParams.get('plan').split('.').filter(Boolean)) {
    const count = Number(word.slice(1));
    if (word[0] === 's') {
      await sleep(count);
    } else if (word[0] === 'p') {
      await Promise.all(Array.from({ length: count }, next));
    } else {
      for (let number = 0; number < count; number += 1) await next();
    }
  }
}

const server = http.createServer(async (incoming, outgoing) => {
  try {
    await work(new URL(incoming.url, 'http://localhost'));
    outgoing.end('done\n');
  } catch (error) {
    outgoing.writeHead(502).end(`${error.stack}\n`);
  }
});

server.listen(Number(process.env.PORT), '127.0.0.1');
