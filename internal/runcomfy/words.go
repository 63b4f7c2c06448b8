package runcomfy

import "strings"

// QueueStatus is how far a job is, in the words of /status, in lower case and with
// "cancelled" for "canceled". An unknown word is kept and does not mean that the
// job has ended.
//
// "completed" means that the job has ended, successfully or not. Only Client.Result
// says which.
type QueueStatus string

// The documented words of /status. Like RunComfy's own clients, Ended also accepts the words
// of /result.
const (
	InQueue    QueueStatus = "in_queue"
	InProgress QueueStatus = "in_progress"
	Completed  QueueStatus = "completed"
	Cancelled  QueueStatus = "cancelled"
)

// Ended reports whether the job has ended, successfully or not.
func (s QueueStatus) Ended() bool {
	return resultStatus(string(s)).Ended()
}

// ResultStatus is the state of a job in the words of /result, in lower case and with
// "cancelled" for "canceled" and "succeeded" for "completed". An unknown word is
// kept and does not mean that the job has ended.
type ResultStatus string

// The known words of /result, and ResultNotReady.
const (
	ResultSucceeded  ResultStatus = "succeeded"
	ResultFailed     ResultStatus = "failed"
	ResultCancelled  ResultStatus = "cancelled"
	ResultInQueue    ResultStatus = "in_queue"
	ResultInProgress ResultStatus = "in_progress"

	// ResultNotReady stands for error code 400005: the result is not ready. The code does
	// not say how far the job is.
	ResultNotReady ResultStatus = "not_ready"
)

// Ended reports whether the job has ended, successfully or not.
func (s ResultStatus) Ended() bool {
	return s == ResultSucceeded || s == ResultFailed || s == ResultCancelled
}

// Outcome is what a cancel did, in the words of /cancel, in lower case and with
// "cancelled" for "canceled".
type Outcome string

// The documented outcomes.
const (
	OutcomeCancelled      Outcome = "cancelled"
	OutcomeNotCancellable Outcome = "not_cancellable"
)

// normalWord returns a word of a response in the spelling that this package uses.
func normalWord(word string) string {
	word = strings.ToLower(strings.TrimSpace(word))
	if word == "canceled" {
		return "cancelled"
	}
	return word
}

func resultStatus(word string) ResultStatus {
	if word == string(Completed) {
		return ResultSucceeded
	}
	return ResultStatus(word)
}
