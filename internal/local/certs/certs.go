// Package certs creates the certificate of the local stack for TLS on loopback. The
// certificate is signed with its own key, and cannot sign other certificates.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// lifetime is less than 825 days: Apple's clients refuse a server certificate
	// that is valid for longer.
	lifetime = 365 * 24 * time.Hour
	// remaining is how long a certificate must still be valid to be used again.
	remaining = 30 * 24 * time.Hour
)

// Certificate is the certificate of the local stack for 127.0.0.1 and localhost.
type Certificate struct {
	CertFile, KeyFile string // paths of the certificate and of its private key, in PEM
	Pair              tls.Certificate
	Pool              *x509.CertPool // what a client must trust: only this certificate
}

// Ensure returns the certificate in a folder. If the certificate or its key is missing or
// damaged, or the certificate expires within 30 days after now, Ensure creates both anew.
func Ensure(dir string, now time.Time) (Certificate, error) {
	c := Certificate{CertFile: filepath.Join(dir, "ca.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if c.load(now.Add(remaining)) == nil {
		return c, nil
	}
	err := c.make(now)
	if err == nil {
		err = c.load(now)
	}
	if err != nil {
		return c, fmt.Errorf("make a certificate in %s: %w", dir, err)
	}
	return c, nil
}

// load reads the certificate and its key, and checks that the certificate is valid at a time.
func (c *Certificate) load(at time.Time) (err error) {
	if c.Pair, err = tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return err
	}
	c.Pool = x509.NewCertPool()
	c.Pool.AddCert(c.Pair.Leaf)
	_, err = c.Pair.Leaf.Verify(x509.VerifyOptions{DNSName: "127.0.0.1", Roots: c.Pool, CurrentTime: at})
	return err
}

// Listener returns a listener that speaks TLS on the connections of a plain listener.
func (c *Certificate) Listener(plain net.Listener) net.Listener {
	return tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{c.Pair}, MinVersion: tls.VersionTLS12})
}

func (c *Certificate) make(now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(c.CertFile), 0o700); err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "lipdrop local stack"},
		NotBefore:   now.Add(-time.Hour), // so that the certificate stays valid if the clock is set back a little
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(c.KeyFile, "PRIVATE KEY", keyDER, 0o600),
		writePEM(c.CertFile, "CERTIFICATE", certDER, 0o644),
	)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
