// A service on the JDK's own HTTP server; knows nothing of tracing.
// Arguments: port, kind of service, threads. The plan in a request's query is explained in plan.py.
//   pool      a thread of a pool for each request, HttpURLConnection
//   executor  the same, and calls to be made at once on threads of a second pool
//   client    the same, java.net.http.HttpClient
//   virtual   a virtual thread for each request and for each call to be made at once,
//             HttpURLConnection

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class LinksApp {
    private static final String LEAF = System.getenv("LEAF");
    private static final int BACKLOG = 1024;

    /** How calls are made. */
    private interface Calls {
        void one(URI url) throws Exception;

        default void together(List<URI> urls) throws Exception {
            for (URI url : urls) {
                one(url);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        String kind = arguments[1];
        int threads = Integer.parseInt(arguments[2]);
        ExecutorService handlers =
                kind.equals("virtual") ? virtualThreads() : Executors.newFixedThreadPool(threads);
        Calls calls = switch (kind) {
            case "pool" -> LinksApp::callByUrl;
            case "executor" -> fanningOut(Executors.newFixedThreadPool(threads));
            case "virtual" -> fanningOut(handlers);
            case "client" -> new Client();
            default -> throw new IllegalArgumentException(kind);
        };
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), BACKLOG);
        server.setExecutor(handlers);
        server.createContext("/plan/", exchange -> answer(exchange, calls));
        server.start();
    }

    /** By reflection, because this must compile where only an older JDK is. */
    private static ExecutorService virtualThreads() throws ReflectiveOperationException {
        var method = Executors.class.getMethod("newVirtualThreadPerTaskExecutor");
        return (ExecutorService) method.invoke(null);
    }

    private static void answer(HttpExchange exchange, Calls calls) throws IOException {
        int status = 200;
        byte[] body = "done\n".getBytes();
        try {
            work(exchange.getRequestURI(), calls);
        } catch (Exception failure) {
            failure.printStackTrace();
            status = 502;
            body = (failure + "\n").getBytes();
        }
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    private static void work(URI request, Calls calls) throws Exception {
        String tag = request.getPath().split("/")[2];
        String plan = request.getQuery().substring("plan=".length());
        int made = 0;
        for (String word : plan.split("\\.")) {
            if (word.isEmpty()) {
                continue;
            }
            int count = Integer.parseInt(word.substring(1));
            if (word.charAt(0) == 's') {
                Thread.sleep(count);
                continue;
            }
            List<URI> urls = new ArrayList<>();
            for (int number = 0; number < count; number++) {
                urls.add(URI.create(LEAF + "/leaf/" + tag + "/" + made++));
            }
            if (word.charAt(0) == 'p') {
                calls.together(urls);
            } else {
                for (URI url : urls) {
                    calls.one(url);
                }
            }
        }
    }

    private static void callByUrl(URI url) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) url.toURL().openConnection();
        if (connection.getResponseCode() != 200) {
            throw new IOException(url + " answered " + connection.getResponseCode());
        }
        try (InputStream body = connection.getInputStream()) {
            body.readAllBytes();
        }
    }

    private static Calls fanningOut(ExecutorService executor) {
        return new Calls() {
            @Override
            public void one(URI url) throws Exception {
                callByUrl(url);
            }

            @Override
            public void together(List<URI> urls) throws Exception {
                List<Future<?>> running = new ArrayList<>();
                for (URI url : urls) {
                    running.add(executor.submit(() -> {
                        callByUrl(url);
                        return null;
                    }));
                }
                for (Future<?> call : running) {
                    call.get();
                }
            }
        };
    }

    private static final class Client implements Calls {
        private final HttpClient client =
                HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

        private static void check(URI url, int status) {
            if (status != 200) {
                throw new IllegalStateException(url + " answered " + status);
            }
        }

        @Override
        public void one(URI url) throws Exception {
            HttpRequest request = HttpRequest.newBuilder(url).build();
            check(url, client.send(request, BodyHandlers.ofString()).statusCode());
        }

        @Override
        public void together(List<URI> urls) {
            List<CompletableFuture<Void>> running = new ArrayList<>();
            for (URI url : urls) {
                HttpRequest request = HttpRequest.newBuilder(url).build();
                running.add(client.sendAsync(request, BodyHandlers.ofString())
                        .thenAccept(answer -> check(url, answer.statusCode())));
            }
            running.forEach(CompletableFuture::join);
        }
    }
}
