package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Output is an archived output of a take.
type Output struct {
	ledger.Output
	Name, Take string
}

// AllTakes stands for every take of a name that has succeeded.
const AllTakes = "*"

// Archived returns the outputs of the given take. If take is empty, it returns the outputs
// of the newest take that has succeeded. If take is AllTakes, it returns the outputs of
// every take that has succeeded. If no such take has succeeded, it returns *NoJobError or
// *StateError.
func (c *Client) Archived(ctx context.Context, name, take string) ([]Output, error) {
	var takes []string
	if take == "" { // reading the status needs only one request, and the status often names the take
		st, err := c.Status(ctx, name)
		if err != nil {
			return nil, err
		}
		if st.State == ledger.Succeeded {
			takes = []string{st.Take}
		}
	}
	if takes == nil {
		records, err := c.succeededTakes(ctx, name, strings.TrimSuffix(take, AllTakes)) // "" for AllTakes
		if err != nil {
			return nil, err
		}
		if takes = takesOf(records); take != AllTakes {
			takes = takes[len(takes)-1:]
		}
	}
	var outputs []Output
	for _, take := range takes {
		key := ledger.ResultKey(name, take)
		var result ledger.Result
		if _, err := c.Bucket.GetJSON(ctx, key, ledger.MaxObject, &result); err != nil {
			return nil, c.Explain("read the result of "+name, key, err)
		}
		for _, o := range result.Outputs {
			outputs = append(outputs, Output{o, name, take})
		}
	}
	return outputs, nil
}

// DownloadOptions says where outputs are stored and under which names. A file gets its name
// only when it is complete and has the SHA-256 that result.json says. Until then, the file
// has a hidden name, and a later run fetches only the bytes that the file lacks.
type DownloadOptions struct {
	Dir string

	// TakeInName puts the take into every file name. Otherwise a file name has the take only if
	// another file, such as the video that was dropped, has the name without the take.
	TakeInName bool

	// Progress is called with the number of bytes that were added since the last call. Bytes
	// that an earlier run fetched count too. Calls may be concurrent.
	Progress func(n int64)
}

// Downloaded is a complete file, as get --json prints it.
type Downloaded struct {
	Name    string `json:"name"`
	Take    string `json:"take"`
	Key     string `json:"key"`
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
	Fetched bool   `json:"fetched"` // false if the file was here already
}

// CheckFolder returns an error if outputs cannot be stored in a folder. It makes the folder if
// it does not exist.
func CheckFolder(dir string) error {
	folder, err := openFolder(dir)
	if err != nil {
		return err
	}
	const mayWrite = 2
	if err := syscall.Access(folder.Name(), mayWrite); err != nil {
		return errors.Join(notStored(dir, err), folder.Close())
	}
	return folder.Close()
}

// openFolder opens the folder that outputs are stored in. It makes the folder if it does not
// exist.
func openFolder(dir string) (*os.Root, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, notStored(dir, err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, notStored(dir, err)
	}
	return root, nil
}

// folderError says that outputs cannot be stored in a folder.
type folderError struct {
	dir    string
	why    error
	remedy string
}

func (e *folderError) Error() string {
	return fmt.Sprintf("outputs cannot be stored in %s: %v. %s", e.dir, e.why, e.remedy)
}

func (e *folderError) Unwrap() error { return e.why }

// notStored returns a *folderError. It removes the path from an *fs.PathError, so that all
// outputs of the folder get the same text (see Download).
func notStored(dir string, why error) error {
	if at, ok := errors.AsType[*fs.PathError](why); ok {
		why = at.Err
	}
	return &folderError{dir, why, "Name another folder"}
}

// downloadsAtOnce is how many files are fetched at the same time.
const downloadsAtOnce = 6

// Download fetches outputs, several at the same time. After an error, it continues with
// the other outputs. It returns all files that are complete, and the errors. If several
// outputs have the same folderError, it returns this error once. It does not fetch an output
// that is in the folder already.
func (c *Client) Download(ctx context.Context, d DownloadOptions, outputs []Output) ([]Downloaded, error) {
	root, err := openFolder(d.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f := &fetcher{Client: c, options: d, root: root, names: map[string]bool{}}
	done := make([]Downloaded, len(outputs))
	errs := make([]error, len(outputs))
	_ = each(ctx, downloadsAtOnce, outputs, func(ctx context.Context, i int, o Output) error {
		done[i], errs[i] = f.fetch(ctx, o)
		return nil // errs has the errors
	})
	var here []Downloaded
	var left []error
	reported := map[string]bool{} // by the text of a folderError
	for i, err := range errs {
		unstored, ok := errors.AsType[*folderError](err)
		switch {
		case err == nil:
			here = append(here, done[i])
		case !ok:
			left = append(left, err)
		case !reported[unstored.Error()]:
			reported[unstored.Error()] = true
			left = append(left, unstored)
		}
	}
	return here, errors.Join(left...)
}

type fetcher struct {
	*Client
	options DownloadOptions
	root    *os.Root

	mu    sync.Mutex
	names map[string]bool // the paths that the method place returned, in lower case, because a file system may ignore case
}

// fetch stores an output as a file in the folder.
func (f *fetcher) fetch(ctx context.Context, o Output) (Downloaded, error) {
	at, present, err := f.place(o)
	if err != nil {
		return Downloaded{}, err
	}
	done := Downloaded{o.Name, o.Take, o.Key, filepath.Join(f.options.Dir, at), o.Bytes, o.SHA256, false}
	if present {
		f.options.Progress(o.Bytes)
		return done, nil
	}
	if err := f.root.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return Downloaded{}, notStored(filepath.Dir(done.Path), err)
	}
	base := filepath.Base(at)
	base = strings.ToValidUTF8(base[max(0, len(base)-200):], "") // leaves room for the suffix: many file systems accept at most 255 bytes
	partial := filepath.Join(filepath.Dir(at), fmt.Sprintf(".%s.%s.partial", base, o.SHA256[:min(12, len(o.SHA256))]))
	if err := f.complete(ctx, o, partial); err != nil {
		return Downloaded{}, fmt.Errorf("fetch %s: %w", o.Key, err)
	}
	if _, err := f.root.Lstat(at); err == nil {
		return Downloaded{}, fmt.Errorf("another program made %s during the download; move that file away, then run the command again", done.Path)
	}
	if err := f.root.Rename(partial, at); err != nil {
		return Downloaded{}, err
	}
	done.Fetched = true
	return done, nil
}

// place returns the path of an output, relative to the folder, and whether the output is there
// already.
func (f *fetcher) place(o Output) (at string, present bool, err error) {
	folder, base := path.Dir(escaped(o.Name)), escaped(path.Base(o.Key))
	ext := path.Ext(base)
	candidates := []string{
		filepath.FromSlash(path.Join(folder, base)),
		filepath.FromSlash(path.Join(folder, strings.TrimSuffix(base, ext)+"."+o.Take+ext)),
	}
	if f.options.TakeInName {
		candidates = candidates[1:]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range candidates {
		if f.names[strings.ToLower(at)] {
			continue
		}
		info, err := f.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, syscall.ENAMETOOLONG):
			return "", false, fmt.Errorf("%s has a file name that is too long for the file system of %s. Copy the output under a shorter name, for example with: aws s3 cp", o.Key, f.options.Dir)
		case err != nil:
			return "", false, notStored(filepath.Join(f.options.Dir, filepath.Dir(at)), err)
		case !info.Mode().IsRegular() || info.Size() != o.Bytes:
			continue
		default:
			if present, err = f.isOutput(at, o); err != nil {
				return "", false, err
			}
			if !present {
				continue
			}
		}
		f.names[strings.ToLower(at)] = true
		return at, present, nil
	}
	last := candidates[len(candidates)-1]
	file := filepath.Join(f.options.Dir, last)
	if f.names[strings.ToLower(last)] {
		return "", false, fmt.Errorf("%s is not fetched: %s is the file of another output. Fetch the job %s by itself, into another folder", o.Key, file, o.Name)
	}
	return "", false, fmt.Errorf("%s exists, and is not this output; move the existing file or folder away, or name another folder", file)
}

func (f *fetcher) isOutput(at string, o Output) (bool, error) {
	file, err := f.root.Open(at)
	if err != nil {
		return false, err
	}
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return hex.EncodeToString(sum.Sum(nil)) == o.SHA256, err
}

// After maxEmptyTries requests in a row that fetch no byte, a download gives up.
const maxEmptyTries = 5

// complete fetches the bytes that a partial file lacks, and checks the SHA-256 of the
// complete file.
func (f *fetcher) complete(ctx context.Context, o Output, partial string) error {
	folder := filepath.Join(f.options.Dir, filepath.Dir(partial))
	file, err := f.root.OpenFile(partial, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return notStored(folder, err)
	}
	defer file.Close()
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return errors.New("another run of lipdrop is fetching this output; wait until it has ended")
	case err != nil:
		return notStored(folder, fmt.Errorf("the file system cannot lock files: %w", err))
	}
	sum := sha256.New()
	here, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	if here > o.Bytes {
		return errors.Join(errors.New("the partial file of an earlier run was too long and was removed; run the command again"), f.root.Remove(partial))
	}
	f.options.Progress(here)
	etag := ""
	for emptyTries := 0; here < o.Bytes; {
		n, tag, err := f.appendFrom(ctx, o, file, sum, here, etag)
		here, etag = here+n, tag
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if unwritten, ok := errors.AsType[*fs.PathError](err); ok && unwritten.Path == file.Name() { // reading the AWS credentials may also return a PathError
			return &folderError{folder, unwritten.Err, "Check the disk and its free space, then run the command again to fetch the rest"}
		}
		if bucket.HTTPStatus(err) == http.StatusRequestedRangeNotSatisfiable {
			return errors.Join(fmt.Errorf("the object was changed: it has at most %d bytes, but result.json says %d. Restore the object, then run the command again", here, o.Bytes), f.root.Remove(partial))
		}
		if emptyTries++; n > 0 {
			emptyTries = 0
		}
		if err != nil && (emptyTries == maxEmptyTries || !mayPass(err) || bucket.HTTPStatus(err) == http.StatusNotFound) {
			return err
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != o.SHA256 {
		return errors.Join(fmt.Errorf("the fetched file has the SHA-256 %s, but result.json says %s; the file was removed. Run the command again. If the error stays, the object in the bucket was changed", got, o.SHA256), f.root.Remove(partial))
	}
	return file.Close()
}

// appendFrom fetches the bytes of an object that begin at an offset, and appends them to a
// file. It returns how many bytes it appended, and the object's ETag. If etag is set, the
// object must still have that ETag.
func (f *fetcher) appendFrom(ctx context.Context, o Output, file *os.File, sum hash.Hash, from int64, etag string) (int64, string, error) {
	in := &s3.GetObjectInput{Bucket: &f.Bucket.Name, Key: &o.Key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, o.Bytes-1))}
	if etag != "" {
		in.IfMatch = &etag
	}
	out, err := f.Bucket.S3.GetObject(ctx, in)
	if err != nil {
		return 0, etag, f.Explain("fetch the output of "+o.Name, o.Key, err)
	}
	defer out.Body.Close()
	n, err := io.Copy(io.MultiWriter(file, sum, progressWriter(f.options.Progress)), out.Body)
	if n == 0 && err == nil {
		err = errors.New("the response is empty. Run the command again to fetch the rest")
	}
	return n, aws.ToString(out.ETag), err
}

// progressWriter is called with the number of bytes that are written to it.
type progressWriter func(n int64)

// Write implements io.Writer.
func (w progressWriter) Write(b []byte) (int, error) {
	w(int64(len(b)))
	return len(b), nil
}

// escaped returns a path with each backslash, control character and format character as %XX,
// because file systems and terminals may interpret them.
func escaped(path string) string {
	var b strings.Builder
	for _, r := range path {
		if r != '\\' && !unicode.In(r, unicode.Cc, unicode.Cf) {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(string(r)) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
