package budget

import (
	"fmt"
	"math"
	"strconv"
)

// The names of the stack's parameters that set the caps.
const (
	MaxJobsPerDay    = "MaxJobsPerDay"
	MaxSecondsPerDay = "MaxSecondsPerDay"
	MaxUSDPerDay     = "MaxUsdPerDay"
)

// tolerance absorbs rounding. It is less than the smallest difference between two amounts, a
// millionth of a dollar.
const tolerance = 1e-7

// limit is one cap, what a day uses of it, and what a take needs of it.
type limit struct {
	parameter       string
	cap, used, need float64
	text            func(float64) string // an amount, such as $0.25
	units           string               // such as " jobs"; empty for dollars
}

// limits returns the caps that are set.
func (c Caps) limits(used Amount, need Take) []limit {
	number := func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
	dollars := func(n float64) string {
		if n == math.Round(n*100)/100 {
			return fmt.Sprintf("$%.2f", n)
		}
		return "$" + number(n)
	}
	var set []limit
	for _, l := range []limit{
		{MaxJobsPerDay, float64(c.Jobs), float64(used.Jobs), 1, number, " jobs"},
		{MaxSecondsPerDay, c.Seconds, used.Seconds, need.Seconds, number, " seconds"},
		{MaxUSDPerDay, c.USD, used.USD, need.USD, dollars, ""},
	} {
		if l.cap > 0 {
			set = append(set, l)
		}
	}
	return set
}

// exceeded returns an error about the first cap that a take does not fit into, or nil.
func (c Caps) exceeded(day string, used Amount, take Take) *OverError {
	for _, l := range c.limits(used, take) {
		if l.need == 0 || l.used+l.need <= l.cap+tolerance {
			continue
		}
		over := &OverError{Parameter: l.parameter, CapUsed: (l.used + l.need) / l.cap}
		amount := func(n float64) string { return l.text(n) + l.units }
		switch {
		case l.need > l.cap+tolerance:
			over.Reason = fmt.Sprintf("this job needs %s, and %s allows %s a day; the job continues when %s is raised",
				amount(l.need), l.parameter, l.text(l.cap), l.parameter)
		case l.parameter == MaxJobsPerDay:
			over.Reason = fmt.Sprintf("%s of %s jobs of %s (UTC) are used; this job continues after midnight UTC, or when %s is raised",
				l.text(l.used), l.text(l.cap), day, l.parameter)
		default:
			over.Reason = fmt.Sprintf("%s of %s of %s (UTC) are used, and this job needs %s; it continues after midnight UTC, or when %s is raised",
				l.text(l.used), amount(l.cap), day, l.text(l.need), l.parameter)
		}
		return over
	}
	return nil
}

// used returns the used fraction of the fullest cap: 1 if all of it is used.
func (c Caps) used(amount Amount) float64 {
	most := 0.0
	for _, l := range c.limits(amount, Take{}) {
		most = max(most, l.used/l.cap)
	}
	return most
}

// NotCounted returns a warning that names the caps that do not count a take, because the
// take's cost or the length of its output is not known. If every cap counts the take,
// NotCounted returns "".
func (c Caps) NotCounted(take Take) string {
	switch {
	case c.USD > 0 && take.USD == 0 && c.Seconds > 0 && take.Seconds == 0:
		return MaxUSDPerDay + " and " + MaxSecondsPerDay + " do not count this job, because its cost and the length of its output are not known"
	case c.USD > 0 && take.USD == 0:
		return MaxUSDPerDay + " does not count this job, because its cost is not known"
	case c.Seconds > 0 && take.Seconds == 0:
		return MaxSecondsPerDay + " does not count this job, because the length of its output is not known"
	}
	return ""
}
