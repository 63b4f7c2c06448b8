package runcomfy_test

import (
	"errors"
	"testing"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

func TestBalance(t *testing.T) {
	fake := &runcomfytest.Server{Token: canary}
	client := serving(t, fake.ServeHTTP)
	if usd, err := client.Balance(t.Context()); usd != 12.5 || err != nil {
		t.Errorf("%v, %v; want 12.5", usd, err)
	}
	fake.SetBalance(0.5)
	if usd, err := client.Balance(t.Context()); usd != 0.5 || err != nil {
		t.Errorf("after a change: %v, %v; want 0.5", usd, err)
	}
	for body, want := range map[string]runcomfy.Kind{
		`{}`: runcomfy.KindUnavailable, `{"balance_usd":"much"}`: runcomfy.KindUnavailable, `{"error_code":400004}`: runcomfy.KindToken,
	} {
		_, err := respondingJSON(t, 200, body).Balance(t.Context())
		if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.Kind() != want {
			t.Errorf("%s: %v, want the kind %s", body, err, want)
		}
	}
}
