package ui

import (
	"bytes"
	"io"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
)

// ask is a request to the page for a part of a file.
type ask struct {
	Number int   `json:"number"`
	File   int   `json:"file"` // its index in the list that the page has sent
	Offset int64 `json:"offset"`
	Length int   `json:"length"`

	part []byte // where the bytes go
	done chan error
}

// browserFile is a file that a person drops onto the page, or a file that the command has
// made, such as a job.json. The page sends parts of a dropped file when it is asked to.
type browserFile struct {
	bucket.File
	index   int    // in the list that the page has sent; -1 for a made file
	text    []byte // of a made file
	session *dropSession
}

// ReadAt implements io.ReaderAt.
func (f *browserFile) ReadAt(p []byte, off int64) (int, error) {
	if f.text != nil {
		return bytes.NewReader(f.text).ReadAt(p, off)
	}
	n := int(min(int64(len(p)), max(f.Size-off, 0)))
	for at := 0; at < n; {
		part := p[at:min(at+maxPart, n)]
		if err := f.session.read(f.index, off+int64(at), part); err != nil {
			return at, err
		}
		at += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// aheadSize is how much of a file readAhead asks for.
const aheadSize = 2 << 20

// readAhead is for a caller that reads a file from its beginning to its end in small
// pieces: it asks the page for pieces of aheadSize. It implements client.Content.
type readAhead struct {
	file *browserFile
	off  int64
	buf  []byte
}

// ReadAt implements io.ReaderAt. It is not safe for concurrent use.
func (r *readAhead) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) && off < r.file.Size {
		if off < r.off || off >= r.off+int64(len(r.buf)) {
			size := min(aheadSize, r.file.Size-off)
			if int64(cap(r.buf)) < size {
				r.buf = make([]byte, size)
			}
			r.buf, r.off = r.buf[:size], off
			if n, err := r.file.ReadAt(r.buf, off); n < len(r.buf) {
				r.buf = nil
				return done, err
			}
		}
		n := copy(p[done:], r.buf[off-r.off:])
		done, off = done+n, off+int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Close implements io.Closer.
func (r *readAhead) Close() error { return nil }

// filesOf returns the files as a check reads them.
func filesOf(files []*browserFile) *check.Dropped {
	byKey := map[string]*browserFile{}
	var list []bucket.File
	for _, f := range files {
		byKey[f.Key] = f
		list = append(list, f.File)
	}
	return check.NewDropped(list, func(key string, p []byte, off int64) (int, error) { return byKey[key].ReadAt(p, off) })
}
