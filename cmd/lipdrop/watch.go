package main

import (
	"cmp"
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
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

const (
	// lookEvery is how often the folder is looked at.
	lookEvery = 200 * time.Millisecond

	// stillFor is how long a file must be unchanged before it is dropped, because
	// a program may still be writing it.
	stillFor = time.Second

	// retryEvery is how often the watcher tries again what failed.
	retryEvery = 5 * time.Second

	// droppedFrom is the metadata of objects that a watcher uploaded. The watcher
	// does not delete other objects, even if no file has their name.
	droppedFrom = "lipdrop-dropped-from"
	fromFolder  = "folder"
)

// watcher makes the bucket follow a folder: it drops files that appear or
// change and deletes the drops of files that disappear. It compares each path
// that may have changed with the bucket, so an event is only a hint.
type watcher struct {
	bucket *bucket.Bucket
	folder string
	say    func(string)
	notify *fsnotify.Watcher

	mu      sync.Mutex
	pending map[string]change // by path
	rescan  time.Time         // when everything is compared; zero if not planned
}

// change is a path that may have changed.
type change struct {
	due     time.Time // when to compare it with the bucket
	removed bool      // a file or folder of this path was removed
	said    string    // the last error that was printed
}

func newWatcher(b *bucket.Bucket, folder string, say func(string)) (*watcher, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", folder, err)
	}
	w := &watcher{bucket: b, folder: folder, say: say, notify: notify, pending: map[string]change{}}
	w.add(folder)
	w.rescan = time.Now()
	return w, nil
}

func (w *watcher) close() { _ = w.notify.Close() }

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	// Events are read while files are uploaded, so that few are lost.
	go w.listen(ctx)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := os.Lstat(w.folder); errors.Is(err, fs.ErrNotExist) && os.MkdirAll(w.folder, 0o700) == nil {
			w.say(escapef("%s was deleted; lipdrop has created it again", w.folder))
			w.planRescan(time.Now())
		}
		w.compareAll(ctx)
		w.compareDue(ctx)
	}
}

// listen handles events until ctx ends.
func (w *watcher) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.notify.Events:
			if !ok {
				return
			}
			w.changed(event)
		case err, ok := <-w.notify.Errors:
			switch {
			case !ok:
				return
			case !errors.Is(err, fsnotify.ErrEventOverflow):
				w.say(escapef("watching %s: %v", w.folder, err))
			}
			w.planRescan(time.Now())
		}
	}
}

func (w *watcher) changed(event fsnotify.Event) {
	switch {
	case event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename):
		for _, path := range w.notify.WatchList() {
			if path == event.Name || strings.HasPrefix(path, event.Name+string(filepath.Separator)) {
				_ = w.notify.Remove(path) // the folder was moved or deleted
			}
		}
		w.mark(event.Name, true)
	case event.Has(fsnotify.Create):
		w.add(event.Name)
	case event.Has(fsnotify.Write):
		w.mark(event.Name, false)
	}
}

// add watches a folder and all folders below it, and marks every file in them.
func (w *watcher) add(path string) {
	walk(path, func(path string, info fs.FileInfo, err error) {
		if err == nil && info.IsDir() {
			err = w.notify.Add(path)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				return // a deleted folder has nothing to drop
			}
			w.say(escapef("%s cannot be watched: %v", path, err))
			return
		}
		w.mark(path, false)
	})
}

// mark plans to compare a path with the bucket once it no longer changes.
func (w *watcher) mark(path string, removed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.pending[path]
	c.due, c.removed = time.Now().Add(stillFor), c.removed || removed
	w.pending[path] = c
}

func (w *watcher) planRescan(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rescan = at
}

// compareAll compares the whole folder with the bucket if that is due.
func (w *watcher) compareAll(ctx context.Context) {
	w.mu.Lock()
	due := !w.rescan.IsZero() && !time.Now().Before(w.rescan)
	if due {
		w.rescan = time.Time{}
	}
	w.mu.Unlock()
	if !due {
		return
	}
	w.add(w.folder)
	if err := w.markAbsent(ctx, ledger.InboxPrefix); err != nil && ctx.Err() == nil {
		w.say(escapef("%v", err))
		w.planRescan(time.Now().Add(retryEvery))
	}
}

// markAbsent marks the path of every object below a prefix that has no file.
func (w *watcher) markAbsent(ctx context.Context, prefix string) error {
	keys, err := keysBelow(ctx, w.bucket, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		path := filepath.Join(w.folder, filepath.FromSlash(strings.TrimPrefix(key, ledger.InboxPrefix)))
		if _, err := os.Lstat(path); isGone(err) && w.key(path) == key {
			w.mark(path, false)
		}
	}
	return nil
}

// isGone reports whether an error of Lstat says that the path does not exist.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// compareDue compares each marked path that no longer changes with the bucket. It
// prints each error once, and tries again later.
func (w *watcher) compareDue(ctx context.Context) {
	for _, path := range w.due() {
		w.mu.Lock()
		c := w.pending[path]
		w.mu.Unlock()
		err := w.compare(ctx, path, c.removed)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != c.said {
			w.say(escapef("%v. lipdrop tries again every %d seconds", err, int(retryEvery.Seconds())))
		}
		w.mu.Lock()
		now := w.pending[path]
		switch {
		case err != nil:
			now.said = err.Error()
			if now.due.Equal(c.due) {
				now.due = time.Now().Add(retryEvery)
			}
			w.pending[path] = now
		case now.due.Equal(c.due): // it was not marked again in the meantime
			delete(w.pending, path)
		}
		w.mu.Unlock()
	}
}

// due returns the paths to compare now. Those without a file come first: a
// file that was renamed is no longer in the bucket when its new name is
// dropped.
func (w *watcher) due() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	rank := map[string]int{}
	for path, c := range w.pending {
		if now.Before(c.due) {
			continue
		}
		rank[path] = 1
		if _, err := os.Lstat(path); isGone(err) {
			rank[path] = 0
		}
	}
	paths := sortedKeys(rank)
	slices.SortStableFunc(paths, func(a, b string) int { return cmp.Compare(rank[a], rank[b]) })
	return paths
}

// compare makes the bucket match one path.
func (w *watcher) compare(ctx context.Context, path string, removed bool) error {
	if path == w.folder {
		return nil
	}
	_, err := os.Lstat(path)
	if isGone(err) {
		return w.remove(ctx, path, removed)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir() && removed: // the path was a file or another folder before
		return errors.Join(w.removeKey(ctx, w.key(path), false), w.markAbsent(ctx, w.key(path)+"/"))
	case err == nil && info.IsDir():
		return nil
	case err != nil && strings.HasPrefix(filepath.Base(path), "."):
		return nil // such as an editor's lock file, which is a dangling link
	case err != nil:
		return inPlainWords(path, err)
	}
	return w.drop(ctx, path)
}

// key returns the key of a dropped path.
func (w *watcher) key(path string) string {
	below, err := filepath.Rel(w.folder, path)
	if err != nil {
		below = filepath.Base(path)
	}
	return ledger.InboxPrefix + filepath.ToSlash(below)
}

// remove deletes the drop of a path that no longer exists, and if it was a folder, all
// drops in it. Unless the removal was observed, it deletes only what a watcher
// uploaded: other objects may never have had a file.
func (w *watcher) remove(ctx context.Context, path string, seen bool) error {
	keys, err := keysBelow(ctx, w.bucket, w.key(path)+"/")
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range append(keys, w.key(path)) {
		errs = append(errs, w.removeKey(ctx, key, seen))
	}
	return errors.Join(errs...)
}

// removeKey deletes an object if there is one. Unless foreign is set, it
// deletes only one that a watcher uploaded.
func (w *watcher) removeKey(ctx context.Context, key string, foreign bool) error {
	object, err := w.bucket.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && !foreign && object.Metadata[droppedFrom] != fromFolder {
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

// drop uploads a file unless the bucket already has it since its last change, so that
// a restart of the stack drops nothing twice.
func (w *watcher) drop(ctx context.Context, path string) error {
	key := w.key(path)
	if err := tooLong(strings.TrimPrefix(key, ledger.InboxPrefix)); err != nil {
		return err
	}
	file, info, err := w.open(path)
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
	if err := uploadFile(ctx, w.bucket, file, key, map[string]string{droppedFrom: fromFolder}); err != nil {
		return err
	}
	w.say(escapef("dropped %s", strings.TrimPrefix(key, ledger.InboxPrefix)))
	return nil
}

// isSame reports whether an object exists and has a file's content and is not older than it. A
// file that was moved over another may be older than the object, so isSame also
// compares the contents.
func isSame(object bucket.File, file *os.File, info fs.FileInfo) (bool, error) {
	if object.Key == "" || object.Size != info.Size() || object.LastModified.Before(info.ModTime().Truncate(time.Second)) {
		return false, nil
	}
	etag, err := hex.DecodeString(object.ETag)
	if err != nil || len(etag) != md5.Size {
		return true, nil // not the MD5 of its content: another program uploaded it in parts
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

// open opens a file of the folder. It follows links out of the folder only if they
// belong to this user: a link of another user could make this user upload a file
// that only this user can read.
func (w *watcher) open(path string) (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(w.folder)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	below, err := filepath.Rel(w.folder, path)
	if err != nil {
		return nil, nil, err
	}
	file, err := root.OpenFile(below, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		return regular(file, path)
	}
	for at := path; at != w.folder; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return nil, nil, inPlainWords(path, err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode()&fs.ModeSymlink != 0 && (!ok || int(stat.Uid) != os.Geteuid()) {
			return nil, nil, fmt.Errorf("%s is a link of another user and is not followed", at)
		}
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, nil, inPlainWords(path, err)
	}
	return openRegular(target)
}
