package runcomfy

import "strings"

// QueueStatus is a word of /status: how far a job is. It is in lower case,
// with "cancelled" for "canceled". A word that is not listed here is kept as
// it came, and is not an end.
//
// "completed" means that the job has ended, well or badly: Client.Result alone
// tells which.
type QueueStatus string

// The words that /status is known to say. RunComfy's own clients expect the
// words of /result here as well.
const (
	InQueue    QueueStatus = "in_queue"
	InProgress QueueStatus = "in_progress"
	Completed  QueueStatus = "completed"
	Cancelled  QueueStatus = "cancelled"
)

// Ended tells whether the job has ended, in whatever way.
func (s QueueStatus) Ended() bool {
	return resultStatus(string(s)).Ended()
}

// ResultStatus is a word of /result: how a job ended. It is in lower case,
// with "cancelled" for "canceled" and "succeeded" for "completed". A word that
// is not listed here is kept as it came, and is not an end.
type ResultStatus string

// The words that /result is known to say, and ResultNotReady.
const (
	ResultSucceeded  ResultStatus = "succeeded"
	ResultFailed     ResultStatus = "failed"
	ResultCancelled  ResultStatus = "cancelled"
	ResultInQueue    ResultStatus = "in_queue"
	ResultInProgress ResultStatus = "in_progress"

	// ResultNotReady stands for the answer that a result is not ready (error
	// code 400005), which does not say how far the job is.
	ResultNotReady ResultStatus = "not_ready"
)

// Ended tells whether the job has ended, in whatever way.
func (s ResultStatus) Ended() bool {
	return s == ResultSucceeded || s == ResultFailed || s == ResultCancelled
}

// Outcome is a word of /cancel: what came of the request to cancel. It is in
// lower case, with "cancelled" for "canceled"; other words are kept.
type Outcome string

// The outcomes that are known.
const (
	OutcomeCancelled      Outcome = "cancelled"
	OutcomeNotCancellable Outcome = "not_cancellable"
)

// normalWord returns a state in the one spelling that this package uses.
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
