// Package gatewaytest runs the real S3 server for tests.
package gatewaytest

import (
	"net/http/httptest"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
)

// The root user of the server, and the server's region.
const (
	Access = "access"
	Secret = "secret-key"
	Region = "us-east-1"
)

// Program returns the path of the S3 server. It builds the server if necessary.
func Program(t testing.TB) string {
	t.Helper()
	source, err := build.Find(".", func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	path, err := source.Gateway(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Start runs a server until the test ends, and returns the server and its URL. If configure is not
// nil, it can change the configuration first.
func Start(t *testing.T, configure func(*gateway.Config)) (g *gateway.Gateway, url string) {
	t.Helper()
	cfg := gateway.Config{
		Program: Program(t), Dir: t.TempDir(), Access: Access, Secret: Secret, Region: Region, Log: t.Output(),
	}
	if configure != nil {
		configure(&cfg)
	}
	g, err := gateway.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		server.Close()
		g.Close()
	})
	return g, server.URL
}
