// A service on Go's own HTTP server and client; knows nothing of tracing.
// The plan in a request's query is explained in plan.py.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var leaf = os.Getenv("LEAF")

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func call(url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func run(tag, plan string) error {
	made := 0
	next := func() string {
		made++
		return fmt.Sprintf("%s/leaf/%s/%d", leaf, tag, made-1)
	}
	for _, word := range strings.Split(plan, ".") {
		if word == "" {
			continue
		}
		count, err := strconv.Atoi(word[1:])
		if err != nil {
			return err
		}
		switch word[0] {
		case 's':
			time.Sleep(time.Duration(count) * time.Millisecond)
		case 'p':
			results := make(chan error, count)
			for i := 0; i < count; i++ {
				url := next()
				go func() { results <- call(url) }()
			}
			for i := 0; i < count; i++ {
				err = errors.Join(err, <-results)
			}
		default:
			for i := 0; i < count; i++ {
				err = errors.Join(err, call(next()))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func work(w http.ResponseWriter, r *http.Request) {
	tag := strings.Split(r.URL.Path, "/")[2]
	if err := run(tag, r.URL.Query().Get("plan")); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	io.WriteString(w, "done\n")
}

func main() {
	http.HandleFunc("/plan/", work)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
