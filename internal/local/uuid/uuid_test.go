package uuid_test

import (
	"regexp"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/uuid"
)

func TestNew(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	first, second := uuid.New(), uuid.New()
	if !form.MatchString(first) || first == second {
		t.Errorf("New() = %q, then %q", first, second)
	}
}
