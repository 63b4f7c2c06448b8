package drop

import (
	"context"
	"fmt"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// File is a file below inbox/ as it is now.
type File = bucket.File

// Files is where dropped files are stored: a bucket or a local folder. The
// methods do what those of bucket.Bucket do.
type Files interface {
	List(ctx context.Context, prefix string, limit int) ([]File, bool, error)
	ListFolder(ctx context.Context, prefix, after string, limit int) ([]File, bool, error)
	Head(ctx context.Context, key string) (File, error)
	ReadRange(ctx context.Context, f File, off, n int64) ([]byte, error)
}

// refusedProblem returns the problem of a file that S3 refuses to return. The reason
// calls the file what.
func refusedProblem(e *bucket.RefusedError, what string) problem.Problem {
	code := problem.MediaForbidden
	if e.S3Code == "InvalidObjectState" {
		code = problem.MediaArchived
	}
	return problem.Problem{Code: code, Reason: fmt.Sprintf("%s cannot be read: %s", what, e.Response())}
}
