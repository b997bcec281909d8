// The stock service: how many of a thing there are. Knows nothing of tracing.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var shelf = map[string]int{"teapot": 3, "saucer": 40}

func stock(w http.ResponseWriter, r *http.Request) {
	item := strings.TrimPrefix(r.URL.Path, "/stock/")
	time.Sleep(3 * time.Millisecond) // somebody walks to the shelf
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"item": item, "count": shelf[item]})
}

func main() {
	http.HandleFunc("/stock/", stock)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
