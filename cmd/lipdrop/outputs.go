package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
)

// outputFolder is the folder that outputs are copied to. It overwrites only
// files that it copied there itself and that have not changed since.
type outputFolder struct {
	root   *os.Root
	path   string
	record string             // the file that holds copied
	copied map[string]fileAge // by absolute path
}

// fileAge identifies a file that has not changed.
type fileAge struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modTime"`
}

func ageOf(info fs.FileInfo) fileAge { return fileAge{info.Size(), info.ModTime().UTC()} }

// openOutputs creates a folder and checks that it is writable. The file record
// lists what was copied there.
func openOutputs(folder, record string) (*outputFolder, error) {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	o := &outputFolder{path: folder, record: record, copied: map[string]fileAge{}}
	if err := os.MkdirAll(abs, 0o777); err != nil {
		return nil, fmt.Errorf("outputs cannot be copied to %s: %w; choose another folder with --out", folder, err)
	}
	if o.root, err = os.OpenRoot(abs); err != nil {
		return nil, err
	}
	if err := o.try(); err != nil {
		o.close()
		return nil, fmt.Errorf("outputs cannot be copied to %s: %w; choose another folder with --out", folder, err)
	}
	text, err := os.ReadFile(record)
	if err == nil {
		err = json.Unmarshal(text, &o.copied)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.close()
		return nil, fmt.Errorf("%s: %w; delete it", record, err)
	}
	return o, nil
}

func (o *outputFolder) close() { _ = o.root.Close() }

// try writes and removes a file.
func (o *outputFolder) try() error {
	file, name, err := o.create(".")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), o.root.Remove(name))
}

// create creates a file with a random name in a folder.
func (o *outputFolder) create(folder string) (*os.File, string, error) {
	name := filepath.Join(folder, ".lipdrop-"+rand.Text())
	file, err := o.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	return file, name, err
}

// further matches the part of an output's file name after the job's name.
var further = regexp.MustCompile(`^(-[0-9]+)?\.(mp4|mov|webm|png|jpg|webp|bin)$`)

// refuse returns an error that names every file that an output of the named jobs
// would overwrite and that was not copied there by try.
func (o *outputFolder) refuse(jobs []string) error {
	var taken []string
	for _, job := range jobs {
		folder, base := path.Split(client.FileName(job))
		entries, err := fs.ReadDir(o.root.FS(), path.Clean(folder))
		if err != nil {
			continue // it does not exist yet
		}
		for _, entry := range entries {
			rest, ok := strings.CutPrefix(entry.Name(), base)
			at := filepath.FromSlash(folder + entry.Name())
			if ok && further.MatchString(rest) && !o.own(at) {
				taken = append(taken, filepath.Join(o.path, at))
			}
		}
	}
	if taken == nil {
		return nil
	}
	slices.Sort(taken)
	return fmt.Errorf("an output would overwrite %s, which an earlier try did not copy there; move it away, or choose another folder with --out",
		strings.Join(slices.Compact(taken), " and "))
}

// own reports whether a path below the folder is a file that was copied there
// and has not changed since.
func (o *outputFolder) own(at string) bool {
	info, err := o.root.Lstat(at)
	abs, absErr := filepath.Abs(filepath.Join(o.path, at))
	was, copied := o.copied[abs]
	return err == nil && absErr == nil && copied && info.Mode().IsRegular() && was == ageOf(info)
}

// copy copies an output of a job here and returns its path.
func (o *outputFolder) copy(ctx context.Context, b *bucket.Bucket, job, key string) (string, error) {
	at := filepath.FromSlash(path.Join(path.Dir(client.FileName(job)), client.FileName(path.Base(key))))
	body, err := b.Open(ctx, key)
	if err != nil {
		return "", plainly(err)
	}
	defer body.Close()
	if err := o.root.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return "", err
	}
	file, partial, err := o.create(filepath.Dir(at))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, body)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("%s cannot be copied: %w", key, err), o.root.Remove(partial))
	}
	here := filepath.Join(o.path, at)
	if _, err := o.root.Lstat(at); err == nil && !o.own(at) {
		return "", errors.Join(fmt.Errorf("%s appeared meanwhile; the output remains in the bucket as %s", here, key), o.root.Remove(partial))
	}
	if err := o.root.Rename(partial, at); err != nil {
		return "", errors.Join(err, o.root.Remove(partial))
	}
	return here, o.note(at)
}

// note records that a file was copied here.
func (o *outputFolder) note(at string) error {
	info, err := o.root.Lstat(at)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(filepath.Join(o.path, at))
	if err != nil {
		return err
	}
	o.copied[abs] = ageOf(info)
	text, err := json.MarshalIndent(o.copied, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.record, text, 0o600)
}
