package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// jobView is what the page shows about one job.
type jobView struct {
	Key    string        `json:"key"`
	Name   string        `json:"name"`
	Status ledger.Status `json:"status"`

	// Takes are the newest takes, the newest first.
	Takes []takeSummary `json:"takes,omitempty"`

	// Unreadable says which records of takes cannot be read. These takes are not among Takes.
	Unreadable string `json:"unreadable,omitempty"`

	// Take is the take that the page asked for, or else the take of the status. It is nil
	// if that take is not among Takes.
	Take *takeView `json:"take,omitempty"`

	// Newer reports that the status is about a newer drop than the newest take. It is false if
	// Takes is empty.
	Newer bool `json:"newer,omitempty"`

	// URLSeconds is how long after this response the page replaces the presigned URLs of Media.
	URLSeconds float64 `json:"urlSeconds"`

	Media    []medium          `json:"media,omitempty"`
	Commands map[string]string `json:"commands"`
	Lacks    missingRights     `json:"lacks"`
}

type takeSummary struct {
	Take   string          `json:"take"`
	State  ledger.State    `json:"state"`
	Review client.Decision `json:"review,omitempty"`
}

type takeView struct {
	ledger.Status
	Options map[string]any `json:"options,omitempty"` // as texts, because JavaScript rounds large numbers
	Times   ledger.Times   `json:"times"`
	Within  float64        `json:"expectedWithinSeconds,omitempty"`
	Review  *reviewView    `json:"review,omitempty"`
	Dropped time.Time      `json:"dropped"` // LastModified of the file that the button "Drop again" copies
}

type reviewView struct {
	client.Review
	ETag string `json:"etag"`
}

// medium is an input or an output.
type medium struct {
	Label    string          `json:"label"`
	Role     string          `json:"role"` // input or output
	Kind     string          `json:"kind"` // video, audio, image or other
	Name     string          `json:"name"`
	Show     string          `json:"show,omitempty"`     // presigned URL
	Download string          `json:"download,omitempty"` // presigned URL
	WhyNoURL string          `json:"whyNoUrl,omitempty"`
	Sound    bool            `json:"sound"` // the file may have sound
	Verdict  *ledger.Verdict `json:"verdict,omitempty"`
	ledger.Input
}

// mostTakes is how many takes of a name the page shows.
const mostTakes = 50

// validName returns an error for a text that cannot be the path of a job, a file or a folder
// below inbox/.
func validName(name string) error {
	if strings.Contains(name, "\x00") || slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }) {
		return &requestError{http.StatusBadRequest, fmt.Sprintf("%q is not the name of a job", name)}
	}
	return nil
}

// job returns the view of a job or, if the key begins with a slash, of an answer file.
func (s *Server) job(r *http.Request) (any, error) {
	ctx, key, wanted := r.Context(), r.FormValue("key"), r.FormValue("take")
	name, isFile := strings.CutPrefix(key, "/")
	if err := validName(name); err != nil {
		return nil, err
	}
	statusKey := ledger.StatusKey(name)
	if isFile {
		statusKey = ledger.AnswerPrefix + name + ".json"
	}
	posted, err := s.client.Ledger.Posted(ctx, statusKey)
	if err != nil {
		return nil, s.client.Explain("read the status of "+name, statusKey, err)
	}
	if !posted.Exists() && isFile {
		return nil, &requestError{http.StatusNotFound, "there is no answer file for " + name}
	}
	if !posted.Exists() {
		return nil, &requestError{http.StatusNotFound, "there is no job named " + name}
	}
	if isFile && validName(posted.Name) == nil {
		name = posted.Name // the key of an answer file may have a shortened name
	}
	view := &jobView{Key: key, Name: name, Status: s.client.ReachableLinks(posted.Status), Commands: map[string]string{}, Lacks: s.missingRightsFor(ctx, name), URLSeconds: s.usableFor(ctx).Seconds()}
	if isFile {
		view.Media = s.presignAll(ctx, []medium{droppedMedium(bucket.File{Key: ledger.InboxPrefix + name})})
		return view, nil
	}
	takes, err := s.client.Ledger.RecentTakes(ctx, name, time.Time{}, mostTakes)
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable {
		view.Unreadable = err.Error()
	} else if err != nil {
		return nil, s.client.Explain("read the takes of "+name, ledger.RecordPrefix+name+"/*", err)
	}
	slices.Reverse(takes)
	// A record is written before its status, so the status may still be about an older drop.
	if len(takes) > 0 && posted.Order != "" && posted.Order < ledger.OrderOf(takes[0].Take, takes[0].Times.Claimed) {
		posted.Status = s.client.Ledger.TakeStatus(takes[0])
		view.Status = s.client.ReachableLinks(posted.Status)
	}
	for _, rec := range takes {
		view.Takes = append(view.Takes, takeSummary{rec.Take, rec.State, s.feed.review(name, rec.Take)})
	}
	if wanted == "" {
		wanted = posted.Take
	}
	view.Newer = len(takes) > 0 && posted.Take != takes[0].Take
	shown := slices.IndexFunc(takes, func(rec ledger.Record) bool { return rec.Take == wanted })
	s.addCommands(view, wanted)
	if shown < 0 {
		view.Media, err = s.droppedMedia(ctx, name)
		return view, err
	}
	return view, s.addTake(ctx, view, takes[shown])
}

func (s *Server) addTake(ctx context.Context, view *jobView, rec ledger.Record) error {
	for name, value := range rec.Options {
		if _, isText := value.(string); !isText {
			rec.Options[name] = strings.TrimSpace(string(bucket.JSON(value, "")))
		}
	}
	view.Take = &takeView{
		Status: s.client.ReachableLinks(s.client.Ledger.TakeStatus(rec)), Options: rec.Options, Times: rec.Times, Within: rec.ExpectedWithin,
	}
	if rec.Take == view.Status.Take { // the status may have warnings that the record lacks
		view.Take.Status = view.Status
	}
	review, etag, err := s.client.ReadReview(ctx, rec.Name, rec.Take)
	if err != nil {
		return err
	}
	if etag != "" {
		view.Take.Review = &reviewView{review, etag}
	}
	if file, err := s.client.Bucket.Head(ctx, fileToDropAgain(rec)); err == nil {
		view.Take.Dropped = file.LastModified
	}
	view.Media = s.presignAll(ctx, mediaOf(rec))
	return nil
}

// mediaOf returns the inputs and the outputs of a take. It leaves out a bundle's job.json.
func mediaOf(rec ledger.Record) []medium {
	var all []medium
	for _, in := range rec.Inputs {
		if in.Property == "" {
			continue
		}
		m := medium{Role: "input", Name: path.Base(in.Key), Input: in}
		m.setKind(kindOf(in.Key))
		if in.URL != "" {
			m.Name, m.WhyNoURL = in.URL, "lipdrop does not fetch a URL that job.json gives."
		}
		all = append(all, m)
	}
	for _, out := range rec.Outputs {
		m := medium{Role: "output", Name: path.Base(out.Key), Verdict: out.Verdict, Input: ledger.Input{
			Key: out.Key, Bytes: out.Bytes, DurationSeconds: out.DurationSeconds, Width: out.Width, Height: out.Height, Codecs: out.Codecs,
		}}
		kind, _, _ := strings.Cut(out.Type, "/")
		if kind != "video" && kind != "audio" && kind != "image" {
			kind = kindOf(out.Key)
		}
		m.setKind(kind)
		all = append(all, m)
	}
	return all
}

// kindOf returns the kind of a file by its suffix.
func kindOf(name string) string {
	if kind, ok := media.KindOf(name); ok {
		return string(kind)
	}
	return "other"
}

func (m *medium) setKind(kind string) {
	m.Kind = kind
	m.Sound = kind == "audio" || kind == "video" && (len(m.Codecs) == 0 || len(m.Codecs) > 1)
	m.Label = cmp.Or(map[string]string{"video": "Input", "image": "Image", "audio": "Voice"}[kind], "File")
	if m.Role == "output" {
		m.Label = "Output"
	}
}

// droppedMedium returns the medium of a file below inbox/.
func droppedMedium(f bucket.File) medium {
	m := medium{Role: "input", Name: path.Base(f.Key), Input: ledger.Input{Key: f.Key, Bytes: f.Size, VersionID: f.VersionID}}
	m.setKind(kindOf(f.Key))
	return m
}

// droppedMedia returns the media of a name that has no take to show. It lists only the first ten
// files whose keys begin with the name and a dot. Most files of a pair or a bundle have such keys.
func (s *Server) droppedMedia(ctx context.Context, name string) ([]medium, error) {
	const most = 10
	files, _, err := s.client.Bucket.List(ctx, ledger.InboxPrefix+name+".", most)
	if err != nil {
		return nil, s.client.Explain("list the files of "+name, ledger.InboxPrefix, err)
	}
	var all []medium
	for _, f := range files {
		if m := droppedMedium(f); m.Kind != "other" {
			all = append(all, m)
		}
	}
	return s.presignAll(ctx, all), nil
}

// presignAll sets the presigned URLs of each medium in the bucket, or WhyNoURL if the medium
// cannot be shown.
func (s *Server) presignAll(ctx context.Context, all []medium) []medium {
	for i := range all {
		m := &all[i]
		if m.URL != "" {
			continue
		}
		if m.VersionID == "" {
			f, err := s.client.Bucket.Head(ctx, m.Key)
			switch {
			case errors.Is(err, bucket.ErrNotFound):
				m.WhyNoURL = m.Name + " is no longer in the bucket."
			case err != nil:
				m.WhyNoURL = s.client.Explain("read "+m.Key, m.Key, err).Error()
			case m.Bytes != 0 && m.Bytes != f.Size, differ(m.ETag, f.ETag):
				m.WhyNoURL = m.Name + " was replaced by a later upload."
			}
			if m.WhyNoURL != "" {
				continue
			}
			m.VersionID, m.Bytes = f.VersionID, f.Size
		}
		var err error
		if m.Show, m.Download, err = s.presign(ctx, m.Key, m.VersionID); err != nil {
			m.WhyNoURL = s.client.Explain("sign the URLs of "+m.Name, "", err).Error()
		}
	}
	return all
}

// differ reports whether two ETags prove that the contents differ. The ETag of a multipart
// upload also depends on the size of the parts, so it proves nothing.
func differ(a, b string) bool {
	return a != "" && b != "" && a != b && !strings.Contains(a+b, "-")
}

// validFor is how long a presigned URL is valid, unless the credentials that sign it expire earlier.
const validFor = time.Hour

// usableFor returns how long a page uses a presigned URL: until ten minutes before its end or, if that
// is earlier, until the credentials that sign it expire.
func (s *Server) usableFor(ctx context.Context) time.Duration {
	usable := validFor - 10*time.Minute
	if signer, err := s.client.S3.Options().Credentials.Retrieve(ctx); err == nil && signer.CanExpire {
		usable = min(usable, time.Until(signer.Expires))
	}
	return usable
}

// presign returns two presigned URLs of a version of a file: one shows the file, the other
// downloads it. The URLs are secrets: nothing logs them.
func (s *Server) presign(ctx context.Context, key, version string) (show, download string, err error) {
	presigner := s3.NewPresignClient(s.client.S3, s3.WithPresignExpires(validFor))
	in := &s3.GetObjectInput{
		Bucket: &s.client.Bucket.Name, Key: &key,
		// Some programs upload files without a type.
		ResponseContentType: aws.String(media.ContentType(key)),
	}
	if version != "" {
		in.VersionId = &version
	}
	shown, err := presigner.PresignGetObject(ctx, in)
	if err != nil {
		return "", "", err
	}
	in.ResponseContentType = aws.String("application/octet-stream")
	in.ResponseContentDisposition = aws.String(mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(key)}))
	downloaded, err := presigner.PresignGetObject(ctx, in)
	if err != nil {
		return "", "", err
	}
	return shown.URL, downloaded.URL, nil
}

// presignedPrefix returns the beginning that all presigned URLs share. The
// Content-Security-Policy allows media from URLs with this beginning.
func presignedPrefix(ctx context.Context, c *client.Client) (string, error) {
	const key = "x"
	address, err := bucket.Presigner(c.S3, c.Bucket.Name, validFor)(ctx, bucket.File{Key: key})
	if err != nil {
		return "", c.Explain("sign URLs of the bucket", "", err)
	}
	u, err := url.Parse(address)
	if err != nil { // err contains the URL, which is a secret
		return "", errors.New("the URL of the bucket does not parse")
	}
	return u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, key), nil
}

// addCommands adds lipdrop show, and the commands that do what the buttons do with a take.
func (s *Server) addCommands(view *jobView, take string) {
	command := func(verb string, args ...string) string {
		words := slices.Concat([]string{"lipdrop", verb}, s.flags, args)
		for i, word := range words {
			words[i] = problem.ShellWord(word)
		}
		return strings.Join(append(words, problem.NameWord(view.Name)), " ")
	}
	view.Commands["show"] = command("show")
	shown := slices.IndexFunc(view.Takes, func(t takeSummary) bool { return t.Take == take })
	if shown < 0 {
		return
	}
	state := view.Takes[shown].State
	var flags []string
	if slices.IndexFunc(view.Takes, func(t takeSummary) bool { return t.State == state }) < shown {
		flags = []string{"--take", take} // by default, the commands choose the newest take in this state
	}
	switch {
	case !state.Ended():
		view.Commands["cancel"] = command("cancel") // cancels every take, as the button does
	case state == ledger.Failed:
		view.Commands["redrive"] = command("redrive", flags...)
	case state == ledger.Succeeded:
		view.Commands["get"] = command("get", flags...)
		view.Commands["approve"] = command("review", append([]string{"--approve"}, flags...)...)
		view.Commands["reject"] = command("review", append([]string{"--reject"}, flags...)...)
	}
}
