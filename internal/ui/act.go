package ui

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
)

// action is what a person asks for.
type action struct {
	Name     string          `json:"name"`
	Take     string          `json:"take"`
	Decision client.Decision `json:"decision"`
	Note     string          `json:"note"`
	ETag     string          `json:"etag"`    // of the review that the person has seen
	Dropped  time.Time       `json:"dropped"` // takeView.Dropped of the take that the person has seen
}

func (s *Server) handleAction(do func(ctx context.Context, a action) (string, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var a action
		if err := decode(r, &a); err != nil {
			return nil, err
		}
		if err := validName(a.Name); err != nil {
			return nil, err
		}
		if validName(a.Take) != nil { // the take is a part of S3 keys
			return nil, &requestError{http.StatusBadRequest, fmt.Sprintf("%q is not a take", a.Take)}
		}
		// The action continues even if the person closes the page. A cancel, for example, stops
		// the execution, and must redrive it if RunComfy then does not cancel the job.
		message, err := do(context.WithoutCancel(r.Context()), a)
		s.feed.listNow()
		return map[string]string{"message": message}, err
	}
}

func (s *Server) review(ctx context.Context, a action) (string, error) {
	if a.Decision != client.Approved && a.Decision != client.Rejected {
		return "", &requestError{http.StatusBadRequest, "the decision must be approved or rejected"}
	}
	_, err := s.client.Review(ctx, a.Name, a.Take, a.Decision, a.Note, &a.ETag)
	return a.Name + " is " + string(a.Decision), err
}

func (s *Server) cancel(ctx context.Context, a action) (string, error) {
	last := ""
	err := s.client.Cancel(ctx, a.Name, func(text string) { last = text })
	return last, err
}

func (s *Server) redrive(ctx context.Context, a action) (string, error) {
	rec, _, err := s.client.Redrive(ctx, a.Name, a.Take)
	return rec.Name + " continues where it failed", err
}

// dropAgain starts a new take of a name. It copies a file of the given take onto itself, which
// has the effect of uploading that file again.
func (s *Server) dropAgain(ctx context.Context, a action) (string, error) {
	s.againMu.Lock() // until a copy is complete, Head does not show that the file is being dropped again
	defer s.againMu.Unlock()
	rec, err := s.client.Ledger.Get(ctx, a.Name, a.Take)
	if err != nil {
		return "", s.client.Explain("read the take "+a.Take+" of "+a.Name, ledger.RecordKey(a.Name, a.Take), err)
	}
	key := fileToDropAgain(rec)
	head, err := s.client.Bucket.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return "", &client.StateError{Reason: path.Base(key) + " is no longer in the bucket; drop the files again"}
	}
	if err != nil {
		return "", s.client.Explain("read "+key, key, err)
	}
	if a.Dropped.IsZero() {
		return "", &client.StateError{Reason: "this page could not read " + path.Base(key) + "; reload the page, check the newest take, then drop the file again"}
	}
	changed := !head.LastModified.Equal(a.Dropped) // such as by the same button in another tab
	if !changed {
		err = s.copyAgain(ctx, head)
		changed = slices.Contains([]int{http.StatusConflict, http.StatusPreconditionFailed}, bucket.HTTPStatus(err))
	}
	if changed {
		return "", &client.StateError{Reason: path.Base(key) + " was uploaded again after this page read it; check the newest take before you drop the file again"}
	}
	if err != nil {
		return "", s.client.Explain("drop "+path.Base(key)+" again", key, err)
	}
	return path.Base(key) + " was dropped again", nil
}

// copyAgain copies an object onto itself, with a multipart upload of one part. CopyObject
// does not suffice: the local S3 server would then keep the object's LastModified. If another
// upload replaces the object meanwhile, and the ETag changes, copyAgain does not undo that upload.
func (s *Server) copyAgain(ctx context.Context, f bucket.File) error {
	name := &s.client.Bucket.Name
	in := &s3.CreateMultipartUploadInput{Bucket: name, Key: &f.Key, Metadata: f.Metadata}
	if f.ContentType != "" {
		in.ContentType = &f.ContentType
	}
	upload, err := s.client.S3.CreateMultipartUpload(ctx, in)
	if err != nil {
		return err
	}
	part, err := s.client.S3.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: name, Key: &f.Key, UploadId: upload.UploadId, PartNumber: aws.Int32(1),
		CopySource: aws.String(*name + "/" + httpbinding.EscapePath(f.Key, false)), CopySourceIfMatch: aws.String(`"` + f.ETag + `"`),
	})
	if err == nil {
		_, err = s.client.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: name, Key: &f.Key, UploadId: upload.UploadId, IfMatch: aws.String(`"` + f.ETag + `"`),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.CopyPartResult.ETag}}},
		})
	}
	if err != nil {
		_, _ = s.client.S3.AbortMultipartUpload(context.WithoutCancel(ctx), &s3.AbortMultipartUploadInput{Bucket: name, Key: &f.Key, UploadId: upload.UploadId})
	}
	return err
}

// fileToDropAgain returns the key of a file that starts a new take of this name only: the match
// of a wildcard, the job.json of a bundle without a wildcard, or the audio file of a pair.
func fileToDropAgain(rec ledger.Record) string {
	key := cmp.Or(rec.Match, rec.Manifest)
	for _, in := range rec.Inputs {
		if kind, _ := media.KindOf(in.Key); key == "" && kind == media.Audio {
			key = in.Key
		}
	}
	return key
}

// serveReviews responds with every review as CSV.
func (s *Server) serveReviews(w http.ResponseWriter, r *http.Request) {
	reviews, err := s.client.Reviews(r.Context())
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="reviews.csv"`)
	out := csv.NewWriter(w)
	_ = out.Write([]string{"name", "take", "decision", "by", "at", "note"})
	for _, review := range reviews {
		_ = out.Write([]string{
			client.ForSheet(review.Name), client.ForSheet(review.Take), client.ForSheet(string(review.Decision)), client.ForSheet(review.By), review.At.Format(time.RFC3339), client.ForSheet(review.Note),
		})
	}
	out.Flush()
}
