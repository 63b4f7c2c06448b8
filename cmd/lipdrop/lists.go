package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/list"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// maxList is the largest size of a list, in bytes.
const maxList = 64 << 20

// medium is a file of this machine that bundles use. The key of its Upload is the file name.
type medium struct {
	*client.Upload
	info    media.Info
	problem *problem.Problem // why the file cannot be used; nil if it can
}

// addList adds the rows of a list, each as the bundle <list>/<name>.job/ below the folder.
func (p *plan) addList(ctx context.Context, folder, file string) error {
	text, err := readList(file)
	if err != nil {
		return err
	}
	base := filepath.Base(file)
	name := norm.NFC.String(strings.TrimSuffix(base, filepath.Ext(base)))
	folder += name + "/"
	if k := drop.ParseKey(folder + "a.mp4"); k.Role != drop.Visual || name == "" {
		return fmt.Errorf("the jobs of %s are dropped into a folder with the name of the list. Rename the list. Its name must not begin with a dot, end in .job, or have characters that cannot be typed", file)
	}
	for key, row := range p.rows {
		if strings.HasPrefix(key, folder) {
			return fmt.Errorf("the jobs of %s and of %s would be dropped into one folder, %s; rename one of the lists", row.list, file, name)
		}
	}
	rows, problems := list.Read(file, text, p.defaults)
	p.rowCounts[file] = len(rows)
	return p.addRows(ctx, file, folder, rows, problems)
}

// readList reads a list. It returns an error if the list has more than maxList bytes.
func readList(file string) ([]byte, error) {
	f, info, err := openFollowing(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file; check the name and the folder", file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > maxList {
		return nil, fmt.Errorf("%s has more than %s, the limit for a list. Divide the list", file, byteSize(maxList))
	}
	return io.ReadAll(f)
}

// addRows adds each row as a bundle in a folder. It reports the given problems and the problems of
// the media, and leaves out each row that has a problem.
func (p *plan) addRows(ctx context.Context, listFile, folder string, rows []list.Row, problems []list.Problem) error {
	bad := map[int]bool{} // by the row's number
	reject := func(problem list.Problem) {
		bad[problem.Row] = true
		p.addRowProblem(listFile, problem)
	}
	for _, problem := range problems {
		reject(problem)
	}
	if err := p.readMedia(ctx, filepath.Dir(listFile), rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Model == nil || row.Name == "" {
			continue // reported already
		}
		for _, property := range slices.Sorted(maps.Keys(row.Files)) {
			m := p.media[row.Files[property]]
			if m.problem != nil {
				reject(row.Problem(property, m.problem.Reason, m.problem.RemedyFor(row.Name)))
				continue
			}
			broken, _ := row.Model.CheckMedia(property, m.info)
			for _, problem := range broken {
				reject(row.Problem(property, problem.Reason, problem.RemedyFor(row.Name)))
			}
		}
		if !bad[row.Number] {
			p.addRowBundle(listFile, folder, row)
		}
	}
	return nil
}

// readsAtOnce is how many media of a list are read at the same time.
const readsAtOnce = 4

// readMedia reads the media that rows name, unless they were read before. It joins dir to
// each relative path in the rows.
func (p *plan) readMedia(ctx context.Context, dir string, rows []list.Row) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, row := range rows {
		for property, at := range row.Files {
			if !filepath.IsAbs(at) {
				at = filepath.Join(dir, at)
			}
			row.Files[property] = at
			if p.media[at] == nil {
				m := &medium{}
				p.media[at] = m
				group.Go(func() error { return m.read(ctx, at) })
			}
		}
	}
	return group.Wait()
}

func (p *plan) addRowBundle(listFile, folder string, row list.Row) {
	input, warnings := maps.Clone(row.Options), []string(nil)
	if audio, ok := row.PairAudio(); ok {
		info := media.Info{Name: "the audio"} // if the audio is not a file of this machine
		if m := p.media[row.Files[audio]]; m != nil {
			info = m.info
		}
		input, warnings = row.Model.PairInput(row.Options, info)
	}
	for property, link := range row.Links {
		input[property] = link
	}
	files := map[string]*client.Upload{}
	for property, at := range row.Files {
		files[property] = p.media[at].Upload
	}
	manifest := p.AddBundle(folder+row.Name, row.Model.ID, input, files)
	p.rows[manifest] = plannedRow{row, listFile, warnings}
}

// read sets the upload and the info of a medium, or its problem.
func (m *medium) read(ctx context.Context, at string) error {
	file, info, err := openFollowing(at)
	near := ""
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("there is no file " + at)
		if near = otherSpelling(at); near != "" && norm.NFC.String(near) == norm.NFC.String(filepath.Base(at)) {
			file, info, err = openFollowing(filepath.Join(filepath.Dir(at), near))
			near = "" // if the file cannot be opened, its name is not the reason
		}
	}
	if err != nil {
		m.problem = &problem.Problem{Reason: err.Error(), Remedy: "Name a file of this computer that you may read, as a path from the folder of the list."}
		switch {
		case strings.Contains(at, `\`):
			m.problem.Remedy = "Write the path from the folder of the list, with / in place of each backslash."
		case near != "":
			m.problem.Remedy = fmt.Sprintf("Write its name as %s: capital letters count.", near)
		}
		return nil
	}
	defer file.Close()
	m.Upload = newUpload(filepath.Base(at), file.Name(), info)
	m.info, err = media.Inspect(ctx, media.Source{
		Name: m.Key, Size: info.Size(),
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
	m.Sum, err = client.SumOf(ctx, m.Key, file, info.Size())
	return err
}

// otherSpelling returns the name of a file in the same folder that differs from the name of the
// given file only in the Unicode form, as names from a Mac do. Without such a file, it returns a
// name that differs in capital letters, and perhaps also in the Unicode form, or "".
func otherSpelling(at string) (near string) {
	want := norm.NFC.String(filepath.Base(at))
	entries, _ := os.ReadDir(filepath.Dir(at)) // without the folder, there is no other spelling
	for _, entry := range entries {
		switch name := norm.NFC.String(entry.Name()); {
		case name == want:
			return entry.Name()
		case near == "" && strings.EqualFold(name, want):
			near = entry.Name()
		}
	}
	return near
}
