// Command probe is the smoke tests' only tool: an HTTP server that tells what it sees, and the client commands
// to run beside it, in one static binary without a shell.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// The commands answer within this time or fail: longer than a healthy cluster ever takes, short enough to retry.
const patience = 3 * time.Second

func main() {
	if len(os.Args) < 2 {
		fail("usage: probe serve ADDRESS | get URL | resolve NAME | write FILE TEXT | read FILE")
	}
	argument := func(i int) string {
		if len(os.Args) <= i {
			fail("probe: an argument is missing")
		}
		return os.Args[i]
	}
	switch os.Args[1] {
	case "serve":
		serve(argument(2))
	case "get":
		get(argument(2))
	case "resolve":
		resolve(argument(2))
	case "write":
		if err := os.WriteFile(argument(2), []byte(argument(3)), 0o600); err != nil {
			fail(err.Error())
		}
	case "read":
		text, err := os.ReadFile(argument(2))
		if err != nil {
			fail(err.Error())
		}
		fmt.Println(string(text))
	default:
		fail("probe: no such command")
	}
}

func serve(address string) {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s\n", host, client)
	})
	fail(http.ListenAndServe(address, nil).Error())
}

func get(url string) {
	client := http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		fail(err.Error())
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fail(err.Error())
	}
}

func resolve(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(strings.Join(addresses, " "))
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}
