package certs_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/certs"
)

func TestServesLoopback(t *testing.T) {
	cert, err := certs.Ensure(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Listener = cert.Listener(server.Listener)
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool}}}
	defer client.CloseIdleConnections()
	address := strings.Replace(server.URL, "http", "https", 1)

	for name, host := range map[string]string{"by address": "127.0.0.1", "by name": "localhost"} {
		t.Run(name, func(t *testing.T) {
			resp, err := client.Get(strings.Replace(address, "127.0.0.1", host, 1))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		})
	}
	t.Run("a client that does not trust the certificate", func(t *testing.T) {
		resp, err := http.Get(address)
		if err == nil {
			_ = resp.Body.Close()
			t.Error("the client was served, want a TLS error")
		}
	})
}

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestEnsureKeepsAUsableCertificate(t *testing.T) {
	rows := map[string]struct {
		meddle func(t *testing.T, cert certs.Certificate)
		after  time.Duration
		same   bool
	}{
		"valid for 65 more days":     {after: 300 * 24 * time.Hour, same: true},
		"valid for 25 more days":     {after: 340 * 24 * time.Hour},
		"key lost":                   {meddle: func(t *testing.T, c certs.Certificate) { remove(t, c.KeyFile) }},
		"certificate lost":           {meddle: func(t *testing.T, c certs.Certificate) { remove(t, c.CertFile) }},
		"certificate of another key": {meddle: replaceCert},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := certs.Ensure(dir, made)
			if err != nil {
				t.Fatal(err)
			}
			before := read(t, first.CertFile)
			if row.meddle != nil {
				row.meddle(t, first)
			}
			again, err := certs.Ensure(dir, made.Add(row.after))
			if err != nil {
				t.Fatal(err)
			}
			if again.CertFile != first.CertFile || again.KeyFile != first.KeyFile {
				t.Errorf("the files are %s and %s, were %s and %s", again.CertFile, again.KeyFile, first.CertFile, first.KeyFile)
			}
			stored, err := tls.LoadX509KeyPair(again.CertFile, again.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			if !stored.Leaf.Equal(again.Pair.Leaf) {
				t.Error("Ensure returned another certificate than it stored")
			}
			if same := read(t, again.CertFile) == before; same != row.same {
				t.Errorf("certificate kept: %t, want %t", same, row.same)
			}
		})
	}
}

func replaceCert(t *testing.T, cert certs.Certificate) {
	other, err := certs.Ensure(t.TempDir(), made)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert.CertFile, []byte(read(t, other.CertFile)), 0o600); err != nil {
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
