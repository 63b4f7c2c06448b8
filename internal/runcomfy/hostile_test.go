package runcomfy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// Whatever bytes a server sends, in whatever place, nothing that a call returns contains the
// token or has more than 1000 bytes.
func TestResponsesThatQuoteTheToken(t *testing.T) {
	const secret = "canary-token-0123456789"
	body := func(text string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
	tests := map[string]string{
		"not HTTP":               secret + "\r\n\r\n",
		"HTTP version":           "HTTP/" + secret + " 200 OK\r\n\r\n",
		"HTTP status":            "HTTP/1.1 " + secret + "\r\n\r\n",
		"header without a colon": "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
		"long header":            "HTTP/1.1 200 OK\r\n" + strings.Repeat(secret, 30_000) + "\r\n\r\n",
		"transfer encoding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
		"content length":         "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n",
		"status and outcome":     body(`{"status": "` + secret + `", "outcome": "` + secret + `"}`),
		"status in upper case":   body(`{"status": "` + strings.ToUpper(secret) + `", "outcome": "` + strings.ToUpper(secret) + `"}`),
		"long words":             body(`{"status": "` + strings.Repeat("a", 100_000) + `", "outcome": "` + strings.Repeat("a", 100_000) + `"}`),
		"outputs": body(`{"status": "succeeded", "output": ["https://a.example.com/?` + secret + `", "https://` +
			strings.ToUpper(secret) + `.example.com/", "https://a.example.com/` + secret + `/a.mp4"]}`),
		"request id":             body(`{"request_id": "` + secret + `"}`),
		"part of the request id": body(`{"request_id": "a-` + secret + `"}`),
	}
	for name, response := range tests {
		t.Run(name, func(t *testing.T) {
			client := sending(t, response)
			client.Token = runcomfy.StaticToken(secret)
			ctx := t.Context()
			status, statusErr := client.Status(ctx, "r")
			result, resultErr := client.Result(ctx, "r")
			outcome, cancelErr := client.Cancel(ctx, "r")
			id, submitErr := client.Submit(ctx, "sync/react-1", nil)
			_, modelErr := client.Model(ctx, "sync/react-1")
			for call, said := range map[string]string{
				"Status": fmt.Sprint(status.State, statusErr), "Result": fmt.Sprint(result, resultErr),
				"Cancel": fmt.Sprint(outcome, cancelErr), "Submit": fmt.Sprint(id, submitErr), "Model": fmt.Sprint(modelErr),
			} {
				if strings.Contains(strings.ToLower(said), secret) || len(said) > 1000 {
					t.Errorf("%s returned %d bytes, want at most 1000 without the token: %.200s", call, len(said), said)
				}
			}
			if submitErr == nil || runcomfy.NotSent(submitErr) {
				t.Errorf("the error of Submit is %v, want an error that leaves open whether RunComfy accepted the job", submitErr)
			}
		})
	}
}

// If a proxy refuses to connect, net/http's error is the text of the proxy's HTTP status. Even if
// that text is only a secret, the client's error does not contain the secret.
func TestAnErrorThatIsOnlyASecret(t *testing.T) {
	const secret = "signature=canary"
	client := &runcomfy.Client{Token: fixedToken, HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("?" + secret)
	})}}
	if _, err := client.Status(t.Context(), "r"); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v, want one without %s", err, secret)
	}
}

// After HTTP 101, the body of the response ends only when the server closes the connection. Submit
// returns before that.
func TestASwitchOfProtocols(t *testing.T) {
	open := make(chan struct{})
	client := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n")
		<-open
		_ = conn.Close()
	})
	late := time.AfterFunc(time.Minute, func() { close(open) })
	_, err := client.Submit(t.Context(), "a/b", nil)
	if !late.Stop() {
		t.Fatal("Submit returned only after the server had closed the connection")
	}
	close(open)
	if got, want := classOf(err), of(runcomfy.KindUnavailable); got != want {
		t.Errorf("%+v, want %+v: %v", got, want, err)
	}
}

// sending returns a client of a server that sends the same bytes on each connection.
func sending(t *testing.T, response string) *runcomfy.Client {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, response)
		_ = conn.Close()
	})
}
