// A service whose requests call from goroutines of several kinds; knows nothing of tracing. Every
// call's path ends with the request that it is for.
package main

import (
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var leaf = os.Getenv("LEAF")

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func call(path string) error {
	answer, err := client.Get(leaf + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	io.WriteString(w, "done\n")
}

// Calls from the goroutine that serves the request, then from two that it waits for.
func work(w http.ResponseWriter, r *http.Request) {
	tag := strings.TrimPrefix(r.URL.Path, "/tasks/")
	err := call("/own/" + tag)
	results := make(chan error, 2)
	for i := 0; i < 2; i++ {
		go func() { results <- call("/child/" + tag) }()
	}
	for i := 0; i < 2; i++ {
		err = errors.Join(err, <-results)
	}
	answer(w, err)
}

// Answers at once, and calls from a goroutine that nobody waits for.
func notify(w http.ResponseWriter, r *http.Request) {
	tag := strings.TrimPrefix(r.URL.Path, "/notify/")
	go func() {
		time.Sleep(2 * time.Millisecond)
		call("/late/" + tag)
	}()
	answer(w, call("/own/"+tag))
}

// Calls for no request at all.
func tick() {
	for range time.Tick(3 * time.Millisecond) {
		call("/tick/none")
	}
}

func main() {
	go tick()
	http.HandleFunc("/tasks/", work)
	http.HandleFunc("/notify/", notify)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
