package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// The hourly sweep settles executions that ended at most sweepBack ago. AWS may lose the
	// event of a status change. About 24 sweeps then have a chance to settle the execution.
	sweepBack = 24 * time.Hour

	// The sweep lists executions that started less than listBack ago. AWS orders the list
	// by start time. An execution lasts at most five days, can be redriven for 14 days
	// after its end, may then last five days more, and is settled for one more day
	// (sweepBack).
	listBack = 25 * 24 * time.Hour

	// The sweep recovers takes whose record was last written between recoverUntil
	// and recoverAfter ago. Submit finishes its own work within minutes, and its
	// queue retries for a day.
	recoverAfter = 15 * time.Minute
	recoverUntil = 48 * time.Hour

	// bookDays is for how many days, today included, the sweep frees reservations. Only
	// today's book limits jobs. The older books are swept so that their sums are right.
	bookDays = 3

	// recoverTime is how much of the function's time one more record needs.
	recoverTime = 15 * time.Second
)

// sweep settles the unsuccessful executions of the last day, finishes what submit left undone,
// sends due notices, frees reservations of takes that are not charged, and logs the balance.
func (h *Handler) sweep(ctx context.Context, c *call) error {
	takes, err := h.Ledger.Written(ctx, "", h.Now().Add(-recoverUntil))
	settleErr := h.settleAll(ctx, takes, c)
	days, recoverErr := h.recoverTakes(ctx, takes)
	err = errors.Join(err, settleErr, recoverErr, h.sweepBudget(ctx, days))
	h.logBalance(ctx, c)
	return err
}

// settleAll settles the unsuccessful executions of the last day. It begins with those that ended
// first, because they reach giveUpAfter first. If the function's time ends, the next sweep continues.
func (h *Handler) settleAll(ctx context.Context, takes []ledger.TakeID, c *call) error {
	takeOf := map[string]ledger.TakeID{} // by the ARN of the execution
	for _, id := range takes {
		takeOf[h.Ledger.ExecutionARN(id.Name, id.Take)] = id
	}
	ended, err := h.listUnsuccessful(ctx)
	errs := []error{err}
	for _, exec := range ended {
		if !workflow.HasTime(ctx, h.Now(), jobTime) {
			errs = append(errs, errNoTime)
			break
		}
		if id, ok := takeOf[aws.ToString(exec.ExecutionArn)]; ok {
			rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
			if err == nil && rec.State.Ended() && !mayHaveFailedAgain(rec, exec.StopDate) {
				errs = append(errs, h.Ledger.PostTake(ctx, rec)) // settled before: no need to describe the execution
				continue
			}
		}
		if err := h.settle(ctx, aws.ToString(exec.ExecutionArn), aws.ToInt32(exec.RedriveCount), c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", aws.ToString(exec.Name), err))
		}
	}
	return errors.Join(errs...)
}

// listUnsuccessful returns the executions that did not succeed and ended within the
// last day, oldest end first. If it cannot list the executions of one status, it continues with
// the next status, and returns the error with the executions that it has found.
func (h *Handler) listUnsuccessful(ctx context.Context) (found []types.ExecutionListItem, err error) {
	for _, status := range []types.ExecutionStatus{types.ExecutionStatusFailed, types.ExecutionStatusTimedOut, types.ExecutionStatusAborted} {
		pages := sfn.NewListExecutionsPaginator(h.States, &sfn.ListExecutionsInput{StateMachineArn: &h.Ledger.MachineARN, StatusFilter: status, MaxResults: 1000})
		for more := true; more && pages.HasMorePages(); {
			page, listErr := pages.NextPage(ctx)
			if listErr != nil {
				err = errors.Join(err, fmt.Errorf("list executions: %w", listErr))
				break
			}
			for _, exec := range page.Executions {
				if h.Now().Sub(aws.ToTime(exec.StopDate)) <= sweepBack {
					found = append(found, exec)
					continue
				}
				more = h.Now().Sub(aws.ToTime(exec.StartDate)) < listBack
			}
		}
	}
	slices.SortStableFunc(found, func(a, b types.ExecutionListItem) int {
		return aws.ToTime(a.StopDate).Compare(aws.ToTime(b.StopDate))
	})
	return found, err
}

// recoverTakes finishes work that submit left undone, because submit's message may be gone: it
// starts the execution of a submitted take, and ends a claim whose invocation died. If a function
// left a notice due, it posts the status and sends the notice. It returns the reservationDay of
// each take whose record was read or no longer exists, by the key of the record.
func (h *Handler) recoverTakes(ctx context.Context, takes []ledger.TakeID) (days map[string]string, err error) {
	// Earlier sweeps have read the older records, so the newest come first.
	slices.SortStableFunc(takes, func(a, b ledger.TakeID) int { return b.Written.Compare(a.Written) })
	days = map[string]string{}
	var errs []error
	for i, id := range takes {
		if h.Now().Sub(id.Written) < recoverAfter {
			continue
		}
		if !workflow.HasTime(ctx, h.Now(), recoverTime) {
			slog.WarnContext(ctx, "not all records were read", "unread", len(takes)-i, "records", len(takes))
			break
		}
		rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
		released := errors.Is(err, bucket.ErrNotFound)
		if released || err == nil {
			days[ledger.RecordKey(id.Name, id.Take)] = reservationDay(rec)
		}
		if err == nil {
			err = h.recoverTake(ctx, rec)
		}
		if err != nil && !released {
			errs = append(errs, fmt.Errorf("%s: %w", id.Name, err))
		}
	}
	return days, errors.Join(errs...)
}

func (h *Handler) recoverTake(ctx context.Context, rec ledger.Record) error {
	switch rec.State {
	case ledger.Submitting:
		if !rec.ClaimEnded(h.Now()) {
			return nil // a released take that was claimed again since it was listed
		}
		slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", problem.SubmitInterrupted)
		return h.recordEnd(ctx, rec, ending{state: ledger.Unknown, code: problem.SubmitInterrupted, reason: problem.InterruptedReason})
	case ledger.Submitted:
		slog.WarnContext(ctx, "recovered", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID)
		if err := workflow.Start(ctx, h.States, h.Ledger.MachineARN, rec.Job()); err != nil {
			return err
		}
		posted, err := h.Ledger.Posted(ctx, ledger.StatusKey(rec.Name))
		if err != nil {
			return err
		}
		if posted.Take == rec.Take && posted.State.Claimed() {
			return nil // the status may have a warning that is not in the record
		}
		return h.Ledger.PostTake(ctx, rec)
	}
	if !rec.NoticeDue {
		return nil
	}
	return h.Ledger.PostTake(ctx, rec) // the function that ended the take could not post the status or could not send the notice
}

// reservationDay returns the day whose book holds the reservation of a take. It returns ""
// if RunComfy does not charge the take, and for the zero Record of a released claim.
func reservationDay(rec ledger.Record) string {
	if rec.Take == "" || rec.CostsNothing() {
		return ""
	}
	return budget.Day(rec.Times.Claimed)
}

// sweepBudget frees the reservations of takes that RunComfy does not charge. It also frees a
// reservation in a day's book if the take was not claimed on that day. Submit or cancel may have
// died before freeing a reservation, and archive frees none. days is the map that recoverTakes
// returns.
func (h *Handler) sweepBudget(ctx context.Context, days map[string]string) error {
	var errs []error
	for back := range bookDays {
		day := budget.Day(h.Now().AddDate(0, 0, -back))
		freed, err := h.Books.Free(ctx, day, func(t budget.Take) bool {
			if reserved, read := days[ledger.RecordKey(t.Name, t.Take)]; !read || reserved == day || !workflow.HasTime(ctx, h.Now(), recoverTime) {
				return false
			}
			rec, err := h.Ledger.Get(ctx, t.Name, t.Take) // the take may be claimed again by now
			return (err == nil || errors.Is(err, bucket.ErrNotFound)) && reservationDay(rec) != day
		})
		if err == nil && freed > 0 {
			slog.WarnContext(ctx, "reservations freed", "day", day, "takes", freed)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// logBalance logs the balance of the RunComfy account, for the alarm.
func (h *Handler) logBalance(ctx context.Context, c *call) {
	if h.MinBalance == 0 || c.silent || !workflow.HasTime(ctx, h.Now(), jobTime) {
		return
	}
	usd, err := h.API.Balance(ctx)
	if err != nil {
		slog.WarnContext(ctx, "balance not known", "err", err)
		return
	}
	slog.InfoContext(ctx, "balance", "balance_usd", usd)
}
