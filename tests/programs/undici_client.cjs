// Asks for each URL of its command line, then uploads to the first one in chunks.
'use strict';

const { Agent, request, setGlobalDispatcher } = require('undici');

setGlobalDispatcher(new Agent({ connections: 1 }));

async function* chunks() {
  for (let count = 0; count < 20; count += 1) yield Buffer.alloc(10_000, 'x');
}

async function main(urls) {
  for (const url of urls) await (await request(url)).body.dump();
  await (await request(urls[0], { method: 'POST', body: chunks() })).body.dump();
}

main(process.argv.slice(2));
