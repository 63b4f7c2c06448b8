package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	s3bucket "github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// A file that grows after it was found is not read, because it may be incomplete.
func TestFileThatGrows(t *testing.T) {
	lay(t, map[string]string{"talk.wav": "@voice.wav"})
	folder, err := gather(t.Context(), "inbox/", []string{"talk.wav"})
	if err != nil {
		t.Fatal(err)
	}
	upload := folder.byKey["inbox/talk.wav"]
	if err := os.Truncate("talk.wav", upload.Size+4); err != nil {
		t.Fatal(err)
	}
	_, err = upload.Open()
	if _, ok := errors.AsType[*client.ChangedError](err); !ok {
		t.Errorf("Open: %v, want a ChangedError", err)
	}
}

// The files of a folder are listed as a bucket lists them, so that a check finds what submit
// would find.
func TestFolderListsAsABucket(t *testing.T) {
	names := []string{"a.mp4", "a.wav", "a.b/c.wav", "a/b.mp4", "a/b/c.png", "a!.wav", "b.job/job.json", "é.wav"}
	files := map[string]string{}
	bucket := &s3test.Bucket{}
	for _, name := range names {
		files["drops/"+name] = name
		bucket.Set("inbox/drops/"+name, []byte(name))
	}
	lay(t, files)
	folder, err := gather(t.Context(), "inbox/", []string{"drops"})
	if err != nil {
		t.Fatal(err)
	}
	describe := func(files []drop.File, more bool, err error) string {
		var keys []string
		for _, f := range files {
			keys = append(keys, fmt.Sprintf("%s %d", f.Key, f.Size))
		}
		return fmt.Sprint(keys, more, err)
	}
	dropped := client.Files(folder.byKey)
	s3 := &s3bucket.Bucket{S3: bucket, Name: "b"}
	rapidtest.Check(t, func(rt *rapid.T) {
		key := rapid.SampledFrom(sortedKeys(folder.byKey))
		prefix := key.Draw(rt, "prefix")
		prefix = prefix[:rapid.IntRange(0, len(prefix)).Draw(rt, "its length")]
		after := rapid.OneOf(rapid.Just(""), key).Draw(rt, "after")
		limit := rapid.IntRange(1, len(names)).Draw(rt, "limit")
		if diff := cmp.Diff(describe(s3.List(t.Context(), prefix, limit)), describe(dropped.List(t.Context(), prefix, limit))); diff != "" {
			rt.Errorf("List (-of a bucket +of a folder):\n%s", diff)
		}
		files, more, err := s3.ListFolder(t.Context(), prefix, after, limit)
		have, haveMore, haveErr := dropped.ListFolder(t.Context(), prefix, after, limit)
		if diff := cmp.Diff(describe(files, more, err), describe(have, haveMore, haveErr)); diff != "" {
			rt.Errorf("ListFolder (-of a bucket +of a folder):\n%s", diff)
		}
	})
	if len(folder.byKey) != len(names) {
		t.Errorf("%d keys, want %d: %q", len(folder.byKey), len(names), sortedKeys(folder.byKey))
	}
}

// A list may name a file in another Unicode form. If the capital letters differ, the problem names the file.
func TestSpellingOfMedia(t *testing.T) {
	lay(t, map[string]string{"cafe\u0301.wav": "@voice.wav"})
	m := &medium{}
	if err := m.read(t.Context(), "caf\u00e9.wav"); err != nil || m.problem != nil || m.Upload == nil {
		t.Errorf("%v, %v; want the file to be read", err, m.problem)
	}
	if err := os.Symlink("nowhere", "\u00fcber.wav"); err != nil {
		t.Fatal(err)
	}
	m = &medium{}
	if err := m.read(t.Context(), "u\u0308ber.wav"); err != nil || m.problem == nil || strings.Contains(m.problem.Remedy, "capital letters") {
		t.Errorf("%v, %v; want the remedy of a file that cannot be read", err, m.problem)
	}
	if _, err := os.Stat("Cafe\u0301.wav"); err == nil {
		t.Skip("this file system ignores case")
	}
	m = &medium{}
	if err := m.read(t.Context(), "Caf\u00e9.wav"); err != nil || m.problem == nil || m.problem.Remedy != "Write its name as cafe\u0301.wav: capital letters count." {
		t.Errorf("%v, %v; want a remedy that names the file", err, m.problem)
	}
	if err := os.WriteFile("CAFE\u0301.wav", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	m = &medium{}
	if err := m.read(t.Context(), "caf\u00e9.wav"); err != nil || m.problem != nil {
		t.Errorf("%v, %v; want the file to be read though another one differs only in capital letters", err, m.problem)
	}
}

// If many files of a folder are left out, addFiles names only mostShown of them.
func TestManyFilesAreLeftOut(t *testing.T) {
	files := map[string]string{"ads/talk.wav": "@voice.wav"}
	for i := range 50 {
		files[fmt.Sprintf("ads/%02d.txt", i)] = "x"
	}
	lay(t, files)
	var said bytes.Buffer
	p := &plan{Drop: &client.Drop{}}
	if err := p.addFiles(t.Context(), "inbox/", []string{"ads"}, messages{&terminal{w: &said}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(said.String(), "\n"); len(lines) != mostShown+2 || lines[mostShown] != "also left out: 20 more files" || len(p.Uploads) != 1 {
		t.Errorf("%d files to upload, want 1; printed:\n%s", len(p.Uploads), &said)
	}
}

// A folder to drop into may be given with or without inbox/. Other paths are refused.
func TestInboxFolder(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "/": "", "inbox": "", "/inbox/": "",
		"ads": "inbox/ads/", "ads/": "inbox/ads/", "inbox/ads/spring": "inbox/ads/spring/", "inbox2": "inbox/inbox2/",
		".ads": "error", "ads.job": "error", "../ads": "error", "ads//spring": "error", "s3://lipdrop/inbox/ads": "error",
	} {
		var f inboxFolder
		err := f.UnmarshalText([]byte(text))
		got := string(f)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
}

// walk reports a working folder that was deleted.
func TestWalkOfDeletedFolder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	var errs []error
	walk(t.Context(), ".", func(_ string, _ fs.FileInfo, err error) { errs = append(errs, err) })
	if len(errs) != 1 || errs[0] == nil {
		t.Errorf("walk reports %v, want one error", errs)
	}
}

// Ctrl-C ends the search for files, however many files a folder has.
func TestWalkEndsWithItsContext(t *testing.T) {
	lay(t, map[string]string{"ads/a.wav": "x", "ads/b.wav": "x"})
	ctx, interrupt := context.WithCancel(t.Context())
	var visited []string
	walk(ctx, "ads", func(path string, _ fs.FileInfo, _ error) {
		visited = append(visited, path)
		interrupt()
	})
	if len(visited) != 1 {
		t.Errorf("visited %q, want only the first path", visited)
	}
	if _, err := gather(ctx, "inbox/", []string{"ads"}); !errors.Is(err, context.Canceled) {
		t.Errorf("gather returns %v, want context.Canceled", err)
	}
}

// Links to files and folders are followed. A link that cannot be followed is reported, unless it or
// a folder above it is hidden.
func TestCheckFollowsLinks(t *testing.T) {
	tests := []struct {
		name  string
		links map[string]string // by link: what the link leads to
		args  string
		code  int
		out   []string
	}{
		{name: "to files", links: map[string]string{"a.mp4": "real/talk.mp4", "a.wav": "real/talk.wav"}, args: "check a.mp4 a.wav",
			out: []string{"a: one job", "video_url = a.mp4"}},
		{name: "to a folder", links: map[string]string{"ads": "real"}, args: "check ads", out: []string{"ads/talk: one job"}},
		{name: "to a folder in a folder", links: map[string]string{"all/ads": "../real"}, args: "check all", out: []string{"all/ads/talk: one job"}},
		{name: "to a link", links: map[string]string{"b": "real", "c": "b"}, args: "check c", out: []string{"c/talk: one job"}},
		{name: "to nowhere", links: map[string]string{"real/z.mp4": "gone"}, args: "check real", code: 1,
			out: []string{"real/z.mp4 is a link that leads nowhere\n", "real/talk: one job"}},
		{name: "to itself", links: map[string]string{"real/z.mp4": "z.mp4"}, args: "check real", code: 1,
			out: []string{"real/z.mp4 is a link that leads to itself\n", "real/talk: one job"}},
		{name: "to the folder around it", links: map[string]string{"real/again": ".."}, args: "check real", code: 1,
			out: []string{"real/again is a link to a folder that contains it\n", "real/talk: one job"}},
		{name: "to nowhere, with a hidden name", links: map[string]string{"real/.#talk.mp4": "me@host.1"}, args: "check real", out: []string{"real/talk: one job"}},
		{name: "to nowhere, in a hidden folder", links: map[string]string{"real/.git/fsmonitor": "gone"}, args: "check real", out: []string{"real/talk: one job"}},
		{name: "to nowhere, given to try", links: map[string]string{"z.mp4": "gone"}, args: "try z.mp4", code: 1,
			out: []string{"nothing was dropped", "z.mp4 is a link that leads nowhere"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, map[string]string{"real/talk.mp4": "@clip.mp4", "real/talk.wav": "@voice.wav"})
			for link, to := range tt.links {
				if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o777), os.Symlink(to, link)); err != nil {
					t.Fatal(err)
				}
			}
			out, errs := command(t, tt.code, strings.Fields(tt.args)...)
			contains(t, out+errs, tt.out...)
		})
	}
}

// A link to the working folder is not followed, even if PWD is a path with links.
func TestWalkInALinkedFolder(t *testing.T) {
	lay(t, map[string]string{"real/talk.mp4": "@clip.mp4", "real/talk.wav": "@voice.wav"})
	top, err := os.Getwd()
	if err := errors.Join(err, os.Symlink(filepath.Join(top, "real"), "real/self"), os.Symlink("real", "a")); err != nil {
		t.Fatal(err)
	}
	t.Chdir("a")
	t.Setenv("PWD", filepath.Join(top, "a"))
	if out, errs := command(t, 1, "check", "."); strings.Contains(out+errs, "self/") {
		t.Errorf("want no file below self/:\n%s%s", out, errs)
	}
}

// The error for a file that cannot be opened says why.
func TestOpenErrors(t *testing.T) {
	lay(t, map[string]string{"ads/talk.mp4": "@clip.mp4"})
	if err := errors.Join(os.Symlink("loop.csv", "loop.csv"), os.Symlink("gone", "z.mp4"), os.Symlink("ads/talk.mp4", "talk.mp4")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		open       func(string) (*os.File, fs.FileInfo, error)
		path, want string
	}{
		{openFollowing, "loop.csv", "loop.csv is a link that leads to itself"},
		{openFollowing, "z.mp4", "z.mp4 is a link that leads nowhere"},
		{openFollowing, "ads", "ads is a folder"},
		{openFollowing, "none.mp4", "none.mp4: there is no such file (file does not exist)"},
		{openRegular, "talk.mp4", "talk.mp4 has become a symbolic link"},
	} {
		if _, _, err := tt.open(tt.path); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.path, err, tt.want)
		}
	}
}

// A list that is given by two paths is read once. link/../a.csv is real/a.csv, because link leads to
// real/ads. c.csv, a link to a.csv, is another list, because it has another name.
func TestSplitLists(t *testing.T) {
	lay(t, map[string]string{"a.csv": "", "real/a.csv": "", "real/ads/b.csv": "", "talk.mp4": ""})
	if err := errors.Join(os.Symlink("real/ads", "link"), os.Symlink("a.csv", "c.csv")); err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs("a.csv")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"a.csv", "./a.csv", absolute, "real/../a.csv", "c.csv", "link/../a.csv", "real/a.csv", "link/b.csv", "gone/d.csv", "talk.mp4", "real"}
	files, lists := splitLists(args)
	if diff := cmp.Diff([][]string{{"talk.mp4", "real"}, {"a.csv", "c.csv", "real/a.csv", "real/ads/b.csv", "gone/d.csv"}}, [][]string{files, lists}); diff != "" {
		t.Errorf("splitLists (-want +got):\n%s", diff)
	}
}

// The error for a list whose name cannot be the name of a folder says how to rename the list.
func TestListNames(t *testing.T) {
	lay(t, map[string]string{".csv": "", ".ads.csv": "", "ads.job.csv": "", "a\x01.csv": ""})
	for _, file := range []string{".csv", ".ads.csv", "ads.job.csv", "a\x01.csv"} {
		const want = "Rename the list. Its name must not begin with a dot, end in .job, or have characters that cannot be typed"
		if err := (&plan{}).addList(t.Context(), "inbox/", file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
}

// check reports a named pipe, and a file that it has no permission to read.
func TestCheckReportsWhatCannotBeRead(t *testing.T) {
	lay(t, map[string]string{"ads/talk.mp4": "@clip.mp4", "ads/talk.wav": "@voice.wav", "ads/closed.mp4": "@clip.mp4"})
	want := []string{"ads/talk: one job", "ads/pipe.mp4 is neither a file nor a folder\n"}
	if err := errors.Join(syscall.Mkfifo("ads/pipe.mp4", 0o600), os.Chmod("ads/closed.mp4", 0)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root can read the file
		want = append(want, "ads/closed.mp4 cannot be read: you have no permission\n")
	}
	out, errs := command(t, 1, "check", "ads")
	contains(t, out+errs, want...)
}

// If lipdrop drop is interrupted before the upload, its error says that nothing was sent.
func TestInterruptedPlan(t *testing.T) {
	lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	out := &terminal{w: new(bytes.Buffer)}
	err := (&dropCmd{Files: []string{"talk.mp4", "talk.wav"}}).Run(ctx, client.New(aws.Config{Region: "us-east-1"}, "b", ""), out, messages{out})
	if want := "interrupted; nothing was sent"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}
