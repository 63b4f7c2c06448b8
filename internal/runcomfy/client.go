// Package runcomfy is a client of RunComfy's Model API: it submits a job, asks
// how far it is, reads its result, cancels it, and describes a model.
//
// It says what the API said and leaves every decision to its callers: nothing
// here waits, retries or downloads an output. It knows nothing of AWS.
//
// The API has two vocabularies of states, an error under HTTP 200, an
// unfinished result under HTTP 400, and no idempotency key. What that means
// for a caller is written at the types: [QueueStatus], [ResultStatus],
// [Error], [NotSent].
package runcomfy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// DefaultBaseURL is the address of RunComfy's Model API.
const DefaultBaseURL = "https://model-api.runcomfy.net"

// Timeout bounds one request of the default HTTP client, from dialling to the
// last byte of the answer. A function that calls the API must live longer.
const Timeout = 30 * time.Second

// AccountBaseURL is the address of RunComfy's account API, which Balance is for.
const AccountBaseURL = "https://api.runcomfy.net"

const defaultUserAgent = "lipdrop (+https://github.com/lipdrop/lipdrop)"

// Client calls the Model API. A Client is safe for concurrent use; its fields
// are set before the first call.
//
// A method makes one HTTP request. If the API refuses the token and Token then
// returns another one, every method except Submit repeats the request once with
// that token. The client retries nothing else and never waits.
//
// A method returns one of these errors:
//
//   - an [*Error] if the API responded with an error, or with a response that
//     the client cannot use;
//   - a [*TokenError] if there was no token to send;
//   - any other error if no response came. [NotSent] then reports whether it is
//     certain that the API did not see the request.
type Client struct {
	// Token supplies the API token, which every request sends as a bearer token.
	Token TokenSource

	// BaseURL is the address of the API, http or https, without a query.
	// Defaults to DefaultBaseURL.
	BaseURL string

	// HTTPClient makes the requests; its redirect policy is not used, since
	// redirects are not followed. Defaults to one with Timeout that opens a
	// connection of its own for each request.
	HTTPClient *http.Client

	// UserAgent is sent with every request. Defaults to the project's name.
	UserAgent string
}

// TokenSource supplies the API token. It is safe for concurrent use.
type TokenSource interface {
	// Token returns the token for one request.
	Token(context.Context) (string, error)
	// Refused reports that the API did not accept the token, so that the next
	// Token may look for another one.
	Refused()
}

// Status is the answer of Client.Status.
type Status struct {
	State QueueStatus
	// QueuePosition is how many are ahead in the queue, nil when not told.
	QueuePosition *int
}

// Result is the answer of Client.Result.
type Result struct {
	State ResultStatus

	// Outputs holds the URLs of the job's outputs as they were given, in the
	// order output.video, videos, image, images, then output itself where it
	// is a URL or a list of URLs. A URL that is named twice is here once.
	Outputs []string

	// Failure is a message for people out of the failed job's error, without
	// secrets, at most 500 runes; empty when there is none.
	Failure string

	// FailureRaw is the failed job's error as it was given: a string, an
	// object or an array. Only secrets in it are replaced. Nil when there is none,
	// and when it is longer than 16 KiB.
	FailureRaw json.RawMessage

	// CostUSD is what the job cost, nil when not told.
	CostUSD *float64

	// CreatedAt and FinishedAt are zero when the response does not name them.
	CreatedAt, FinishedAt time.Time

	// Warnings say which members of the response were dropped because no record
	// could hold them, one sentence each.
	Warnings []string
}

// Model is the answer of Client.Model.
type Model struct {
	ID           string
	DisplayName  string
	InputSchema  json.RawMessage // nil when not told
	BasePriceUSD *float64        // nil when not told
	PriceUnit    string          // what the price is for, such as "second"
}

// Submit asks for one paid run of a model. The members of input are the
// members of the model's input schema, and nothing else is sent.
//
// An error's [Error.Kind] and [NotSent] tell whether the job can have been
// taken; where neither says that it was not, it may have been, and may have
// been charged.
func (c *Client) Submit(ctx context.Context, modelID string, input map[string]any) (requestID string, err error) {
	path, err := modelPath(http.MethodPost, modelID)
	if err != nil {
		return "", err
	}
	body, err := encodeInput(input)
	if err != nil {
		return "", &sendError{method: http.MethodPost, path: path, notSent: true, err: err}
	}
	answer, err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, paid: true})
	if err != nil {
		return "", err
	}
	requestID = answer.text("request_id")
	if !validRequestID(requestID) || answer.quotesToken(requestID) {
		return "", answer.unexpected("no valid request_id in the answer")
	}
	return requestID, nil
}

// Status asks how far a job is. That it has ended does not say how: ask
// Result.
func (c *Client) Status(ctx context.Context, requestID string) (Status, error) {
	answer, err := c.request(ctx, http.MethodGet, requestID, "/status", "")
	if err != nil {
		return Status{}, err
	}
	word := answer.word("status")
	if word == "" {
		return Status{}, answer.unexpected("no status in the answer")
	}
	return Status{State: QueueStatus(word), QueuePosition: answer.position("queue_position")}, nil
}

// Result asks how a job ended, with its outputs, its failure and its cost. A
// job that has not ended is no error: its State is not Ended.
func (c *Client) Result(ctx context.Context, requestID string) (Result, error) {
	answer, err := c.request(ctx, http.MethodGet, requestID, "/result", "include_cost=true")
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) && e.Code == codeNotReady {
			return Result{State: ResultNotReady}, nil
		}
		return Result{}, err
	}
	word := answer.word("status")
	if word == "" {
		return Result{}, answer.unexpected("no status in the answer")
	}
	result := Result{
		State:      resultStatus(word),
		Outputs:    outputs(answer.members["output"]),
		CreatedAt:  answer.time("created_at"),
		FinishedAt: answer.time("finished_at"),
	}
	result.dropUnusable(answer)
	if result.State != ResultSucceeded {
		raw := answer.raw("error")
		if len(raw) <= maxRaw {
			result.FailureRaw = redactJSON(raw, answer.token)
		}
		result.Failure = message(jsonText(raw), answer.token)
	}
	if result.State == ResultFailed && result.Failure == "" {
		result.Failure = message(errorText(answer.members), answer.token)
	}
	return result, nil
}

// maxRaw is the longest error that is kept as it was given.
const maxRaw = 16 << 10

// maxCostUSD is above what any job costs: a cost from there on is a mistake.
const maxCostUSD = 10_000

// dropUnusable takes the cost, and drops it and the times when they cannot be
// right: JSON holds no time outside the years 0 to 9999.
//
// It also drops outputs whose URL holds the token, since the token goes to no
// other host than the API's.
func (r *Result) dropUnusable(a *answer) {
	if n := len(r.Outputs); n > 0 {
		if r.Outputs = slices.DeleteFunc(r.Outputs, a.quotesToken); len(r.Outputs) < n {
			r.Warnings = append(r.Warnings, fmt.Sprintf("RunComfy reports %d outputs whose URL holds the API token, so they are not fetched", n-len(r.Outputs)))
		}
	}
	if raw := a.raw("cost"); raw != nil {
		r.CostUSD = a.number("cost")
		if r.CostUSD == nil || !(*r.CostUSD >= 0 && *r.CostUSD < maxCostUSD) {
			r.CostUSD = nil
			r.Warnings = append(r.Warnings, fmt.Sprintf("RunComfy reports the cost %s; a cost is a number of US dollars from 0 to below %d, so it is not recorded", message(string(raw), a.token), maxCostUSD))
		}
	}
	for _, at := range []struct {
		name string
		time *time.Time
	}{{"created_at", &r.CreatedAt}, {"finished_at", &r.FinishedAt}} {
		if year := at.time.Year(); year < 0 || year > 9999 {
			*at.time = time.Time{}
			r.Warnings = append(r.Warnings, fmt.Sprintf("RunComfy reports %s for %s, which is outside the years 0 to 9999, so it is not recorded", message(a.text(at.name), a.token), at.name))
		}
	}
}

// Cancel asks to cancel a job, which works while it is queued. Only the
// outcome tells what happened: the status beside it is "completed" after a
// cancel that took effect.
func (c *Client) Cancel(ctx context.Context, requestID string) (Outcome, error) {
	answer, err := c.request(ctx, http.MethodPost, requestID, "/cancel", "")
	if err != nil {
		return "", err
	}
	word := answer.word("outcome")
	if word == "" {
		return "", answer.unexpected("no outcome in the answer")
	}
	return Outcome(word), nil
}

// Model asks for the description of a model.
func (c *Client) Model(ctx context.Context, modelID string) (Model, error) {
	path, err := modelPath(http.MethodGet, modelID)
	if err != nil {
		return Model{}, err
	}
	answer, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return Model{}, err
	}
	model := Model{
		ID:           answer.text("model_id"),
		DisplayName:  answer.text("display_name"),
		InputSchema:  answer.raw("input_schema"),
		BasePriceUSD: answer.number("base_price_usd"),
		PriceUnit:    answer.text("price_unit"),
	}
	if model.ID == "" {
		return Model{}, answer.unexpected("no model_id in the answer")
	}
	return model, nil
}

// Balance asks for the account's balance in US dollars: a free check of the
// token. It is a call of the account API, so BaseURL must be AccountBaseURL.
func (c *Client) Balance(ctx context.Context) (float64, error) {
	answer, err := c.do(ctx, call{method: http.MethodGet, path: balancePath})
	if err != nil {
		return 0, err
	}
	balance := answer.number("balance_usd")
	if balance == nil {
		return 0, answer.unexpected("no balance_usd in the answer")
	}
	return *balance, nil
}

// request calls one of the paths of a request id.
func (c *Client) request(ctx context.Context, method, requestID, action, query string) (*answer, error) {
	if !validRequestID(requestID) {
		return nil, &sendError{
			method: method, path: requestsPath + "…" + action, notSent: true,
			err: fmt.Errorf("not a request id: %.40q", requestID),
		}
	}
	return c.do(ctx, call{method: method, path: requestsPath + requestID + action, query: query})
}

// encodeInput returns a model's input as a JSON object, its members sorted.
func encodeInput(input map[string]any) ([]byte, error) {
	if input == nil {
		input = map[string]any{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	// A presigned URL is full of "&": it stays legible in what is sent.
	enc.SetEscapeHTML(false)
	if err := enc.Encode(input); err != nil {
		return nil, fmt.Errorf("encode the input: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
