package runcomfytest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
)

// fetchTimeout is the timeout for the download of all inputs of a job.
const fetchTimeout = 5 * time.Minute

// input is a URL among the properties of a job.
type input struct {
	name, url, suffix string
	kind              media.Kind
}

// fetchIfDue downloads the inputs of a job and stores the job's output, if the download is due. It
// does so only once, and never for a cancelled job. The caller holds j.mu.
func (s *Server) fetchIfDue(j *job, now time.Time) {
	due := !s.FetchAtStart || !now.Before(j.startsAt())
	if j.Fetched || !j.CancelledAt.IsZero() || !due {
		return
	}
	// The job continues even if the client of this request goes away.
	ctx, stop := context.WithTimeout(context.Background(), fetchTimeout)
	defer stop()
	inputs := inputsOf(j.Input)
	chosen := chooseOutput(inputs)
	files := map[string][]byte{} // for Make
	for i, in := range inputs {
		if err := s.fetch(ctx, j, in, i == chosen, files); err != nil {
			// Quote the whole URL, as the real API may, so that tests see whether a text of lipdrop repeats the query.
			j.FetchError = fmt.Sprintf("could not download %s from %s: %v", in.name, in.url, err)
			break
		}
	}
	if j.FetchError == "" && s.Make != nil {
		data, err := s.Make(Job{RequestID: j.ID, Model: j.Model, Input: j.Input}, files)
		if err == nil {
			err = s.keepOutput(j, media.Video, ".mp4", bytes.NewReader(data))
		}
		if err != nil {
			j.FetchError = err.Error()
		}
	}
	j.Fetched = true
	if err := s.save(j); err != nil && j.FetchError == "" {
		j.FetchError = err.Error()
	}
}

// fetch downloads one input of a job. If Make is set, fetch adds the input to files. Otherwise, if
// isOutput is true, fetch stores the input as the output.
func (s *Server) fetch(ctx context.Context, j *job, in input, isOutput bool, files map[string][]byte) error {
	body, err := s.openInput(ctx, in.url)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	switch {
	case s.Make != nil:
		data, err := io.ReadAll(body)
		files[in.name] = data
		return notEmpty(int64(len(data)), err)
	case isOutput:
		return s.keepOutput(j, in.kind, in.suffix, body)
	}
	n, err := io.Copy(io.Discard, body)
	return notEmpty(n, err)
}

func (s *Server) keepOutput(j *job, kind media.Kind, suffix string, body io.Reader) error {
	hash := sha256.New()
	n, err := s.storeMedia(j, io.TeeReader(body, hash))
	if err := notEmpty(n, err); err != nil {
		return err
	}
	j.Kind, j.Suffix, j.SHA256 = kind, suffix, hex.EncodeToString(hash.Sum(nil))
	return nil
}

// notEmpty returns err, or an error if n, the size of a file, is 0.
func notEmpty(n int64, err error) error {
	if err == nil && n == 0 {
		return errors.New("the file is empty")
	}
	return err
}

// storeMedia stores a job's output in Dir or in memory.
func (s *Server) storeMedia(j *job, body io.Reader) (int64, error) {
	if s.Dir == "" {
		var err error
		j.media, err = io.ReadAll(body)
		return int64(len(j.media)), err
	}
	file, err := os.Create(s.mediaPath(j))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(file, body)
	return n, errors.Join(err, file.Close())
}

func (s *Server) mediaPath(j *job) string { return filepath.Join(s.Dir, j.ID+".media") }

func (s *Server) openInput(ctx context.Context, address string) (io.ReadCloser, error) {
	if s.Fetch != nil {
		return s.Fetch(ctx, address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := cmp.Or(s.HTTPClient, http.DefaultClient).Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("HTTP %d", res.StatusCode)
	}
	return res.Body, nil
}

// inputsOf returns the properties that are URLs, sorted by name.
func inputsOf(properties map[string]any) []input {
	var inputs []input
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		address, _ := properties[name].(string)
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			continue
		}
		in := input{name: name, url: address, suffix: strings.ToLower(path.Ext(u.Path))}
		switch {
		case strings.Contains(name, string(media.Audio)):
			in.kind = media.Audio
		case strings.Contains(name, string(media.Video)):
			in.kind = media.Video
		case strings.Contains(name, string(media.Image)):
			in.kind = media.Image
		default:
			in.kind, _ = media.KindOf(in.suffix)
		}
		inputs = append(inputs, in)
	}
	return inputs
}

// chooseOutput returns the index of the first video. If there is no video, it returns the index
// of the first image, or -1 if there is no image either.
func chooseOutput(inputs []input) int {
	for _, kind := range []media.Kind{media.Video, media.Image} {
		if i := slices.IndexFunc(inputs, func(in input) bool { return in.kind == kind }); i >= 0 {
			return i
		}
	}
	return -1
}
