package drop_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/template"
)

const (
	pro    = "sync/sync/lipsync/v2/pro"
	react  = "sync/react-1"
	avatar = "community/live-avatar"
	horse  = "happyhorse/happyhorse-1.0/reference-to-video"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// inbox is a bucket whose clock advances by a minute with each step.
type inbox struct {
	*s3test.Bucket
	*drop.Resolver
	now time.Time
}

func newInbox(t testing.TB) *inbox {
	t.Helper()
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	b := &inbox{now: noon.Add(123 * time.Millisecond)} // some of S3's responses give a time to the second only
	b.Bucket = &s3test.Bucket{Now: func() time.Time { return b.now }}
	b.Resolver = &drop.Resolver{
		Files: &bucket.Bucket{S3: strict{b.Bucket}, Name: "b"}, Catalog: models,
		Settings: template.DefaultSettings(),
	}
	return b
}

// strict refuses keys and prefixes of more than 1024 bytes, as S3 does.
type strict struct{ *s3test.Bucket }

func (b strict) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, opts ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	if len(aws.ToString(in.Prefix)) > 1024 || len(aws.ToString(in.StartAfter)) > 1024 {
		return nil, s3test.Error(http.StatusBadRequest, "KeyTooLongError")
	}
	return b.Bucket.ListObjectsV2(ctx, in, opts...)
}

func (b strict) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	if len(*in.Key) > 1024 {
		return nil, s3test.Error(http.StatusBadRequest, "KeyTooLongError")
	}
	return b.Bucket.HeadObject(ctx, in, opts...)
}

// step drops files ("ads/talk.mp4" or "ads/preset.json = {}") and deletes files
// ("- ads/talk.mp4"). If a step has no content, the file gets a content that matches the
// file's suffix. step returns the key of the last file.
func (b *inbox) step(t testing.TB, steps ...string) (key string) {
	t.Helper()
	for _, step := range steps {
		b.now = b.now.Add(time.Minute)
		if name, ok := strings.CutPrefix(step, "- "); ok {
			key = "inbox/" + name
			b.Remove(key)
			continue
		}
		name, content, ok := strings.Cut(step, " = ")
		if !ok {
			content = string(sample(t, name))
		}
		key = "inbox/" + name
		b.Set(key, []byte(content))
	}
	return key
}

// samples are files of media/testdata: at least one for each kind and format, except .mp4, .wav
// and .png (see sample).
var samples = []string{
	"pcm.mov", "video-only.m4v", "audio-only.m4a", "cbr.mp3", "small.aac", "small.opus", "small.ogg", "small.flac",
	"small.webm", "small.mkv", "small.avi", "picture.jpg", "lossy.webp",
}

// sample returns a content that matches a file's suffix, or a text if the suffix is unknown.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	kind, accepted := media.KindOf(name)
	if !accepted {
		return []byte("text")
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".mp4":
		return read(t, "../local/sample/clip.mp4")
	case ".wav":
		return read(t, "../local/sample/voice.wav")
	case ".png":
		return picture(t, 512, 512)
	}
	for _, file := range samples {
		body := read(t, "../media/testdata/"+file)
		_, err := media.Inspect(t.Context(), media.FromBytes(name, body))
		if sampleKind, _ := media.KindOf(file); err == nil && sampleKind == kind {
			return body
		}
	}
	t.Fatalf("no file of media/testdata has the format of %s, want one", name)
	return nil
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func picture(t testing.TB, width, height int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// voice returns a silent WAV file of 8 kHz and 8 bits.
func voice(length time.Duration) []byte {
	n := uint32(length.Seconds() * 8000)
	head := append([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, 36+n)...)
	head = append(head, "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data"...)
	head = binary.LittleEndian.AppendUint32(head, n)
	return append(head, bytes.Repeat([]byte{128}, int(n))...)
}

// row is a rule, and the findings after some steps.
type row struct {
	says string   // the rule
	do   []string // as inbox.step takes them
	want []string // as inbox.line gives them, sorted
}

func testRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.says, func(t *testing.T) {
			b := newInbox(t)
			var keys []string
			for _, s := range r.do {
				keys = append(keys, b.step(t, s))
			}
			if diff := cmp.Diff(r.want, b.lines(t, keys)); diff != "" {
				t.Errorf("findings after %q (-want +got):\n%s", r.do, diff)
			}
		})
	}
}

// lines returns a line for each finding that the keys lead to, sorted. Findings
// about the same status or answer file must be equal.
func (b *inbox) lines(t testing.TB, keys []string) []string {
	t.Helper()
	lines := map[string]string{}
	problems := map[string]string{}
	for _, f := range b.findings(t, keys...) {
		line, why := b.line(t, f), compact(t, f.Problems)
		if other, ok := lines[f.Key]; ok && (other != line || problems[f.Key] != why) {
			t.Errorf("%s has two findings, want one: %s %s and %s %s", f.Key, other, problems[f.Key], line, why)
		}
		lines[f.Key], problems[f.Key] = line, why
	}
	return slices.Sorted(maps.Values(lines))
}

func (b *inbox) findings(t testing.TB, keys ...string) []drop.Finding {
	t.Helper()
	var all []drop.Finding
	for _, key := range keys {
		subjects, err := b.Touched(t.Context(), drop.ParseKey(key))
		if err != nil {
			t.Fatalf("touched by %q: %v", key, err)
		}
		touched := len(subjects)
		for i := 0; i < len(subjects); i++ {
			s := subjects[i]
			found, err := b.Find(t.Context(), s)
			if err != nil {
				t.Fatalf("find %q: %v", s.Name, err)
			}
			if found.Own.Key != s.Key() || found.Own.Name != s.Name {
				t.Errorf("the finding of %q has the key %q, want %q", s.Name, found.Own.Key, s.Key())
			}
			if i < touched { // the Own of a match is the finding of its bundle, which all already has
				all = append(all, found.Own)
			}
			if found.Match != nil {
				if found.Match.Key != s.MatchStatusKey() {
					t.Errorf("the match of %q has a finding with the key %q, want %q", s.Name, found.Match.Key, s.MatchStatusKey())
				}
				all = append(all, *found.Match)
			}
			subjects = append(subjects, throughQueue(t, found.Matches)...)
		}
	}
	return all
}

// throughQueue returns subjects as a message of the queue carries them.
func throughQueue(t testing.TB, subjects []drop.Subject) []drop.Subject {
	t.Helper()
	var read []drop.Subject
	if err := json.Unmarshal([]byte(compact(t, subjects)), &read); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read, subjects) {
		t.Errorf("after the queue, the subjects are %+v, want %+v", read, subjects)
	}
	return read
}

// line describes a finding: "ads/talk: job of pro, video_url=ads/talk.mp4,
// audio_url=ads/talk.wav" or "ads/talk: waiting, waiting_for_audio".
func (b *inbox) line(t testing.TB, f drop.Finding) string {
	t.Helper()
	words := []string{string(f.State)}
	problems := f.Problems
	if f.Job != nil {
		ready, rejecting, err := b.Prepare(t.Context(), f.Job)
		if err != nil {
			t.Fatalf("prepare %q: %v", f.Name, err)
		}
		short := map[string]string{pro: "pro", react: "react", avatar: "avatar", horse: "horse"}[ready.Model]
		words, problems = []string{"job of " + short}, rejecting
		for _, used := range ready.Media {
			words = append(words, used.Property+"="+strings.TrimPrefix(used.File.Key, "inbox/")+used.URL)
		}
		for _, name := range slices.Sorted(maps.Keys(ready.Input)) {
			words = append(words, fmt.Sprintf("%s=%v", name, ready.Input[name]))
		}
		if problems != nil {
			words = []string{"rejected"}
		}
	}
	for _, p := range problems {
		words = append(words, string(p.Code))
	}
	if f.Jobs != nil {
		words = append(words, "by "+strings.Join(f.Jobs, " "))
	}
	return f.Name + ": " + strings.Join(words, ", ")
}

// only returns the one finding that a key leads to.
func (b *inbox) only(t testing.TB, key string) drop.Finding {
	t.Helper()
	found := b.findings(t, key)
	if len(found) != 1 {
		t.Fatalf("%q leads to %d findings, want 1: %+v", key, len(found), found)
	}
	return found[0]
}

// prepared returns what the job of a key would send, or the problems of the job.
func (b *inbox) prepared(t testing.TB, key string) (drop.Prepared, []problem.Problem) {
	t.Helper()
	found := b.findings(t, key)
	f := found[len(found)-1] // for a match, the finding of its bundle comes first
	if f.Job == nil {
		return drop.Prepared{}, f.Problems
	}
	ready, problems, err := b.Prepare(t.Context(), f.Job)
	if err != nil {
		t.Fatal(err)
	}
	return ready, problems
}

func codes(problems []problem.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, string(p.Code))
	}
	return all
}

func compact(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// takes returns the take of each job that the keys lead to, by name.
func (b *inbox) takes(t testing.TB, keys ...string) map[string]string {
	t.Helper()
	takes := map[string]string{}
	for _, f := range b.findings(t, keys...) {
		if f.Job != nil {
			takes[f.Name] = f.Job.Take
		}
	}
	return takes
}
