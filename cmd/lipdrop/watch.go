package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/fsnotify/fsnotify"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// stillFor is how long a file must not have changed before it is dropped: it
// is not still being written then.
const stillFor = time.Second

// watcher drops what appears in a folder into the bucket, and deletes from the
// bucket what disappears from the folder.
type watcher struct {
	client  bucket
	folder  string
	say     func(string)
	notify  *fsnotify.Watcher
	pending map[string]time.Time // by path: when it last changed
}

func newWatcher(client bucket, folder string, say func(string)) (*watcher, error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, err
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", folder, err)
	}
	w := &watcher{client: client, folder: folder, say: say, notify: notify, pending: map[string]time.Time{}}
	if err := w.add(folder); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *watcher) close() { _ = w.notify.Close() }

// add watches a folder and all below it, and has every file in it looked at.
func (w *watcher) add(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone again
		case err != nil:
			return err
		case entry.IsDir():
			return w.notify.Add(path)
		case entry.Type().IsRegular():
			w.pending[path] = time.Now()
		}
		return nil
	})
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-w.notify.Events:
			if !ok {
				return nil
			}
			if err := w.changed(ctx, event); err != nil {
				return err
			}
		case err, ok := <-w.notify.Errors:
			if ok {
				w.say(fmt.Sprintf("watching %s: %v", w.folder, err))
			}
		case <-tick.C:
			for path, at := range w.pending {
				if time.Since(at) < stillFor {
					continue
				}
				delete(w.pending, path)
				if err := w.drop(ctx, path); err != nil && ctx.Err() == nil {
					w.say(err.Error())
				}
			}
		}
	}
}

func (w *watcher) changed(ctx context.Context, event fsnotify.Event) error {
	switch {
	case event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename):
		delete(w.pending, event.Name)
		key := w.key(event.Name)
		if _, err := w.client.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &w.client.name, Key: &key}); err != nil && ctx.Err() == nil {
			w.say(fmt.Sprintf("delete %s: %v", key, err))
		}
	case event.Has(fsnotify.Create):
		return w.add(event.Name)
	case event.Has(fsnotify.Write):
		w.pending[event.Name] = time.Now()
	}
	return nil
}

func (w *watcher) key(path string) string {
	below, err := filepath.Rel(w.folder, path)
	if err != nil {
		below = filepath.Base(path)
	}
	return ledger.InboxPrefix + filepath.ToSlash(below)
}

// drop uploads a file, unless the bucket has it since its last change: a start
// of the stack drops nothing twice.
func (w *watcher) drop(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // gone again
	}
	key := w.key(path)
	head, err := w.client.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &w.client.name, Key: &key})
	var absent *types.NotFound
	if err != nil && !errors.As(err, &absent) {
		return fmt.Errorf("look at %s: %w", key, err)
	}
	if err == nil && aws.ToInt64(head.ContentLength) == info.Size() && !aws.ToTime(head.LastModified).Before(info.ModTime().Truncate(time.Second)) {
		return nil
	}
	if err := w.client.upload(ctx, path, key); err != nil {
		return err
	}
	w.say("dropped " + strings.TrimPrefix(key, ledger.InboxPrefix))
	return nil
}
