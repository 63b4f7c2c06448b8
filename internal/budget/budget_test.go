package budget_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

const day = "2050-01-03"

func newBooks() (*budget.Books, *s3test.Bucket) {
	s3 := &s3test.Bucket{}
	return &budget.Books{Bucket: &bucket.Bucket{S3: s3, Name: "b"}}, s3
}

func take(i int) budget.Take {
	return budget.Take{Name: "ads/talk", Take: fmt.Sprint(i), Seconds: 10, USD: 0.1}
}

// used returns the member "used" of the day's book.
func used(t *testing.T, b *budget.Books) budget.Amount {
	t.Helper()
	var read struct{ Used budget.Amount }
	if _, err := b.Bucket.GetJSON(t.Context(), budget.Key(day), 1<<20, &read); err != nil && !errors.Is(err, bucket.ErrNotFound) {
		t.Fatal(err)
	}
	return read.Used
}

func wantUsed(t *testing.T, b *budget.Books, want budget.Amount) {
	t.Helper()
	if diff := cmp.Diff(want, used(t, b)); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}
}

func TestCaps(t *testing.T) {
	all := budget.Caps{Jobs: 3, Seconds: 30, USD: 0.3}
	tests := []struct {
		name   string
		caps   budget.Caps
		before int // takes of 10 s and $0.10
		need   budget.Take
		over   string
	}{
		{"no cap", budget.Caps{}, 100, take(0), ""},
		{"fits exactly", all, 2, take(0), ""},
		{"one job too many", budget.Caps{Jobs: 3}, 3, take(0),
			"3 of 3 jobs of 2050-01-03 (UTC) are used; this job continues after midnight UTC, or when MaxJobsPerDay is raised"},
		{"a second too many", budget.Caps{Seconds: 30}, 2, budget.Take{Seconds: 11},
			"20 of 30 seconds of 2050-01-03 (UTC) are used, and this job needs 11; it continues after midnight UTC, or when MaxSecondsPerDay is raised"},
		{"a cent too many", budget.Caps{USD: 0.3}, 2, budget.Take{USD: 0.11},
			"$0.20 of $0.30 of 2050-01-03 (UTC) are used, and this job needs $0.11; it continues after midnight UTC, or when MaxUsdPerDay is raised"},
		{"a millionth too much", budget.Caps{USD: 0.3}, 2, budget.Take{USD: 0.100001},
			"$0.20 of $0.30 of 2050-01-03 (UTC) are used, and this job needs $0.100001; it continues after midnight UTC, or when MaxUsdPerDay is raised"},
		{"more than a day allows", budget.Caps{Seconds: 30}, 0, budget.Take{Seconds: 31},
			"this job needs 31 seconds, and MaxSecondsPerDay allows 30 a day; the job continues when MaxSecondsPerDay is raised"},
		{"unknown cost and length, with full caps of seconds and USD", budget.Caps{Seconds: 30, USD: 0.3}, 3, budget.Take{}, ""},
		{"unknown cost and length, with a full cap of jobs", all, 3, budget.Take{},
			"3 of 3 jobs of 2050-01-03 (UTC) are used; this job continues after midnight UTC, or when MaxJobsPerDay is raised"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := newBooks()
			for i := range tt.before {
				if _, err := b.Reserve(t.Context(), day, take(i+1), budget.Caps{}); err != nil {
					t.Fatal(err)
				}
			}
			tt.need.Name, tt.need.Take = "ads/talk", "new"
			_, err := b.Reserve(t.Context(), day, tt.need, tt.caps)
			over, _ := errors.AsType[*budget.OverError](err)
			if tt.over == "" && err != nil || tt.over != "" && (over == nil || over.Reason != tt.over || over.CapUsed <= 1) {
				t.Errorf("error %v, want %q, and CapUsed above 1 in an *OverError", err, tt.over)
			}
			if _, err := b.Reserve(t.Context(), "2050-01-04", tt.need, tt.caps); err != nil && !strings.Contains(tt.over, "this job needs 31") {
				t.Errorf("the next day: error %v, want none", err)
			}
		})
	}
}

// Of a hundred takes that reserve at the same time, as many get a reservation as the cap
// allows.
func TestHundredTakesReserveAtOnce(t *testing.T) {
	b, s3 := newBooks()
	s3.After = func(string, string) error { runtime.Gosched(); return nil } // lets others write in between
	var wait sync.WaitGroup
	var mu sync.Mutex
	reserved, over := 0, 0
	for i := range 100 {
		wait.Go(func() {
			_, err := b.Reserve(t.Context(), day, take(i), budget.Caps{Jobs: 12})
			_, full := errors.AsType[*budget.OverError](err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				reserved++
			case full:
				over++
			default:
				t.Errorf("error %v, want none or an *OverError", err)
			}
		})
	}
	wait.Wait()
	if reserved != 12 || over != 88 {
		t.Errorf("%d reserved, %d over, want 12 and 88", reserved, over)
	}
	wantUsed(t, b, budget.Amount{Jobs: 12, Seconds: 120, USD: 1.2})
}

func TestReservationIsIdempotentByTake(t *testing.T) {
	b, _ := newBooks()
	caps := budget.Caps{Jobs: 2, Seconds: 10, USD: 1}
	first, err := b.Reserve(t.Context(), day, take(1), caps)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Reserve(t.Context(), day, take(1), caps)
	if err != nil || second.CapUsed != 1 || second.Used.Jobs != 1 {
		t.Fatalf("the second reservation: %+v, %v; want one job and a full cap", second, err)
	}
	wantUsed(t, b, budget.Amount{Jobs: 1, Seconds: 10, USD: 0.1})
	if err := b.GiveBack(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, b, budget.Amount{Jobs: 1, Seconds: 10, USD: 0.1}) // GiveBack does not remove the second reservation
	for range 2 {
		if err := b.GiveBack(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	wantUsed(t, b, budget.Amount{})
}

// A change that loses 100 races is made in the end. A change that loses every race returns
// an error, so no job runs without a reservation.
func TestLostRaces(t *testing.T) {
	for losses, reserved := range map[int]int{100: 1, 1000: 0} {
		b, s3 := newBooks()
		lost := 0
		s3.Before = func(op, _ string) error {
			if op == "PutObject" && lost < losses {
				lost++
				return s3test.Error(http.StatusPreconditionFailed, "PreconditionFailed")
			}
			return nil
		}
		_, err := b.Reserve(t.Context(), day, take(1), budget.Caps{Jobs: 1})
		if used := used(t, b); used.Jobs != reserved || (err == nil) != (reserved == 1) {
			t.Errorf("after %d lost races: %d jobs are reserved, error %v; want %d", losses, used.Jobs, err, reserved)
		}
	}
}

// A full book refuses another take, because a book of more than 32 MiB cannot be read.
func TestFullBook(t *testing.T) {
	b, s3 := newBooks()
	s3.Set(budget.Key(day), []byte(`{"day": "`+day+`", "takes": [{}`+strings.Repeat(", {}", 19_998)+`]}`))
	if _, err := b.Reserve(t.Context(), day, take(1), budget.Caps{}); err != nil {
		t.Errorf("the 20,000th take of a book: error %v, want none", err)
	}
	if _, err := b.Reserve(t.Context(), day, take(2), budget.Caps{}); err == nil {
		t.Error("a book of 20,000 takes accepted another take, want an error")
	}
}

// The sum of a book counts every thousandth of a second and every millionth of a dollar.
func TestSumIsExact(t *testing.T) {
	b, _ := newBooks()
	for i := range 10 {
		if _, err := b.Reserve(t.Context(), day, budget.Take{Take: fmt.Sprint(i), Seconds: 1.001, USD: 0.000249}, budget.Caps{}); err != nil {
			t.Fatal(err)
		}
	}
	wantUsed(t, b, budget.Amount{Jobs: 10, Seconds: 10.01, USD: 0.00249})
}

// If a cap cannot count a take, because the take's cost or length is not known, a warning
// names the cap.
func TestNotCounted(t *testing.T) {
	both := budget.Caps{Seconds: 1, USD: 1}
	tests := []struct {
		caps budget.Caps
		take budget.Take
		want string // the caps that the warning names
	}{
		{budget.Caps{Jobs: 1}, budget.Take{}, ""},
		{both, take(0), ""},
		{both, budget.Take{}, "MaxUsdPerDay and MaxSecondsPerDay do"},
		{both, budget.Take{Seconds: 1}, "MaxUsdPerDay does"},
		{both, budget.Take{USD: 1}, "MaxSecondsPerDay does"},
		{budget.Caps{USD: 1}, budget.Take{}, "MaxUsdPerDay does"},
		{budget.Caps{Seconds: 1}, budget.Take{}, "MaxSecondsPerDay does"},
	}
	for _, tt := range tests {
		got := tt.caps.NotCounted(tt.take)
		if (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%+v with %+v: warning %q, want the beginning %q (empty: no warning)", tt.take, tt.caps, got, tt.want)
		}
	}
}

// Check does not count a take twice, and reserves nothing. Free removes a reservation, and
// writes no book for a day without one.
func TestCheckAndFree(t *testing.T) {
	b, s3 := newBooks()
	caps := budget.Caps{Jobs: 1}
	if _, err := b.Reserve(t.Context(), day, take(1), caps); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), day, take(1), caps); err != nil {
		t.Errorf("the take that has the reservation: error %v, want none", err)
	}
	if _, over := errors.AsType[*budget.OverError](b.Check(t.Context(), day, take(2), caps)); !over {
		t.Error("another take fits, want an *OverError")
	}
	freed, err := b.Free(t.Context(), day, func(tk budget.Take) bool { return tk.Take == "1" })
	if freed != 1 || err != nil {
		t.Fatalf("%d freed, %v, want 1", freed, err)
	}
	if err := b.Check(t.Context(), day, take(2), caps); err != nil {
		t.Errorf("after the reservation was freed: error %v, want none", err)
	}
	wantUsed(t, b, budget.Amount{})
	if freed, err := b.Free(t.Context(), "2050-01-04", func(budget.Take) bool { return true }); freed != 0 || err != nil {
		t.Errorf("a day without a book: %d freed, error %v; want 0 and none", freed, err)
	}
	if _, written := s3.Object(budget.Key("2050-01-04")); written {
		t.Error("a book was written although nothing was freed")
	}
}

// If S3 writes a reservation and S3's response is lost, Reserve returns an error. The next
// claim of the take replaces that reservation.
func TestLostResponseOfAReservation(t *testing.T) {
	b, s3 := newBooks()
	s3.LoseNextPut()
	if _, err := b.Reserve(t.Context(), day, take(1), budget.Caps{Jobs: 1}); err == nil {
		t.Fatal("no error after a lost response, want one")
	}
	if _, err := b.Reserve(t.Context(), day, take(1), budget.Caps{Jobs: 1}); err != nil {
		t.Errorf("the next claim of the take: error %v, want none", err)
	}
	wantUsed(t, b, budget.Amount{Jobs: 1, Seconds: 10, USD: 0.1})
}

// If a take is claimed again after Free has decided to remove the take's reservation, the
// new reservation stays.
func TestFreeBesideAClaim(t *testing.T) {
	b, _ := newBooks()
	reserve := func() {
		if _, err := b.Reserve(t.Context(), day, take(1), budget.Caps{Jobs: 1}); err != nil {
			t.Fatal(err)
		}
	}
	reserve()
	asked := 0
	freed, err := b.Free(t.Context(), day, func(budget.Take) bool {
		asked++
		if asked == 1 {
			reserve()
		}
		return asked == 1
	})
	if err != nil || freed != 0 || asked != 2 {
		t.Errorf("%d freed, asked %d times, error %v; want 0, 2 and none", freed, asked, err)
	}
	wantUsed(t, b, budget.Amount{Jobs: 1, Seconds: 10, USD: 0.1})
}

func TestUnreadableBook(t *testing.T) {
	for _, body := range []string{"", "{", `[]`, `{"day": "2050-01-04", "takes": []}`, `{"day": "2050-01-03", "takes": []} x`} {
		b, s3 := newBooks()
		s3.Set(budget.Key(day), []byte(body))
		_, err := b.Reserve(t.Context(), day, take(1), budget.Caps{Jobs: 9})
		if unreadable, ok := errors.AsType[*bucket.UnreadableError](err); !ok || unreadable.Key != "budget/2050-01-03.json" {
			t.Errorf("%q: %v, want an *UnreadableError", body, err)
		}
	}
}

func TestDay(t *testing.T) {
	zone := time.FixedZone("", 3*3600)
	if got := budget.Day(time.Date(2050, 1, 4, 2, 59, 0, 0, zone)); got != day {
		t.Errorf("the day is %s, want %s", got, day)
	}
}
