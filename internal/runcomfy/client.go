// Package runcomfy is a client of RunComfy's Model API: it submits a job, returns
// its status and its result, cancels it, and describes a model. It also returns the
// account's balance.
//
// It reports what the API said. Its callers decide what to do. It never waits, never
// downloads an output, and does not use AWS.
//
// The API has two vocabularies of states, errors under HTTP 200, an unfinished
// result under HTTP 400, and no idempotency key. [QueueStatus], [ResultStatus], [Error]
// and [NotSent] say what that means for a caller.
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

// Timeout is the timeout of one request of the default HTTP client, from dialling to
// the last byte of the response. A function that calls the API must have a longer
// timeout.
const Timeout = 30 * time.Second

// AccountBaseURL is the address of RunComfy's account API, which Balance calls.
const AccountBaseURL = "https://api.runcomfy.net"

const userAgent = "lipdrop (+https://github.com/lipdrop/lipdrop)"

// Client calls the Model API. A Client is safe for concurrent use; its fields
// are set before the first call.
//
// After an error that may be about the token (KindToken, KindBalance or KindForeign),
// every method except Submit reads the token again. If it has changed, the method repeats
// its HTTP request once. The client retries nothing else and never waits.
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

	// HTTPClient makes the requests. Redirects are not followed, whatever its
	// redirect policy. Defaults to a client with Timeout that opens a connection
	// for each request.
	HTTPClient *http.Client
}

// TokenSource supplies the API token. It is safe for concurrent use.
type TokenSource interface {
	// Token returns the token for one request.
	Token(context.Context) (string, error)
	// Refused is called if another token may help: the current token cannot be sent, the
	// API does not accept the token, the token's account has no balance, or the job belongs
	// to another account.
	Refused()
}

// StaticToken is a TokenSource with a token that never changes.
type StaticToken string

// Token returns t.
func (t StaticToken) Token(context.Context) (string, error) { return string(t), nil }

// Refused does nothing.
func (StaticToken) Refused() {}

// Status is what Client.Status returns.
type Status struct {
	State QueueStatus
	// QueuePosition is how many jobs are ahead in the queue, nil if not known.
	QueuePosition *int
}

// Result is what Client.Result returns.
type Result struct {
	State ResultStatus

	// Outputs holds the URLs of the job's outputs, each once, without the white space
	// around them. They are in the order output.video, videos, image, images. If output
	// itself is a URL or a list of URLs, Outputs holds these.
	Outputs []string

	// Failure is the message of the job's error, without secrets, at most 500 runes;
	// empty if there is none. A job that has succeeded may have such a message too.
	Failure string

	// CostUSD is what the job cost, nil if not known.
	CostUSD *float64

	// CreatedAt and FinishedAt are zero if not known.
	CreatedAt, FinishedAt time.Time

	// Warnings say which parts of the response are left out and why, or that the response is
	// about another request. Each is a clause without a full stop.
	Warnings []string
}

// EndText returns a text about the end of a job that failed or was cancelled.
func (r Result) EndText() string {
	switch {
	case r.State == ResultCancelled:
		return "RunComfy reports that the job was cancelled"
	case r.Failure == "":
		return "RunComfy reports: the job failed, without a reason"
	default:
		return "RunComfy reports: " + r.Failure
	}
}

// Model is what Client.Model returns.
type Model struct {
	ID           string
	InputSchema  json.RawMessage // nil if not known
	BasePriceUSD *float64        // nil if not known
	PriceUnit    string          // what the price is for, PerSecond or PerOutput; other words are possible
	PricingNote  string          // what RunComfy says about the price, without secrets, at most 500 runes
}

// The units of a price.
const (
	PerSecond = "second" // of the output
	PerOutput = "output"
)

// Submit submits one paid run of a model and returns its request id. The body is
// the input and nothing else. If a response under HTTP 2xx has a request id and an error
// code, Submit returns both the id and the error: the job may run and may be charged.
//
// After an error without an id, [Error.Kind] and [NotSent] say whether RunComfy can have
// accepted the job.
func (c *Client) Submit(ctx context.Context, modelID string, input map[string]any) (requestID string, err error) {
	path, err := modelPath(http.MethodPost, modelID)
	if err != nil {
		return "", err
	}
	body, err := encodeInput(input)
	if err != nil {
		return "", &sendError{method: http.MethodPost, path: path, notSent: true, err: err}
	}
	res, err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, paid: true})
	if res == nil {
		return "", err
	}
	requestID = res.text("request_id")
	if !validRequestID(requestID) || res.quotesToken(requestID) {
		if err == nil {
			err = res.unexpected("the response has no valid request_id")
		}
		return "", err
	}
	return requestID, err
}

// Status returns the state of a job. Only Result says how a job ended.
func (c *Client) Status(ctx context.Context, requestID string) (Status, error) {
	res, err := c.doForJob(ctx, requestID, call{method: http.MethodGet, path: "/status"})
	if err != nil {
		return Status{}, err
	}
	word := res.word("status")
	if word == "" {
		return Status{}, res.unexpected("the response has no status")
	}
	return Status{State: QueueStatus(word), QueuePosition: res.position("queue_position")}, nil
}

// Result returns how a job ended, with its outputs, its failure and its cost. If the job
// has not ended, State.Ended() of the result is false.
func (c *Client) Result(ctx context.Context, requestID string) (Result, error) {
	res, err := c.doForJob(ctx, requestID, call{method: http.MethodGet, path: "/result", query: "include_cost=true"})
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Code == codeNotReady {
			return Result{State: ResultNotReady}, nil
		}
		return Result{}, err
	}
	word := res.word("status")
	if word == "" {
		return Result{}, res.unexpected("the response has no status")
	}
	found, others := outputs(res.members["output"])
	result := Result{
		State:      resultStatus(word),
		Outputs:    found,
		CostUSD:    res.number("cost"),
		CreatedAt:  res.time("created_at"),
		FinishedAt: res.time("finished_at"),
		Failure:    safeText(jsonText(res.members["error"]), res.token),
	}
	if others > 0 {
		result.Warnings = append(result.Warnings, fmt.Sprintf("outputs not fetched because they are not URLs: %d of %d", others, len(found)+others))
	}
	result.dropUnusable(res)
	if id := res.text("request_id"); id != "" && id != requestID {
		result.Warnings = append(result.Warnings, fmt.Sprintf("RunComfy returned the result of request %s when asked for %s; check whether the output belongs to this job", safeText(id, res.token), requestID))
	}
	if result.State == ResultFailed && result.Failure == "" {
		result.Failure = safeText(errorText(res.members), res.token)
	}
	return result, nil
}

// maxCostUSD is more than any job costs. A cost of this much or more is a mistake.
const maxCostUSD = 10_000

// dropUnusable drops outputs whose URL holds the token, because a fetch could send the token to
// another host. It also drops a cost that cannot be right, and times that Go cannot encode as
// JSON. It adds a warning about what it drops.
func (r *Result) dropUnusable(res *response) {
	n := len(r.Outputs)
	if r.Outputs = slices.DeleteFunc(r.Outputs, res.quotesToken); len(r.Outputs) < n {
		r.Warnings = append(r.Warnings, fmt.Sprintf("outputs not fetched because their URL holds the API token: %d of %d", n-len(r.Outputs), n))
	}
	if raw := res.raw("cost"); raw != nil && (r.CostUSD == nil || *r.CostUSD < 0 || *r.CostUSD >= maxCostUSD) {
		r.CostUSD = nil
		r.Warnings = append(r.Warnings, fmt.Sprintf("the cost %s that RunComfy reports is not a number of US dollars from 0 to below %d, so it is not recorded", safeText(string(raw), res.token), maxCostUSD))
	}
	for _, at := range []struct {
		name string
		time *time.Time
	}{{"created_at", &r.CreatedAt}, {"finished_at", &r.FinishedAt}} {
		if year := at.time.Year(); year < 0 || year > 9999 {
			*at.time = time.Time{}
			r.Warnings = append(r.Warnings, fmt.Sprintf("the time %s that RunComfy reports for %s is outside the years 0 to 9999, so it is not recorded", safeText(res.text(at.name), res.token), at.name))
		}
	}
}

// Cancel cancels a job that is queued. Only the returned outcome says whether the job
// was cancelled: the status in the response is "completed" even if the job was cancelled.
func (c *Client) Cancel(ctx context.Context, requestID string) (Outcome, error) {
	res, err := c.doForJob(ctx, requestID, call{method: http.MethodPost, path: "/cancel"})
	if err != nil {
		return "", err
	}
	outcome := Outcome(res.word("outcome"))
	if outcome != OutcomeCancelled && outcome != OutcomeNotCancellable {
		return "", res.unexpected("the response does not say whether the job is cancelled")
	}
	return outcome, nil
}

// Model returns the description of a model.
func (c *Client) Model(ctx context.Context, modelID string) (Model, error) {
	path, err := modelPath(http.MethodGet, modelID)
	if err != nil {
		return Model{}, err
	}
	res, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return Model{}, err
	}
	model := Model{
		ID:           res.text("model_id"),
		InputSchema:  res.raw("input_schema"),
		BasePriceUSD: res.number("base_price_usd"),
		PriceUnit:    res.word("price_unit"),
		PricingNote:  safeText(res.text("pricing_note"), res.token),
	}
	if model.ID == "" {
		return Model{}, res.unexpected("the response has no model_id")
	}
	return model, nil
}

// Balance returns the account's balance in US dollars. It is also a free check of the
// token. It calls the account API at AccountBaseURL. If BaseURL is set and is not
// DefaultBaseURL, both APIs are at BaseURL.
func (c *Client) Balance(ctx context.Context) (float64, error) {
	account := *c
	if c.BaseURL == "" || c.BaseURL == DefaultBaseURL {
		account.BaseURL = AccountBaseURL
	}
	res, err := account.do(ctx, call{method: http.MethodGet, path: balancePath})
	if err != nil {
		return 0, err
	}
	balance := res.number("balance_usd")
	if balance == nil {
		return 0, res.unexpected("the response has no balance_usd")
	}
	return *balance, nil
}

// doForJob makes a call about a submitted job. call.path is what follows the request id. An
// error of KindUnavailable, KindBadInput or KindBalance may be about the job. doForJob ignores it if
// the response is about this request, and has outputs or says that the job has ended.
func (c *Client) doForJob(ctx context.Context, requestID string, call call) (*response, error) {
	if !validRequestID(requestID) {
		return nil, &sendError{method: call.method, path: requestsPath + "…" + call.path, notSent: true, err: fmt.Errorf("not a request id: %.40q", requestID)}
	}
	onStatus := call.path == "/status"
	call.path = requestsPath + requestID + call.path
	res, err := c.do(ctx, call)
	e, ok := errors.AsType[*Error](err)
	if !ok || res == nil || e.Code == codeNotReady || res.text("request_id") != requestID {
		return res, err
	}
	state := resultStatus(res.word("status"))
	// If /result says that the job succeeded, the error may say why there is no output: keep it.
	ended := state.Ended() && (onStatus || state != ResultSucceeded)
	switch e.Kind() {
	case KindUnavailable, KindBadInput, KindBalance:
		if found, _ := outputs(res.members["output"]); ended || len(found) > 0 {
			return res, nil
		}
	}
	return res, err
}

// encodeInput returns a model's input as a JSON object, its members sorted.
func encodeInput(input map[string]any) ([]byte, error) {
	if input == nil {
		input = map[string]any{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	// A presigned URL is full of "&", which would become \u0026.
	enc.SetEscapeHTML(false)
	if err := enc.Encode(input); err != nil {
		return nil, fmt.Errorf("encode the input: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
