// The price service: asks for the stock, scarce things cost more. Knows nothing of tracing.
import http from 'node:http';

const { PORT, STOCK_URL } = process.env;
const base = { teapot: 30, saucer: 4 };

// Headers that this company's services hand from call to call when they got them.
const passedOn = (headers) =>
  Object.fromEntries(
    ['traceparent', 'tracestate', 'x-request-id']
      .filter((name) => name in headers)
      .map((name) => [name, headers[name]]),
  );

const server = http.createServer(async (request, response) => {
  const item = request.url.split('/').pop();
  try {
    const answer = await fetch(`${STOCK_URL}/stock/${item}`, { headers: passedOn(request.headers) });
    const { count } = await answer.json();
    const amount = (base[item] ?? 10) * (count < 5 ? 2 : 1);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ item, amount, stock: count }));
  } catch (error) {
    response.writeHead(502).end(`${error.message}\n`);
  }
});

server.listen(Number(PORT), '127.0.0.1');
