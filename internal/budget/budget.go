// Package budget limits what the jobs of a day may cost, and estimates what a job will cost.
//
// The book of a day is the object budget/<yyyy-mm-dd>.json. If the day has a limit, the book
// holds a reservation for each take that submit claimed on that UTC day. Submit reserves
// after the claim and before the paid POST, so a crash leaves at most one reservation too many.
// Every change is a conditional write.
//
// A reservation is removed if its take is now claimed on another day, or if RunComfy certainly
// does not charge the take: RunComfy did not accept the job, cancelled the job before it
// started, or says that the job cost nothing.
package budget

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// Caps are the limits of a day. 0 means no limit.
type Caps struct {
	Jobs    int
	Seconds float64 // of expected output
	USD     float64 // of estimates
}

// None reports whether there is no limit.
func (c Caps) None() bool { return c == Caps{} }

// Amount is what one or more takes use of the caps: jobs, seconds of output and US dollars.
type Amount struct {
	Jobs    int     `json:"jobs"`
	Seconds float64 `json:"seconds"`
	USD     float64 `json:"usd"`
}

// Take is what one take reserves.
type Take struct {
	Name string `json:"name"`
	Take string `json:"take"`
	// Seconds is the expected length of the output; 0 if it is not known.
	Seconds float64 `json:"seconds,omitempty"`
	// USD is the estimate; 0 if there is none.
	USD float64 `json:"usd,omitempty"`

	// Reserved is a random text that identifies the reservation. A take that is claimed
	// again gets a new text.
	Reserved string `json:"reserved"`
}

func (t Take) isReservation(other Take) bool { return t.Reserved == other.Reserved }

// book is the object of a day.
type book struct {
	Day   string `json:"day"`
	Used  Amount `json:"used"` // the sum over Takes, for people
	Takes []Take `json:"takes"`

	etag string
}

// sum returns what the takes of a book use.
func (b *book) sum() Amount {
	var micros, millis int64 // the sum of integers does not depend on the order of the takes
	for _, t := range b.Takes {
		micros += int64(math.Round(t.USD * 1e6))
		millis += int64(math.Round(t.Seconds * 1e3))
	}
	return Amount{Jobs: len(b.Takes), Seconds: float64(millis) / 1e3, USD: float64(micros) / 1e6}
}

// remove removes the takes for which the given function returns true, and returns their
// number.
func (b *book) remove(is func(Take) bool) int {
	before := len(b.Takes)
	b.Takes = slices.DeleteFunc(b.Takes, is)
	return before - len(b.Takes)
}

// exceeded returns an error about the first cap that a take does not fit into, or nil. It
// first removes an earlier reservation of the take from the book, because the new reservation
// replaces that one.
func (b *book) exceeded(take Take, caps Caps) *OverError {
	b.remove(func(t Take) bool { return t.Name == take.Name && t.Take == take.Take })
	return caps.exceeded(b.Day, b.sum(), take)
}

// Books are the books of all days. They are safe for concurrent use.
type Books struct {
	Bucket *bucket.Bucket
}

const (
	// Prefix is the prefix of the keys of books.
	Prefix = "budget/"

	// maxTakes is the largest number of takes in the book of a day.
	maxTakes = 20_000

	maxBook = 32 << 20 // bytes
	// maxRaces bounds how often a change is tried if each try loses a race.
	maxRaces = 200
)

// Day returns the day of a time: its date in UTC.
func Day(at time.Time) string { return at.UTC().Format(time.DateOnly) }

// Key returns the key of the book of a day.
func Key(day string) string { return Prefix + day + ".json" }

// OverError is returned if a take does not fit into the caps of its day.
type OverError struct {
	Parameter string  // of the cap that the take exceeds
	Reason    string  // what is used and needed, and when the job continues
	CapUsed   float64 // what the day would use with the take, divided by the cap; more than 1
}

func (e *OverError) Error() string { return e.Reason }

// Reservation is what Reserve has written.
type Reservation struct {
	Day  string
	Take Take
	// Used is what the takes of the day use, including this take. CapUsed is how much of the
	// fullest cap they use: 1 means the whole cap.
	Used    Amount
	CapUsed float64
}

// Reserve writes what a take needs into the book of a day. If the take does not fit into
// the caps, Reserve returns *OverError and changes nothing. The new reservation replaces
// an earlier reservation of the take.
func (b *Books) Reserve(ctx context.Context, day string, take Take, caps Caps) (Reservation, error) {
	take.Reserved = rand.Text()
	r := Reservation{Day: day, Take: take}
	err := b.change(ctx, day, func(book *book) (bool, error) {
		if slices.ContainsFunc(book.Takes, take.isReservation) {
			return false, nil // an earlier try wrote this reservation, and its response was lost
		}
		if over := book.exceeded(take, caps); over != nil {
			return false, over
		}
		book.Takes = append(book.Takes, take)
		r.Used = book.sum()
		r.CapUsed = caps.used(r.Used)
		return true, nil
	})
	return r, err
}

// Check returns *OverError if a take does not fit into the caps of a day. It reserves
// nothing, so Reserve may still return *OverError.
func (b *Books) Check(ctx context.Context, day string, take Take, caps Caps) error {
	read, err := b.read(ctx, day)
	if err != nil {
		return err
	}
	if over := read.exceeded(take, caps); over != nil {
		return over
	}
	return nil
}

// GiveBack removes a reservation. It leaves a later reservation of the same take.
func (b *Books) GiveBack(ctx context.Context, r Reservation) error {
	_, err := b.Free(ctx, r.Day, r.Take.isReservation)
	return err
}

// Free removes the reservations of a day for which mayFree returns true, and returns their number.
// mayFree must return true only for a take that is certainly not charged, or that was claimed on
// another day.
//
// After a lost race, Free calls mayFree with the takes of the changed book. Submit may have claimed
// a take again in the meantime, and the new reservation must stay. So if a take may be claimed
// again, mayFree must read the take's record in each call.
func (b *Books) Free(ctx context.Context, day string, mayFree func(Take) bool) (freed int, err error) {
	err = b.change(ctx, day, func(book *book) (bool, error) {
		freed = book.remove(mayFree)
		return freed > 0, nil
	})
	return freed, err
}

// change writes the book of a day by compare-and-swap. The given function edits the book,
// and reports whether it edited anything. After a lost race, change calls the function
// again with the new book.
func (b *Books) change(ctx context.Context, day string, change func(*book) (bool, error)) error {
	for range maxRaces {
		read, err := b.read(ctx, day)
		if err != nil {
			return err
		}
		changed, err := change(&read)
		if err != nil || !changed {
			return err
		}
		if len(read.Takes) > maxTakes {
			return fmt.Errorf("%s holds %d takes, the most that a book can hold", Key(day), maxTakes)
		}
		read.Used = read.sum()
		_, err = b.Bucket.PutJSON(ctx, Key(day), read.etag, bucket.JSON(read, ""), nil)
		if !errors.Is(err, bucket.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%s: lost %d races", Key(day), maxRaces)
}

func (b *Books) read(ctx context.Context, day string) (book, error) {
	var read book
	file, err := b.Bucket.GetJSON(ctx, Key(day), maxBook, &read)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return book{Day: day}, nil
	case err != nil:
		return book{}, err
	case read.Day != day:
		return book{}, &bucket.UnreadableError{Key: Key(day), Err: fmt.Errorf("it is the book of %q", read.Day)}
	}
	read.etag = file.ETag
	return read, nil
}
