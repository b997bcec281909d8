// A service on Go's own HTTP server and client; knows nothing of tracing.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func hello(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "hello\n")
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/status/"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(code)
}

func echo(w http.ResponseWriter, r *http.Request) {
	io.Copy(w, r.Body)
}

func stream(w http.ResponseWriter, _ *http.Request) {
	for number := 0; number < 5; number++ {
		fmt.Fprintf(w, "line %d\n", number)
		w.(http.Flusher).Flush()
	}
}

func call(w http.ResponseWriter, r *http.Request) {
	request, err := http.NewRequestWithContext(r.Context(), "GET", r.URL.Query().Get("url"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, name := range []string{"Traceparent", "Tracestate"} {
		if value := r.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	length, _ := io.Copy(io.Discard, answer.Body)
	fmt.Fprintf(w, "status %d length %d\n", answer.StatusCode, length)
}

func main() {
	http.HandleFunc("/hello", hello)
	http.HandleFunc("/status/", status)
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/stream", stream)
	http.HandleFunc("/call", call)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
