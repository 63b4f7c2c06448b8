package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// lookEvery is how often the watcher looks at the folder. The watcher drops a file only
	// if the file has not changed between two looks, because a program may still be
	// writing it.
	lookEvery = time.Second

	// retryEvery is how often the watcher tries again what failed.
	retryEvery = 5 * time.Second

	// droppedFrom is the metadata key of objects that a watcher uploaded. A new watcher
	// deletes an object without a file only if the object has this metadata.
	droppedFrom = "lipdrop-dropped-from"
	fromFolder  = "folder"
)

// watcher makes the bucket match a folder: it drops files that appear or change, and
// deletes the objects of files that disappear.
type watcher struct {
	bucket *bucket.Bucket
	folder string
	say    func(string)
	files  map[string]*watchedFile // by key, as of the last look
}

// watchedFile is a file of the folder, or a file that is gone but whose object may still
// be in the bucket.
type watchedFile struct {
	path string
	info fs.FileInfo // nil if it is gone or cannot be read
	err  error       // why it cannot be read
	gone bool
	seen bool // a look has found it

	done  bool      // there is nothing to do until a look finds it changed
	said  string    // the last error that was printed
	retry time.Time // when to try again after an error
}

// equals reports whether the next look found the file unchanged.
func (f *watchedFile) equals(next *watchedFile) bool {
	if f.info == nil || next.info == nil {
		return f.gone == next.gone && fmt.Sprint(f.err) == fmt.Sprint(next.err)
	}
	return os.SameFile(f.info, next.info) && f.info.Size() == next.info.Size() && f.info.ModTime().Equal(next.info.ModTime())
}

// newWatcher returns a watcher of a folder. At first, the watcher assumes that the file of
// each object below inbox/ is gone. Its first looks find the files that exist, and delete
// each object that has no file and that a watcher uploaded.
func newWatcher(ctx context.Context, b *bucket.Bucket, folder string, say func(string)) (*watcher, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	w := &watcher{bucket: b, folder: folder, say: say, files: map[string]*watchedFile{}}
	keys, err := keysBelow(ctx, b, ledger.InboxPrefix)
	for _, key := range keys {
		path := filepath.Join(folder, filepath.FromSlash(strings.TrimPrefix(key, ledger.InboxPrefix)))
		if w.key(path) == key {
			w.files[key] = &watchedFile{path: path, gone: true}
		}
	}
	return w, err
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for workflow.Sleep(ctx, lookEvery) == nil {
		w.look(ctx)
	}
}

// look makes the bucket match the files that have not changed since the last look.
func (w *watcher) look(ctx context.Context) {
	if _, err := os.Lstat(w.folder); errors.Is(err, fs.ErrNotExist) && os.MkdirAll(w.folder, 0o700) == nil {
		w.say(escapef("%s was deleted; lipdrop has created it again", w.folder))
	}
	var gone, changed []string
	found := w.find(ctx)
	for _, key := range sortedKeys(found) {
		f := w.files[key]
		if f == nil || !f.equals(found[key]) {
			continue
		}
		found[key] = f
		switch {
		case f.done || time.Now().Before(f.retry):
		case f.gone:
			gone = append(gone, key)
		default:
			changed = append(changed, key)
		}
	}
	w.files = found
	// Deletions come first: if talk.mp4 was renamed to talk.mov, the bucket must not have both,
	// because the job talk would then be rejected as ambiguous.
	for _, key := range slices.Concat(gone, changed) {
		f := found[key]
		err := f.err
		if f.gone {
			err = w.remove(ctx, key, f.seen)
		} else if err == nil {
			err = w.drop(ctx, key, f.path)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && f.gone:
			delete(w.files, key)
		case err == nil:
			f.done = true
		default:
			if err.Error() != f.said {
				w.say(escapef("%v. lipdrop tries again every %d seconds", err, int(retryEvery.Seconds())))
			}
			f.said, f.retry = err.Error(), time.Now().Add(retryEvery)
		}
	}
}

// find returns the files of the folder. It also returns the files of the last look that are no
// longer found there.
func (w *watcher) find(ctx context.Context) map[string]*watchedFile {
	found := map[string]*watchedFile{}
	walk(ctx, w.folder, func(path string, info fs.FileInfo, err error) {
		switch {
		case err == nil && info.IsDir(), errors.Is(err, fs.ErrNotExist): // ErrNotExist: deleted since its folder was read
		case err != nil && path != w.folder && drop.ParseKey(w.key(path)).Role == drop.NoDrop: // such as an editor's lock file: a link that leads nowhere, whose error is not ErrNotExist
		default:
			found[w.key(path)] = &watchedFile{path: path, info: info, err: err, seen: true}
		}
	})
	for key, f := range w.files {
		if found[key] != nil {
			continue
		}
		info, err := os.Stat(f.path)
		switch {
		case err == nil && info.IsDir(), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			found[key] = &watchedFile{path: f.path, gone: true, seen: f.seen}
		case f.gone: // the file may exist: for example, its folder cannot be read now
			found[key] = &watchedFile{path: f.path, err: fs.ErrPermission, seen: f.seen, done: true}
		default:
			found[key] = f
		}
	}
	return found
}

// key returns the key for a path in the folder.
func (w *watcher) key(path string) string {
	return ledger.InboxPrefix + filepath.ToSlash(strings.TrimPrefix(path, w.folder+string(filepath.Separator)))
}

// remove deletes the object at a key, if there is one. If no look has found a file for this
// key, another program may have uploaded the object. In that case, remove deletes the
// object only if its metadata says that a watcher uploaded it.
func (w *watcher) remove(ctx context.Context, key string, seen bool) error {
	object, err := w.bucket.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && !seen && object.Metadata[droppedFrom] != fromFolder {
		return nil
	}
	if err == nil {
		err = remove(ctx, w.bucket, key)
	}
	if err != nil {
		return plainly(err)
	}
	w.say(escapef("deleted %s", strings.TrimPrefix(key, ledger.InboxPrefix)))
	return nil
}

// drop uploads a file unless the bucket already has it: a restart of the stack must not
// drop it again.
func (w *watcher) drop(ctx context.Context, key, path string) error {
	if err := checkLocalKey(key); err != nil {
		return err
	}
	file, info, err := openFollowing(path)
	if err != nil {
		return err
	}
	defer file.Close()
	object, err := w.bucket.Head(ctx, key)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return plainly(err)
	}
	same, err := isSame(object, file, info)
	if err != nil || same {
		return err
	}
	if err := upload(ctx, w.bucket, key, file, map[string]string{droppedFrom: fromFolder}); err != nil {
		return fmt.Errorf("%s cannot be dropped: %w", file.Name(), plainly(err))
	}
	w.say(escapef("dropped %s", strings.TrimPrefix(key, ledger.InboxPrefix)))
	return nil
}

// isSame reports whether an object exists, has the content of a file, and is not older
// than the file. Comparing the times is not enough: a file that was moved over another one
// may be older than the object.
func isSame(object bucket.File, file *os.File, info fs.FileInfo) (bool, error) {
	if object.Key == "" || object.Size != info.Size() || object.LastModified.Before(info.ModTime().Truncate(time.Second)) {
		return false, nil
	}
	etag, err := hex.DecodeString(object.ETag)
	if err != nil || len(etag) != md5.Size {
		return true, nil // the ETag is not an MD5: another program uploaded the object in parts
	}
	sum := md5.New()
	if _, err := io.Copy(sum, file); err != nil {
		return false, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	return slices.Equal(sum.Sum(nil), etag), nil
}
