// Asks for each URL of its command line by the built-in fetch, then uploads to the first one.
'use strict';

async function main(urls) {
  for (const url of urls) await (await fetch(url)).text();
  await (await fetch(urls[0], { method: 'POST', body: 'x'.repeat(200_000) })).text();
}

main(process.argv.slice(2));
