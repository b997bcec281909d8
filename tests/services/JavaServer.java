// A service on the JDK's own HTTP server and client; knows nothing of tracing.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Executors;

public class JavaServer {
    // Offers the upgrade to HTTP/2 with its first request, as this client does by default.
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws IOException {
        InetAddress loopback = InetAddress.getByName("127.0.0.1");
        int port = Integer.parseInt(arguments[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress(loopback, port), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/hello", exchange -> answer(exchange, 200, "hello\n".getBytes()));
        server.createContext("/status/", exchange -> {
            String path = exchange.getRequestURI().getPath();
            answer(exchange, Integer.parseInt(path.substring("/status/".length())), new byte[0]);
        });
        server.createContext("/echo", exchange ->
                answer(exchange, 200, exchange.getRequestBody().readAllBytes()));
        server.createContext("/stream", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            try (var body = exchange.getResponseBody()) {
                for (int number = 0; number < 5; number++) {
                    body.write(("line " + number + "\n").getBytes());
                    body.flush();
                }
            }
        });
        server.createContext("/call", JavaServer::call);
        server.start();
    }

    private static void call(HttpExchange exchange) throws IOException {
        String query = exchange.getRequestURI().getRawQuery();
        String url = URLDecoder.decode(query.substring("url=".length()), StandardCharsets.UTF_8);
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
        for (String name : List.of("traceparent", "tracestate")) {
            String value = exchange.getRequestHeaders().getFirst(name);
            if (value != null) {
                request.header(name, value);
            }
        }
        try {
            HttpResponse<String> called =
                    CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
            answer(exchange, 200, ("status " + called.statusCode() + "\n").getBytes());
        } catch (InterruptedException | IOException failure) {
            answer(exchange, 502, (failure + "\n").getBytes());
        }
    }

    private static void answer(HttpExchange exchange, int status, byte[] body) throws IOException {
        exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
        if (body.length > 0) {
            exchange.getResponseBody().write(body);
        }
        exchange.close();
    }
}
