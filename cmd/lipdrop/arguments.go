package main

import (
	"fmt"
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
// because kong rejects arguments that have a flag between them.
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
			flags = append(flags, arg, args[i])
		default:
			flags = append(flags, arg)
		}
	}
	return append(flags, others...)
}

// The types of arguments. kong calls UnmarshalText; if that fails, the command ends with
// exitUsage.

// jobName is the name of one job.
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
		return fmt.Errorf("%q is not a folder to drop into: give a folder such as ads/spring. No part of the path may be empty, begin with a dot or end in .job", text)
	}
	return nil
}

// period is a duration that may be in days.
type period time.Duration

// UnmarshalText parses 30d, or what time.ParseDuration accepts.
func (p *period) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*p = period(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time such as 30d or 12h", text)
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
