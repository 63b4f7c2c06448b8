package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// The cancel function settles a stopped execution. If the function fails, Lambda calls it again
// after one minute, and once more after two further minutes. So `lipdrop cancel` waits a
// little longer than three minutes.
func TestCancelWaits(t *testing.T) {
	tests := []struct {
		name     string
		settled  time.Duration // when the take's record becomes cancelled
		patience time.Duration // when the person ends the command
		err      string
		waits    time.Duration
	}{
		{"the take is settled by Lambda's third call", 3*time.Minute + 30*time.Second, time.Hour, "", 3*time.Minute + 30*time.Second},
		{"the take is not settled", time.Hour, 2 * time.Hour, "talk is still submitted after 4m0s; its status will say how it ended", 4 * time.Minute},
		{"the person ends the command", time.Hour, time.Minute + readEvery/2, context.DeadlineExceeded.Error(), time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // time.Now and the timers follow a virtual clock
				store := &ledger.Store{Bucket: &bucket.Bucket{S3: new(s3test.Bucket), Name: "lipdrop"}, Now: time.Now}
				rec, _, err := store.Claim(t.Context(), ledger.Record{Name: "talk", Take: "20261121T120000Z-0123456789ab", State: ledger.Submitting})
				if err == nil {
					rec, err = store.Update(t.Context(), rec, func(rec *ledger.Record) { rec.State = ledger.Submitted })
				}
				if err != nil {
					t.Fatal(err)
				}
				settle := time.AfterFunc(tt.settled, func() {
					_, err := store.Update(context.Background(), rec, func(rec *ledger.Record) { rec.State = ledger.Cancelled })
					if err != nil {
						t.Error(err)
					}
				})
				defer settle.Stop()
				ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
				defer cancel()
				began := time.Now()
				got, err := (&Client{Ledger: store}).settled(ctx, rec)
				if tt.err == "" && (err != nil || got.State != ledger.Cancelled) || tt.err != "" && (err == nil || err.Error() != tt.err) {
					t.Errorf("got state %s and error %v, want error %q", got.State, err, tt.err)
				}
				if took := time.Since(began); took < tt.waits || took > tt.waits+2*readEvery {
					t.Errorf("waited %s, want %s", took, tt.waits)
				}
			})
		})
	}
}
