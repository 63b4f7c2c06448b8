package lambda

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Remote calls functions by the Invoke API of Lambda. One server of this API is
// `sam local start-lambda`.
type Remote struct {
	endpoint string
	ids      map[string]string
	life     context.Context // done after Close
	end      context.CancelFunc
}

// CheckEndpoint returns an error if a text is not the URL of an endpoint.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not the URL of a Lambda endpoint, such as http://127.0.0.1:3001", endpoint)
	}
	return nil
}

// NewRemote returns a Remote for an endpoint that CheckEndpoint accepts. ids maps the name
// of each function to its name at the endpoint.
func NewRemote(endpoint string, ids map[string]string) *Remote {
	r := &Remote{endpoint: strings.TrimSuffix(endpoint, "/"), ids: ids}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Invoke calls a function, by name or ARN, and returns its response or, as an *Error, its
// failure. After any other error, the endpoint may have called the function, unless the
// name is unknown.
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
func (r *Remote) Invoke(ctx context.Context, name string, payload []byte) ([]byte, error) {
	id, ok := r.ids[name[strings.LastIndexByte(name, ':')+1:]]
	if !ok {
		return nil, fmt.Errorf("no function %s", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint+"/2015-03-31/functions/"+id+"/invocations", bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	var body []byte
	if err == nil {
		defer func() { _ = response.Body.Close() }()
		body, err = io.ReadAll(http.MaxBytesReader(nil, response.Body, maxResponse))
	}
	switch {
	case r.life.Err() != nil:
		return nil, ErrClosed
	case err != nil:
		return nil, fmt.Errorf("%s: %w", id, err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s of %s: %s: %.4096s", id, r.endpoint, response.Status, bytes.TrimSpace(body))
	case response.Header.Get("X-Amz-Function-Error") != "":
		return nil, reportedError(body)
	}
	return body, nil
}

// Close ends the calls under way. They and later calls return ErrClosed.
func (r *Remote) Close() { r.end() }
