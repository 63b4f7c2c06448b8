package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/list"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const (
	// mediaFolder holds the media of the bundles, beside the bundles that name them. Its
	// name begins with a dot, so that the media form no jobs by themselves. Each content has a
	// folder of its own below it: a changed medium gets another key, so job.json changes too.
	mediaFolder = ".media/"

	// maxList bounds a list, in bytes.
	maxList = 64 << 20
)

// bundler adds bundles to a plan: one for each row of a list, and one for each pair that
// gets a model or options.
type bundler struct {
	*plan
	defaults list.Defaults
	media    map[string]*medium // by path
}

// medium is a file of this machine that bundles use.
type medium struct {
	*localFile        // without a key, which depends on the bundle's folder
	base       string // the name of the file
	sum        client.Sum
	info       media.Info
	problem    *problem.Problem // why the file cannot be used; nil if it can
}

// addList adds the rows of a list, each as the bundle inbox/<list>/<name>.job/.
func (b *bundler) addList(ctx context.Context, folder, file string) error {
	text, err := readList(file)
	if err != nil {
		return err
	}
	base := filepath.Base(file)
	name := norm.NFC.String(strings.TrimSuffix(base, filepath.Ext(base)))
	folder += name + "/"
	if k := drop.ParseKey(folder + "a.mp4"); k.Role != drop.Visual || name == "" {
		return fmt.Errorf("the jobs of %s are dropped into a folder with its name; rename the list so that its name does not begin with a dot, end in .job or have characters that cannot be typed", file)
	}
	for key, row := range b.rows {
		if strings.HasPrefix(key, folder) {
			return fmt.Errorf("the jobs of %s and of %s would be dropped into one folder, %s; rename the list", row.list, file, name)
		}
	}
	rows, problems := list.Read(file, text, b.defaults)
	b.lists[file] = len(rows)
	return b.addRows(ctx, file, folder, filepath.Dir(file), rows, problems)
}

// readList reads a list, which has at most maxList bytes.
func readList(file string) ([]byte, error) {
	f, info, err := openFollowing(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file; check its name and folder", file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > maxList {
		return nil, fmt.Errorf("%s has %s; a list has at most %s. Divide it", file, bytesOf(info.Size()), bytesOf(maxList))
	}
	return io.ReadAll(f)
}

// bundlePairs turns the pairs among the files into bundles with the model and the
// options of the command line.
func (b *bundler) bundlePairs(ctx context.Context) error {
	resolver := b.resolver
	resolver.Files = b.files.checkable()
	type pair struct {
		folder   string
		row      list.Row
		problems []list.Problem
	}
	var pairs []pair
	used := map[string]bool{}
	err := check.Each(ctx, &resolver, b.files.keys(), func(key string, f drop.Finding) error {
		if _, isBundle := f.Job.Manifest(); isBundle {
			return &client.UsageError{Reason: fmt.Sprintf("--model and --set are for pairs and lists; %s has its own job.json: set the model and the options there", f.Name)}
		}
		if f.State == ledger.Rejected {
			b.reject(key, f.Name, f.Problems)
			return nil
		}
		files := map[string]string{}
		paths := map[string]string{} // by file name
		for _, file := range f.Files() {
			kind, _ := media.KindOf(file.Key)
			base, at := strings.TrimSpace(path.Base(file.Key)), b.files.byKey[file.Key].named
			files[string(kind)], paths[base] = base, at
			used[file.Key] = true
		}
		if len(files) == 0 {
			return nil
		}
		folder, name := path.Split(f.Name)
		row, problems := b.defaults.Pair(name, files)
		for property, base := range row.Files {
			row.Files[property] = paths[base]
		}
		pairs = append(pairs, pair{ledger.InboxPrefix + folder, row, problems})
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range b.files.keys() {
		if role := drop.ParseKey(key).Role; !used[key] && role != drop.Visual && role != drop.Audio {
			return &client.UsageError{Reason: fmt.Sprintf("--model and --set are for pairs and lists, and %s is neither", check.File(key))}
		}
		delete(b.files.byKey, key)
	}
	for _, p := range pairs {
		if err := b.addRows(ctx, p.row.Name, p.folder, "", []list.Row{p.row}, p.problems); err != nil {
			return err
		}
	}
	return nil
}

// addRows adds each row as a bundle in a folder. The rows name their media by absolute
// paths, or by paths from dir. It reports the given problems and those of the media, and
// leaves out the rows that have any.
func (b *bundler) addRows(ctx context.Context, file, folder, dir string, rows []list.Row, problems []list.Problem) error {
	bad := map[int]bool{} // by the row's number
	report := func(p list.Problem) {
		bad[p.Row] = true
		b.rejectRow(file, p)
	}
	for _, p := range problems {
		report(p)
	}
	if err := b.readMedia(ctx, dir, rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Model == nil || row.Name == "" {
			continue // reported already
		}
		for _, property := range slices.Sorted(maps.Keys(row.Files)) {
			m := b.media[row.Files[property]]
			if m.problem != nil {
				report(row.Problem(property, m.problem.Reason, m.problem.RemedyFor(row.Name)))
				continue
			}
			broken, _ := row.Model.CheckMedia(property, m.info)
			for _, p := range broken {
				report(row.Problem(property, p.Reason, p.RemedyFor(row.Name)))
			}
		}
		if bad[row.Number] {
			continue
		}
		if err := b.addBundle(file, folder, row); err != nil {
			return err
		}
	}
	return nil
}

// readsAtOnce is how many media of a list are read at the same time.
const readsAtOnce = 4

// readMedia reads the media that rows name, unless they were read before. It joins dir to
// each relative path in the rows.
func (b *bundler) readMedia(ctx context.Context, dir string, rows []list.Row) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, row := range rows {
		for property, at := range row.Files {
			if dir != "" && !filepath.IsAbs(at) {
				at = filepath.Join(dir, at)
			}
			row.Files[property] = at
			if b.media[at] == nil {
				m := &medium{base: filepath.Base(at)}
				b.media[at] = m
				group.Go(func() error { return m.read(ctx, at) })
			}
		}
	}
	return group.Wait()
}

// addBundle adds the job.json and the media of a row.
func (b *bundler) addBundle(file, folder string, row list.Row) error {
	input := row.Options
	var warnings []string
	if _, audio, ok := row.Pair(); ok {
		info := media.Info{Name: "the audio"} // if the audio is an address
		if m := b.media[row.Files[audio]]; m != nil {
			info = m.info
		}
		input, warnings = row.Model.PairInput(row.Options, info)
	}
	input = maps.Clone(input)
	for property, link := range row.Links {
		input[property] = link
	}
	for property, at := range row.Files {
		m := b.media[at]
		base := strings.ReplaceAll(m.base, "*", "-") // in job.json a * would be a wildcard
		key := folder + mediaFolder + hex.EncodeToString(m.sum.SHA256[:6]) + "/" + base
		if b.uploads[key] == nil {
			file := *m.localFile
			file.Key = key
			b.files.byKey[key], b.uploads[key] = &file, &client.Upload{Key: key, Open: file.open, Sum: m.sum}
		}
		input[property] = "/" + key
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(map[string]any{"model": row.Model.ID, "input": input}); err != nil {
		return err
	}
	key := folder + row.Name + ".job/job.json"
	b.files.byKey[key], b.rows[key] = newText(key, text.Bytes()), plannedRow{row, file, warnings}
	return nil
}

// read reads the file of a medium, and sets the medium's info and sum, or its problem.
func (m *medium) read(ctx context.Context, at string) error {
	file, info, err := openFollowing(at)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("there is no file " + at)
		}
		m.problem = &problem.Problem{Reason: err.Error(), Remedy: "Name a file of this computer, as a path from the folder of the list."}
		if strings.Contains(at, `\`) {
			m.problem.Remedy = "Write the path with / in place of each backslash."
		}
		return nil
	}
	defer file.Close()
	m.localFile = newLocalFile("", file.Name(), info)
	m.info, err = media.Inspect(ctx, media.Source{
		Name: m.base, Size: info.Size(),
		ReadRange: func(_ context.Context, off, n int64) ([]byte, error) {
			return io.ReadAll(io.NewSectionReader(file, off, n))
		},
	})
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		m.problem = p
		return nil
	}
	if err != nil {
		return err
	}
	m.sum, err = client.SumOf(ctx, m.base, file, info.Size())
	return err
}
