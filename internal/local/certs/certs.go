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

// Files are the paths of a certificate and its key, in PEM.
type Files struct {
	CA  string // the certificate for 127.0.0.1 and localhost; clients must trust it
	Key string // its private key
}

// Ensure returns the certificate in a folder. If the certificate or its key is missing or
// damaged, or the certificate expires within 30 days after now, Ensure creates both anew.
func Ensure(dir string, now time.Time) (Files, error) {
	files := Files{CA: filepath.Join(dir, "ca.pem"), Key: filepath.Join(dir, "key.pem")}
	if files.usable(now) {
		return files, nil
	}
	if err := files.make(now); err != nil {
		return Files{}, fmt.Errorf("make a certificate in %s: %w", dir, err)
	}
	return files, nil
}

// load returns the certificate with its key, and a pool that contains only the certificate.
func (f Files) load() (tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(f.CA, f.Key)
	if err != nil {
		return pair, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	return pair, pool, nil
}

// Pool returns a pool that contains the certificate.
func (f Files) Pool() (*x509.CertPool, error) {
	_, pool, err := f.load()
	return pool, err
}

// Listener returns a listener that speaks TLS on the connections of a plain listener.
func (f Files) Listener(plain net.Listener) (net.Listener, error) {
	pair, _, err := f.load()
	if err != nil {
		return nil, err
	}
	return tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// usable reports whether the certificate and the key belong together, and the certificate
// does not expire soon.
func (f Files) usable(now time.Time) bool {
	pair, roots, err := f.load()
	if err == nil {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: "127.0.0.1", Roots: roots, CurrentTime: now.Add(remaining)})
	}
	return err == nil
}

func (f Files) make(now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(f.CA), 0o700); err != nil {
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
		writePEM(f.Key, "PRIVATE KEY", keyDER, 0o600),
		writePEM(f.CA, "CERTIFICATE", certDER, 0o644),
	)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
