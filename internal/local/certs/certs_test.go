package certs_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/certs"
)

func TestServesLoopback(t *testing.T) {
	files, err := certs.Ensure(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.CA, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()
	roots, err := files.Pool()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()

	for name, host := range map[string]string{"by address": "127.0.0.1", "by name": "localhost"} {
		t.Run(name, func(t *testing.T) {
			resp, err := client.Get(strings.Replace(server.URL, "127.0.0.1", host, 1))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		})
	}
	t.Run("not to a client without the certificate", func(t *testing.T) {
		resp, err := http.Get(server.URL)
		if err == nil {
			_ = resp.Body.Close()
			t.Error("a client that does not trust the certificate was served, want a TLS error")
		}
	})
}

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestEnsureKeepsAUsableCertificate(t *testing.T) {
	rows := map[string]struct {
		meddle func(t *testing.T, files certs.Files)
		after  time.Duration
		same   bool
	}{
		"valid for 65 more days":     {after: 300 * 24 * time.Hour, same: true},
		"valid for 25 more days":     {after: 340 * 24 * time.Hour},
		"key lost":                   {meddle: func(t *testing.T, f certs.Files) { remove(t, f.Key) }},
		"certificate lost":           {meddle: func(t *testing.T, f certs.Files) { remove(t, f.CA) }},
		"certificate of another key": {meddle: replaceCert},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files, err := certs.Ensure(dir, made)
			if err != nil {
				t.Fatal(err)
			}
			before := read(t, files.CA)
			if row.meddle != nil {
				row.meddle(t, files)
			}
			again, err := certs.Ensure(dir, made.Add(row.after))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(files, again); diff != "" {
				t.Errorf("the paths of the files changed (-before +after):\n%s", diff)
			}
			if _, err := tls.LoadX509KeyPair(again.CA, again.Key); err != nil {
				t.Error(err)
			}
			if same := read(t, again.CA) == before; same != row.same {
				t.Errorf("certificate kept: %t, want %t", same, row.same)
			}
		})
	}
}

func replaceCert(t *testing.T, files certs.Files) {
	other, err := certs.Ensure(t.TempDir(), made)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.CA, []byte(read(t, other.CA)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
