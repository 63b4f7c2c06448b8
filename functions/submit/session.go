package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"time"
)

const (
	// sessionLength is how long the credentials of a function last after their issue. A
	// presigned URL expires with the credentials that signed it, if not before.
	sessionLength = 12 * time.Hour

	// sessionMargin allows for clocks that differ, and for the time between the issue of
	// credentials and the start of the first process that has them.
	sessionMargin = 10 * time.Minute
)

// signUntil returns the time until which a session token may sign URLs that are
// valid for presignFor. Credentials without a session token do not expire, so
// signUntil returns zero for them.
//
// Credentials do not say when they were issued, so the first process that sees
// them writes the time to a file in dir. When a process exits, Lambda starts the
// next one in the same environment and keeps /tmp. If the next process has the same
// credentials, the credentials are as old as the file says.
func signUntil(sessionToken, dir string, now time.Time, presignFor time.Duration) time.Time {
	if sessionToken == "" {
		return time.Time{}
	}
	return firstSeen(sessionToken, dir, now).Add(sessionLength - sessionMargin - presignFor)
}

// firstSeen returns when a process first saw a session token. If no file in dir says when,
// firstSeen returns now.
func firstSeen(sessionToken, dir string, now time.Time) time.Time {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return now
	}
	defer root.Close()
	sum := sha256.Sum256([]byte(sessionToken))
	name := "lipdrop-session-" + hex.EncodeToString(sum[:8])
	text, err := root.ReadFile(name)
	if err != nil {
		_ = root.WriteFile(name, []byte(now.UTC().Format(time.RFC3339)), 0o600)
		return now
	}
	seen, err := time.Parse(time.RFC3339, string(text))
	if err != nil || seen.After(now) {
		return now
	}
	return seen
}
