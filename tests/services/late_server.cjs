// Answers, and goes on calling after that; knows nothing of tracing. `/late?url=URL` calls the URL
// once before it answers and three times afterwards.
'use strict';

const http = require('node:http');

const agent = new http.Agent({ keepAlive: true });

const call = (url) =>
  new Promise((resolve, reject) => {
    const request = http.get(url, { agent }, (answer) => answer.resume().on('end', resolve));
    request.on('error', reject);
  });

const server = http.createServer(async (incoming, outgoing) => {
  const url = new URL(incoming.url, 'http://localhost').searchParams.get('url');
  if (url) await call(url);
  outgoing.end('done\n');
  if (url) await Promise.all([1, 2, 3].map(() => call(`${url}-late`)));
});

server.listen(Number(process.env.PORT), '127.0.0.1');
