package ui

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// missingRights has, for each action, the permission that the person lacks. A member is empty if
// missingRightsFor found no missing permission.
type missingRights struct {
	Drop    string `json:"drop"`
	Review  string `json:"review"`
	Cancel  string `json:"cancel"`
	Redrive string `json:"redrive"`
}

// rightsCachedFor is how long the missing rights of a folder are remembered.
const rightsCachedFor = 5 * time.Minute

type cachedRights struct {
	missingRights
	until time.Time
}

// missingRightsFor finds out what the person may do with a name. It tries each action in a way
// that changes nothing: S3 and Step Functions check the permission first, and then
// refuse the action because the object or the execution does not exist. Only an error
// about a missing permission disables the action on the page. After any other error, the page
// offers the action, which then reports what is wrong.
func (s *Server) missingRightsFor(ctx context.Context, name string) missingRights {
	folder := name[:strings.LastIndexByte(name, '/')+1]
	s.rightsMu.Lock()
	defer s.rightsMu.Unlock()
	if known := s.rightsByFolder[folder]; time.Now().Before(known.until) {
		return known.missingRights
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second) // a network may let requests to S3 through, but not requests to Step Functions
	defer cancel()
	var group sync.WaitGroup
	try := func(missing *string, action func() error) {
		group.Go(func() {
			if denied, ok := errors.AsType[*client.DeniedError](action()); ok {
				*missing = strings.TrimSuffix(denied.Permission+" on "+denied.Resource, " on ")
			}
		})
	}
	var r missingRights
	try(&r.Drop, func() error { return s.tryWrite(limited, ledger.InboxPrefix+folder) })
	try(&r.Review, func() error { return s.tryWrite(limited, client.ReviewPrefix+folder) })
	execution := workflow.ExecutionARN(s.client.Ledger.MachineARN, "lipdrop-ui")
	try(&r.Cancel, func() error {
		_, err := s.client.States.StopExecution(limited, &sfn.StopExecutionInput{ExecutionArn: &execution})
		return s.client.Explain("cancel a job", "", err)
	})
	try(&r.Redrive, func() error {
		_, err := s.client.States.RedriveExecution(limited, &sfn.RedriveExecutionInput{ExecutionArn: &execution})
		return s.client.Explain("redrive a job", "", err)
	})
	group.Wait()
	if ctx.Err() == nil {
		s.rightsByFolder[folder] = cachedRights{r, time.Now().Add(rightsCachedFor)}
	}
	return r
}

// tryWrite asks S3 to write an object only if the object at its key has a made-up ETag. No
// object has that ETag, so nothing is written. Even a written object would not be a drop,
// because its file name begins with a dot.
func (s *Server) tryWrite(ctx context.Context, prefix string) error {
	_, err := s.client.Bucket.PutJSON(ctx, prefix+".lipdrop-ui", "00000000000000000000000000000000", []byte("{}"), nil)
	return s.client.Explain("write below "+prefix, prefix+"*", err)
}
