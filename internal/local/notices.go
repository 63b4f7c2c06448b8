package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// WebhookKeyHeader is the header that contains Keys.Webhook in each request to the
	// webhook. template.yaml uses the same header.
	WebhookKeyHeader = "X-Lipdrop-Key"

	// webhookTimeout is how long the webhook may take to respond, as on AWS.
	webhookTimeout = 5 * time.Second
	// webhookPause is the pause before the second try to send a notice. The pause doubles
	// with each further try. After webhookTries tries, the notice is lost. On AWS, EventBridge
	// retries for a day.
	webhookPause = time.Second
	webhookTries = 8
)

// CheckWebhook returns an error if a URL is not an http or https URL on loopback.
func CheckWebhook(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not a URL such as http://127.0.0.1:8000/", address)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not a loopback address, such as 127.0.0.1: the local stack forwards notices only to loopback", u.Host)
	}
	return nil
}

// bus returns the event bus that the functions send notices to.
func (s *Stack) bus() *events.Bus {
	return &events.Bus{Account: Account, Region: Region, Now: time.Now, Receive: func(n events.Notice) {
		if s.options.Notice != nil {
			s.options.Notice(n)
		}
		if s.options.Webhook != "" {
			go func() {
				if err := s.deliver(s.intakeCtx, n); err != nil && s.intakeCtx.Err() == nil {
					slog.Error("notice not accepted by the webhook", "id", n.ID, "err", err)
				}
			}()
		}
	}}
}

func (s *Stack) deliver(ctx context.Context, n events.Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	for try := range webhookTries {
		if try > 0 {
			if err := workflow.Sleep(ctx, webhookPause<<(try-1)); err != nil {
				return err
			}
		}
		if err = s.post(ctx, body); err == nil {
			return nil
		}
	}
	return err
}

func (s *Stack) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.options.Webhook, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(WebhookKeyHeader, s.keys.Webhook)
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the redirect may lead to another machine
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the webhook returned HTTP %d", resp.StatusCode)
	}
	return nil
}
