package problem

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is something that is wrong with a drop, or something that a drop still lacks.
type Problem struct {
	Code   Code
	Reason string // a clause with the file name and the numbers

	// Remedy says in sentences what to do. "" stands for the code's own remedy.
	Remedy string

	// Member is the property of the model's input that is wrong, or "" if the
	// problem is about something else.
	Member string

	// Again has the files to upload again after the steps of Remedy. It is empty if the
	// remedy says what to upload.
	Again []string
	// Start is the file that starts the job. It is set only if the files of Again do not start
	// the job, and is uploaded after them.
	Start string
	// After is a sentence that follows the files to upload again, or "".
	After string
}

func (p *Problem) Error() string { return p.Reason }

// What to upload again so that a job starts.
const (
	JobJSON     = "job.json"
	AudioOfPair = "the audio of the pair"
)

// RemedyFor returns the remedy of the problem or, if the problem has none, the remedy of the
// problem's code for a name.
func (p *Problem) RemedyFor(name string) string {
	if p.Remedy != "" {
		return p.Remedy
	}
	return p.Code.Remedy(name)
}

// Reason joins the reasons of problems, and numbers them if they differ.
func Reason(problems []Problem) string {
	var reasons []string
	for _, p := range problems {
		if !slices.Contains(reasons, p.Reason) {
			reasons = append(reasons, p.Reason)
		}
	}
	if len(reasons) == 1 {
		return reasons[0]
	}
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("(%d) %s", i+1, reason)
	}
	return strings.Join(reasons, "; ")
}

// Remedy joins the remedies of a name's problems. The files to upload again follow; those that
// start the job are last. Remedy adds a Start file only if none of these files starts the job.
// The After sentences are at the end.
func Remedy(name string, problems []Problem) string {
	var steps, first, again, last, start, after []string
	add := func(list *[]string, text string) {
		if text != "" && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, p := range problems {
		add(&steps, p.RemedyFor(name))
		add(&after, p.After)
		add(&start, p.Start)
		for _, file := range p.Again {
			switch {
			case p.Start != "":
				add(&first, file)
			case file == JobJSON:
				add(&last, file)
			default:
				add(&again, file)
			}
		}
	}
	if again = append(again, last...); again == nil {
		again = start
	}
	if again != nil {
		steps = append(steps, fmt.Sprintf("Then upload %s again.", List(append(first, again...), "and")))
	}
	return strings.Join(append(steps, after...), " ")
}
