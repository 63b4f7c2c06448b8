package runcomfy_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// Submit accepts unusual forms of the response to a paid POST. If Submit finds no request id in a
// response, the error leaves open whether RunComfy accepted the job.
func TestFormsOfAResponse(t *testing.T) {
	const ok = `{"request_id":"r"}`
	plain := func(length int, text string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, text)
	}
	whole := func(text string) string { return plain(len(text), text) }
	encoded := func(encoding, text string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", encoding, len(text), text)
	}
	tests := []struct{ name, response, want string }{
		{"gzip", encoded("gzip", gzipped(ok)), "r"},
		{"gzip with a byte order mark", encoded("gzip", gzipped("\ufeff"+ok)), "r"},
		{"gzip without its end", encoded("gzip", gzipped(ok)[:len(gzipped(ok))-8]), "r"},
		{"gzip that is not gzip", encoded("gzip", ok), ""},
		{"gzip of many megabytes", encoded("gzip", gzipped(`{"request_id":"r","x":"`+strings.Repeat("x", 64<<20)+`"}`)), ""},
		{"an encoding that was not asked for", encoded("br", "\x0b\x02\x80{}\x03"), ""},
		{"UTF-16", whole("\xff\xfe{\x00}\x00"), ""},
		{"white space around the object", whole("\r\n\t " + ok + " \n"), "r"},
		{"an id named twice", whole(`{"request_id":"a","request_id":"r"}`), "r"},
		{"an id in upper case", whole(`{"REQUEST_ID":"r"}`), ""},
		{"an id in an object", whole(`{"data":{"request_id":"r"}}`), ""},
		{"an id beside numbers that are too large", whole(`{"request_id":"r","x":1e999,"queue_position":123456789012345678901234567890}`), "r"},
		{"an id beside null members", whole(`{"request_id":"r","status_url":null,"result_url":null,"error_code":null,"error":null}`), "r"},
		{"an id with escaped characters", whole(`{"request_id":"\u0072"}`), "r"},
		{"invalid UTF-8 in another member", whole("{\"request_id\":\"r\",\"x\":\"\xff\"}"), "r"},
		{"an id beside numbers that are not finite", whole(`{"x":NaN,"y":[Infinity,-Infinity],"request_id":"r"}`), "r"},
		{"NaN in an id, and in another string", whole(`{"request_id":"NaN","x":"\"NaN,","y":NaN}`), "NaN"},
		{"a word that JSON does not have", whole(`{"request_id":"r","x":nan}`), ""},
		{"objects that are nested too deep", whole(`{"request_id":"r","x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`), ""},
		{"two objects", whole(ok + "\n" + ok), ""},
		{"a length that is too small", plain(len(ok)-1, ok), ""},
		{"a length that is too large", plain(len(ok)+1, ok), "r"},
		{"neither a length nor an end", "HTTP/1.1 200 OK\r\n\r\n" + ok, "r"},
		{"HTTP 1.0", "HTTP/1.0 200 OK\r\n\r\n" + ok, "r"},
		{"chunks without the last one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n" + ok + "\r\n", "r"},
		{"chunks with a wrong size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + ok + "\r\n", ""},
		{"interim responses", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + whole(ok), "r"},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"no body with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 18\r\n\r\n" + ok, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := sending(t, tt.response).Submit(t.Context(), "a/b", nil)
			got := classOf(err)
			if id != tt.want || got.ok != (tt.want != "") || got.notSent || got.kind != "" && got.kind != runcomfy.KindUnavailable {
				t.Errorf("id %q, error %v; want the id %q, or without an id an error that leaves open whether the job was accepted", id, err, tt.want)
			}
		})
	}
}

// If a body never ends, Submit returns when the client's timeout is over. Submit accepts the body if
// it is a whole object by then.
func TestABodyThatNeverEnds(t *testing.T) {
	for body, want := range map[string]string{`{"request_id":"r"}`: "r", `{"request_id":`: ""} {
		synctest.Test(t, func(t *testing.T) {
			httpClient := dialing(func() (net.Conn, error) {
				conn, server := net.Pipe()
				go func() {
					if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
						_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"+body)
					}
				}()
				return conn, nil
			})
			httpClient.Timeout = time.Minute
			client := &runcomfy.Client{Token: fixedToken, BaseURL: "http://runcomfy", HTTPClient: httpClient}
			began := time.Now()
			id, err := client.Submit(t.Context(), "a/b", nil)
			if id != want || (err == nil) != (want != "") || runcomfy.NotSent(err) || time.Since(began) != time.Minute {
				t.Errorf("%s: id %q, error %v after %v; want the id %q after a minute", body, id, err, time.Since(began), want)
			}
		})
	}
}
