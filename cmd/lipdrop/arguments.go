package main

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// flagsFirst returns the arguments with the flags of the verb before its other arguments,
// because kong rejects a flag between two arguments of a list.
func flagsFirst(verbs []*kong.Node, args []string) []string {
	verb := slices.IndexFunc(verbs, func(v *kong.Node) bool { return len(args) > 0 && v.Name == args[0] })
	if verb < 0 {
		return args
	}
	flags, others := args[:1:1], []string(nil)
	for i := 1; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return slices.Concat(flags, []string{arg}, others, args[i+1:])
		case !strings.HasPrefix(arg, "-") || arg == "-":
			others = append(others, arg)
		case slices.ContainsFunc(verbs[verb].Flags, func(f *kong.Flag) bool { return arg == "--"+f.Name && !f.IsBool() }):
			if i++; i == len(args) {
				return args // kong says that the value is missing
			}
			if negative.MatchString(args[i]) {
				flags = append(flags, arg+"="+args[i]) // otherwise kong would take the number for a flag
				continue
			}
			flags = append(flags, arg, args[i])
		default:
			flags = append(flags, arg)
		}
	}
	return append(flags, others...)
}

// negative matches a value that begins with a negative number.
var negative = regexp.MustCompile(`^-[0-9.]`)

// kong calls UnmarshalText and the decode functions below. If one fails, the command ends with exitUsage.

type jobName string

// UnmarshalText parses a client.Pattern that selects one job.
func (n *jobName) UnmarshalText(text []byte) error {
	p, err := client.ParsePattern(string(text))
	if err == nil && p.Prefix {
		err = &client.UsageError{Reason: fmt.Sprintf("%q stands for several jobs: write the name of one job, such as ads/talk", text)}
	}
	*n = jobName(p.Text)
	return err
}

// inboxFolder is the key of a folder below inbox/, with a slash at its end. The zero
// value stands for inbox/ itself.
type inboxFolder string

// UnmarshalText parses the path of a folder, with or without inbox/ before it.
func (f *inboxFolder) UnmarshalText(text []byte) error {
	below := strings.Trim(strings.TrimPrefix(strings.Trim(string(text), "/")+"/", ledger.InboxPrefix), "/")
	if below == "" {
		return nil
	}
	*f = inboxFolder(ledger.InboxPrefix + below + "/")
	if k := drop.ParseKey(string(*f) + "a.mp4"); k.Role != drop.Visual || strings.Contains(below, "//") {
		return fmt.Errorf("%q is not a folder to drop into: give a folder such as ads/spring. No part of the path may be empty, begin with a dot, end in .job or have characters that cannot be typed", text)
	}
	return nil
}

// decodeFolder decodes the path of a folder of this machine. It refuses an empty path, which a
// script passes if a variable is not set.
func decodeFolder(ctx *kong.DecodeContext, target reflect.Value) error {
	if err := ctx.Scan.PopValueInto("folder", target.Addr().Interface()); err != nil {
		return err
	}
	if target.String() == "" {
		return fmt.Errorf("the value is empty; name a folder, or leave --%s out", ctx.Value.Name)
	}
	return nil
}

// decodeNumber decodes a whole number within the tag range, such as 1-1000.
func decodeNumber(ctx *kong.DecodeContext, target reflect.Value) error {
	text := ""
	if err := ctx.Scan.PopValueInto("number", &text); err != nil {
		return err
	}
	var least, most int
	if _, err := fmt.Sscanf(ctx.Value.Tag.Get("range"), "%d-%d", &least, &most); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%q is not a whole number from %d to %d", text, least, most)
	}
	target.SetInt(int64(n))
	return nil
}

// period is a length of time. Zero means that there is no limit.
type period time.Duration

// UnmarshalText parses a time that is not negative, in a form that parseTime accepts.
func (p *period) UnmarshalText(text []byte) error {
	d, err := parseTime(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time; give a time such as 30d, 12h or 90s", text)
	}
	*p = period(d)
	return nil
}

// start returns the time that is p before now, or the zero time if p is 0.
func (p period) start() time.Time {
	if p == 0 {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(p))
}

// delay is how long something takes or waits.
type delay time.Duration

// longestDelay lets a job of the fake RunComfy exceed the largest QueueHours plus the largest MaxHours.
const longestDelay = 7 * 24 * time.Hour

// UnmarshalText parses a time from 0 to longestDelay, in a form that parseTime accepts.
func (w *delay) UnmarshalText(text []byte) error {
	d, err := parseTime(string(text))
	if err != nil || d < 0 || d > longestDelay {
		return fmt.Errorf("%q is not a time from 0s to 7d; give a time such as 10s", text)
	}
	*w = delay(d)
	return nil
}

// parseTime parses days such as 30d, or what time.ParseDuration accepts.
func parseTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

// amount is a number of US dollars.
type amount float64

// UnmarshalText parses a number that is not negative.
func (a *amount) UnmarshalText(text []byte) error {
	usd, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(usd >= 0) || math.IsInf(usd, 0) {
		return fmt.Errorf("%q is not an amount; give a number of US dollars such as 2.50", text)
	}
	*a = amount(usd)
	return nil
}
