package runcomfytest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/lipdrop/lipdrop/internal/media"
)

const outputPrefix = "/media/"

// outputPaths matches the escaped path of an output. RunComfy's paths contain a
// "%3D" that a client must not change.
var outputPaths = regexp.MustCompile(`^` + outputPrefix + `([A-Za-z0-9-]+)%3D/output/[1-9][0-9]*\.[a-z0-9]+$`)

// outputJob returns the request id in the URL of an output, or "" if u is not the URL of an
// output.
func outputJob(u *url.URL) string {
	if found := outputPaths.FindStringSubmatch(u.EscapedPath()); found != nil {
		return found[1]
	}
	return ""
}

// output returns the output member of the result of a job that succeeded.
func (s *Server) output(r *http.Request, j *job) map[string]any {
	base := s.OutputURL
	if !strings.Contains(base, "://") { // it is a path or empty
		base = baseURL(r) + base
	}
	members := map[string]any{}
	if j.Kind == "" {
		return members
	}
	var urls []string
	for i := range max(j.script.Outputs, 1) {
		urls = append(urls, fmt.Sprintf("%s%s%s%%3D/output/%d%s", base, outputPrefix, j.ID, i+1, j.suffix()))
	}
	members[string(j.Kind)] = urls[0]
	if len(urls) > 1 {
		members[string(j.Kind)+"s"] = urls[1:]
	}
	return members
}

// suffix returns the suffix of the output's URL: j.Suffix if it fits the kind of the output,
// else .png or .mp4.
func (j *job) suffix() string {
	kind, _ := media.KindOf(j.Suffix)
	switch {
	case kind == j.Kind:
		return j.Suffix
	case j.Kind == media.Image:
		return ".png"
	}
	return ".mp4"
}

func (s *Server) serveOutput(w http.ResponseWriter, r *http.Request, id string) {
	if r.Header.Get("Authorization") != "" {
		refuse(w, http.StatusForbidden, 0, "an output must be requested without authorization")
		return
	}
	var output io.ReadSeekCloser
	j := s.find(id)
	if j != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		var err error
		if output, err = s.openOutput(j); err != nil {
			refuse(w, http.StatusInternalServerError, 0, err.Error())
			return
		}
	}
	if output == nil {
		refuse(w, http.StatusNotFound, 0, "there is no such output")
		return
	}
	defer func() { _ = output.Close() }()
	w.Header().Set("Content-Type", contentType(output))
	w.Header().Set("ETag", `"`+j.SHA256+`"`)
	http.ServeContent(w, r, "", j.endsAt(), output)
}

// contentType returns the MIME type that the first bytes of an output show, and rewinds the output.
func contentType(output io.ReadSeeker) string {
	head := make([]byte, 512)
	n, _ := io.ReadFull(output, head)
	_, _ = output.Seek(0, io.SeekStart)
	mime, _ := media.Sniff(head[:n])
	return mime
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// openOutput returns the output of a job, or nil if the job has not succeeded or has no output.
func (s *Server) openOutput(j *job) (io.ReadSeekCloser, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := s.now()
	s.fetchIfDue(j, now)
	if j.state(now) != succeeded || j.Kind == "" {
		return nil, nil
	}
	if s.Dir == "" {
		return memoryFile{bytes.NewReader(j.media)}, nil
	}
	return os.Open(s.mediaPath(j))
}

// baseURL returns the scheme and host that a request was made to.
func baseURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
