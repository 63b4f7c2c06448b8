// Package certs creates the certificate of the local stack for TLS on loopback, and
// the authority that its clients trust.
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
	"math/big"
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

// Files are the files of a certificate, all in PEM.
type Files struct {
	CA   string // the authority: what clients trust
	Cert string // for 127.0.0.1 and localhost
	Key  string // private key of Cert; the authority's own key is not stored
}

// Ensure returns the certificate in a folder. It creates one if it is missing,
// damaged, or about to expire at now.
func Ensure(dir string, now time.Time) (Files, error) {
	files := Files{
		CA:   filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, "cert.pem"),
		Key:  filepath.Join(dir, "key.pem"),
	}
	if files.usable(now) {
		return files, nil
	}
	if err := files.make(now); err != nil {
		return Files{}, fmt.Errorf("make a certificate in %s: %w", dir, err)
	}
	return files, nil
}

// Pool returns a pool that contains the authority.
func (f Files) Pool() (*x509.CertPool, error) {
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", f.CA)
	}
	return pool, nil
}

// Listener returns a listener that speaks TLS on the connections of a plain one. The
// protocols are those that clients may choose, such as h2.
func (f Files) Listener(plain net.Listener, protocols ...string) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: protocols}), nil
}

// usable reports whether the files belong together and stay valid for a while.
func (f Files) usable(now time.Time) bool {
	roots, err := f.Pool()
	if err != nil {
		return false
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return false
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: "127.0.0.1", Roots: roots, CurrentTime: now.Add(remaining)})
	return err == nil
}

func (f Files) make(now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(f.CA), 0o700); err != nil {
		return err
	}
	authority := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "lipdrop local stack"},
		NotBefore:             now.Add(-time.Hour), // also valid after a clock is set back
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	if authority, err = x509.ParseCertificate(authorityDER); err != nil { // adds the identifier of the key
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(f.Key, "PRIVATE KEY", keyDER, 0o600),
		writePEM(f.Cert, "CERTIFICATE", leafDER, 0o644),
		writePEM(f.CA, "CERTIFICATE", authorityDER, 0o644),
	)
}

// serialBits is the longest serial number of RFC 5280, without the sign.
const serialBits = 159

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)) // crypto/rand never fails
	return n
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
