package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// capCheck is what a simulation notes about its caps and its paid jobs.
type capCheck struct {
	first  budget.Caps     // the caps until they are raised at the end
	raised string          // the day on which the caps are raised; "" before that
	posted ledger.Record   // the claim of the last POST that reached RunComfy
	paid   []ledger.Record // the record of each job that RunComfy accepted, in order
}

// randomCaps returns caps so low that the given number of jobs may reach them.
func (s *simulation) randomCaps(jobs int) budget.Caps {
	const seconds, usd = 3, 0.3 // of a job
	n := 1 + jobs/8 + s.plans.IntN(1+jobs/4)
	return []budget.Caps{{Jobs: n}, {Seconds: seconds * float64(n)}, {USD: usd * float64(n)}, {Jobs: n + 3, Seconds: seconds * float64(n), USD: usd * float64(n)}}[s.plans.IntN(4)]
}

// setCaps sets the caps, as a deployment does.
func (s *simulation) setCaps(caps budget.Caps) {
	s.w.Caps = caps
	s.w.Restart()
	if s.calmed {
		s.caps.raised = budget.Day(s.w.Now())
	} else {
		s.caps.first = caps
	}
}

// notePOST notes the claim of a POST that reaches RunComfy.
func (s *simulation) notePOST(key string) { s.caps.posted, _ = s.recordAt(key) }

// noteCharge notes the record of the last POST as paid if RunComfy has accepted the POST, and
// then checks the caps of its day.
func (s *simulation) noteCharge() {
	if s.w.RunComfy.Charges() == len(s.caps.paid) {
		return
	}
	s.caps.paid = append(s.caps.paid, s.caps.posted)
	if s.w.Caps.None() {
		return
	}
	s.checkDay(budget.Day(s.caps.posted.Times.Claimed))
}

// checkDay compares the jobs of a day with the first caps. It skips the day on
// which the caps are raised and all later days, because no day reaches the raised caps.
func (s *simulation) checkDay(day string) {
	if s.caps.raised != "" && day >= s.caps.raised {
		return
	}
	var used budget.Amount
	for _, rec := range s.paidOn(day) {
		used.Jobs++
		used.Seconds += rec.ExpectedSeconds
		if rec.EstimateUSD != nil {
			used.USD += *rec.EstimateUSD
		}
	}
	const rounding = 1e-6
	most := s.caps.first
	if most.Jobs > 0 && used.Jobs > most.Jobs || most.Seconds > 0 && used.Seconds > most.Seconds+rounding || most.USD > 0 && used.USD > most.USD+rounding {
		s.found(overCap, "%s: %+v are accepted; the caps are %+v", day, used, most)
	}
}

// paidOn returns the records of the takes that were claimed on a day and whose jobs RunComfy
// accepted and did not cancel.
func (s *simulation) paidOn(day string) []ledger.Record {
	cancelled := s.w.RunComfy.Cancelled()
	jobs := s.w.RunComfy.Submitted()
	var paid []ledger.Record
	for i, rec := range s.caps.paid {
		if budget.Day(rec.Times.Claimed) == day && !slices.Contains(cancelled, jobs[i].RequestID) {
			paid = append(paid, rec)
		}
	}
	return paid
}

// checkCaps compares each day with its caps and with its book. The book must have every take
// that is charged. It may also have takes whose outcome is unknown.
func (s *simulation) checkCaps() {
	s.noteCharge()
	if s.w.Caps.None() {
		return
	}
	days := map[string]bool{}
	for _, rec := range s.caps.paid {
		days[budget.Day(rec.Times.Claimed)] = true
	}
	for _, key := range s.w.Bucket.Keys() {
		if day, ok := strings.CutPrefix(strings.TrimSuffix(key, ".json"), budget.Prefix); ok {
			days[day] = true
		}
	}
	for day := range days {
		s.checkDay(day)
		s.checkBook(day)
	}
}

func (s *simulation) checkBook(day string) {
	var book struct {
		Used  budget.Amount
		Takes []budget.Take
	}
	text, _ := s.w.Bucket.Object(budget.Key(day))
	if err := json.Unmarshal(text, &book); err != nil {
		s.found(overCap, "the book of %s cannot be read: %v", day, err)
	}
	paid := s.paidOn(day)
	for _, rec := range paid {
		if !slices.ContainsFunc(book.Takes, func(t budget.Take) bool { return t.Name == rec.Name && t.Take == rec.Take }) {
			s.found(overCap, "take %s of %s is charged, but is not in the book of %s", rec.Take, rec.Name, day)
		}
	}
	sum := budget.Amount{Jobs: len(book.Takes)}
	for _, t := range book.Takes {
		sum.Seconds += t.Seconds
		sum.USD += t.USD
		rec, _ := s.w.Record(t.Name, t.Take)
		isPaid := slices.ContainsFunc(paid, func(p ledger.Record) bool { return p.Name == t.Name && p.Take == t.Take })
		if !isPaid && rec.State != ledger.Unknown {
			s.found(overCap, "take %s of %s is %q and not charged, but is in the book of %s", t.Take, t.Name, rec.State, day)
		}
		usd := t.USD // if the record has no estimate, any price is accepted
		if rec.EstimateUSD != nil {
			usd = *rec.EstimateUSD
		}
		if t.Seconds != rec.ExpectedSeconds || t.USD != usd {
			s.found(overCap, "the book of %s says %+v, want %g USD; the record of the take says %g s", day, t, usd, rec.ExpectedSeconds)
		}
	}
	if sum.Jobs != book.Used.Jobs || math.Abs(sum.Seconds-book.Used.Seconds)+math.Abs(sum.USD-book.Used.USD) > 1e-6 {
		s.found(overCap, "the book of %s says that %+v are used, but the sum of its takes is %+v", day, book.Used, sum)
	}
}
