package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"
)

const (
	// sessionHours is how long the credentials of a function's process last at
	// most. A presigned URL ends with the credentials that signed it, whatever
	// expiry it names.
	sessionHours = 12 * time.Hour

	// sessionMargin is left for the clocks and for the time before the process
	// started.
	sessionMargin = 10 * time.Minute
)

// signUntil returns until when URLs that are valid for presignFor may be signed
// with a session token. It is zero for credentials without a session, which do
// not end.
//
// The credentials of a process do not say since when they are valid, so the
// first process that sees them notes the time in dir. When a process exits,
// Lambda starts another one in the same environment and keeps its /tmp: if that
// process gets the same credentials, they are as old as the note says.
func signUntil(sessionToken, dir string, now time.Time, presignFor time.Duration) time.Time {
	if sessionToken == "" {
		return time.Time{}
	}
	sum := sha256.Sum256([]byte(sessionToken))
	note := filepath.Join(dir, "lipdrop-session-"+hex.EncodeToString(sum[:8]))
	since := now
	if text, err := os.ReadFile(note); err == nil {
		if noted, err := time.Parse(time.RFC3339, string(text)); err == nil && noted.Before(now) {
			since = noted
		}
	} else {
		// Without the note a later process takes the credentials for new.
		_ = os.WriteFile(note, []byte(now.UTC().Format(time.RFC3339)), 0o600)
	}
	return since.Add(sessionHours - sessionMargin - presignFor)
}
