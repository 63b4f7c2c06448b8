package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

const (
	// compareLength adds these two tolerances to the record's ExpectedWithin.
	lengthTolerance = 100 * time.Millisecond // codecs pad the sound
	toleratedFrames = 2                      // models make whole frames

	// usualFrame is assumed if the length of a frame is not known.
	usualFrame = 40 * time.Millisecond

	// soundTolerance is how much compareSound tolerates. It is larger than lengthTolerance,
	// because many files do not say how much padding their sound has.
	soundTolerance = 500 * time.Millisecond

	// A sound counts as silent if its coded frames have fewer than silentFrame bytes on
	// average, and each has at most silentPeak bytes. Encoders need 3 to 6 bytes for a frame of
	// silence, and 15 or more for a frame of speech. The first frame may name the encoder in about
	// 20 more bytes. A few words in a long silence have frames of more than 100 bytes.
	silentFrame = 10
	silentPeak  = 50

	// An output counts as smaller if one of its sides is at least smallerBy pixels shorter
	// than the same side of the input. A codec may cut each side to a multiple of 16 pixels, and
	// so remove at most 15.
	smallerBy = 16

	// verdictTries is how often inspectOutput tries to read an output. verdictPause is the
	// pause before the second try; the next pause is twice as long.
	verdictTries = 3
	verdictPause = 2 * time.Second
)

// inspectOutput reads the headers of an archived output. It returns the output's entry in
// the record, with the verdict, and what is unusual about the file. It does not fail,
// because the job is paid for: a doubtful output is kept, and an output that cannot be read
// gets the verdict unchecked.
func (h *Handler) inspectOutput(ctx context.Context, rec ledger.Record, object transfer.Object) (ledger.Output, []string) {
	output := ledger.Output{Key: object.Key, Bytes: object.Bytes, SHA256: object.SHA256, Type: object.ContentType}
	var info headers
	var err error
	for try := range verdictTries {
		if try > 0 && h.Sleep(ctx, verdictPause<<(try-1)) != nil {
			break
		}
		if info, err = h.readHeaders(ctx, object); err == nil {
			break
		}
		slog.WarnContext(ctx, "output not read", "name", rec.Name, "take", rec.Take, "key", object.Key, "err", err)
	}
	output.Width, output.Height, output.Codecs = info.Width, info.Height, info.Codecs()
	output.DurationSeconds = info.Length().D.Seconds()
	verdict := &ledger.Verdict{State: ledger.VerdictUnchecked}
	output.Verdict = verdict
	if err != nil {
		return output, nil
	}
	if verdict.Doubts = doubtsAbout(info, rec, h.hasVoice(rec)); verdict.Doubts != nil {
		verdict.State = ledger.VerdictDoubtful
	} else if !info.Unread {
		verdict.State = ledger.VerdictOK
	}
	return output, info.Warnings
}

// headers is what the headers of an output say.
type headers struct {
	media.Info
	wrong *problem.Problem // why the output cannot be played, or nil
	etag  string           // of the output
}

// readHeaders reads the headers of an output. The error is nil or an error of S3: a problem of
// the file is returned as headers.wrong.
func (h *Handler) readHeaders(ctx context.Context, object transfer.Object) (headers, error) {
	info, err := media.Inspect(ctx, media.Source{
		Name: path.Base(object.Key), Size: object.Bytes,
		ReadRange: func(ctx context.Context, off, n int64) ([]byte, error) {
			return h.Ledger.Bucket.ReadRange(ctx, bucket.File{Key: object.Key, ETag: object.ETag, Size: object.Bytes}, off, n)
		},
	})
	wrong, ok := errors.AsType[*problem.Problem](err)
	if ok {
		err = nil
	}
	return headers{info, wrong, object.ETag}, err
}

// doubtsAbout compares an output with what the job was expected to make. hasVoice says whether the
// job has an audio input.
func doubtsAbout(info headers, rec ledger.Record, hasVoice bool) (doubts []ledger.Doubt) {
	doubt := func(code ledger.DoubtCode, format string, args ...any) {
		doubts = append(doubts, ledger.Doubt{Code: code, Reason: "the output " + info.Name + " " + fmt.Sprintf(format, args...)})
	}
	if info.Kind != media.Video {
		what := "is not a video"
		if info.Kind != "" {
			what = "is not a video, but " + info.Kind.Noun()
		}
		doubt(ledger.UnexpectedType, "%s", what)
		return doubts
	}
	if info.wrong != nil {
		return append(doubts, ledger.Doubt{Code: ledger.NotPlayable, Reason: "the output cannot be played: " + info.wrong.Reason})
	}
	if info.Unread {
		return nil
	}
	compareLength(info.Info, rec, doubt)
	if info.Audio != nil && doubts == nil { // one doubt about the length is enough
		compareSound(info.Length(), info.Audio.Length, rec, doubt)
	}
	if hasVoice {
		switch sound := info.Audio; {
		case sound == nil:
			doubt(ledger.NoSound, "has no sound")
		case (sound.Codec == "aac" || sound.Codec == "opus") && sound.Samples > 0 && sound.Bytes > 0 && sound.Bytes < silentFrame*sound.Samples && sound.Largest <= silentPeak:
			doubt(ledger.SilentSound, "is silent: its sound has on average %.1f bytes per coded frame", float64(sound.Bytes)/float64(sound.Samples))
		}
	}
	for _, in := range rec.Inputs {
		file := path.Base(in.Key)
		if kind, _ := media.KindOf(file); kind != media.Video {
			continue
		}
		if info.Width > 0 && (in.Width-info.Width >= smallerBy || in.Height-info.Height >= smallerBy) {
			doubt(ledger.SmallerPicture, "has %d × %d pixels; the input %s has %d × %d", info.Width, info.Height, file, in.Width, in.Height)
		}
		// The ETag of a large file depends on how it was uploaded, so a copy may have another ETag,
		// but the same hash.
		copied := in.ETag == info.etag && in.Bytes == info.Bytes
		if copied || in.PictureHash != "" && info.Video.Hash == in.PictureHash {
			doubt(ledger.PictureUnchanged, "has the same frames as the input %s: nothing was lip-synced", file)
		}
	}
	return doubts
}

// compareLength adds a doubt if the length of an output differs from the expected length by more
// than is tolerated.
func compareLength(info media.Info, rec ledger.Record, doubt func(code ledger.DoubtCode, format string, args ...any)) {
	length := info.Length()
	if rec.ExpectedSeconds == 0 || !length.Exact {
		return
	}
	frame := cmp.Or(info.Video.Frame, usualFrame)
	tolerated := seconds(rec.ExpectedWithin) + toleratedFrames*frame + lengthTolerance
	expected := seconds(rec.ExpectedSeconds)
	over := length.D - expected
	code, how := ledger.OutputLong, "longer"
	if over < 0 {
		code, how = ledger.OutputShort, "shorter"
	}
	if over.Abs() > tolerated {
		doubt(code, "is %s %s than expected: it is %s long, not %s", problem.Length(over.Abs()), how, problem.Length(length.D), problem.Length(expected))
	}
}

// compareSound adds a doubt if the sound of an output ends long after the picture, or if it ends
// long before the picture although the voice is longer.
func compareSound(picture, sound media.Length, rec ledger.Record, doubt func(code ledger.DoubtCode, format string, args ...any)) {
	if !picture.Exact || !sound.Exact {
		return
	}
	if sound.D-picture.D >= soundTolerance {
		doubt(ledger.OutputLong, "has %s of sound, but only %s of pictures", problem.Length(sound.D), problem.Length(picture.D))
	}
	for _, in := range rec.Inputs {
		voice := seconds(in.DurationSeconds)
		if kind, _ := media.KindOf(in.Key); kind == media.Audio && min(voice, picture.D)-sound.D >= soundTolerance {
			doubt(ledger.OutputShort, "has only %s of sound; the voice %s is %s long", problem.Length(sound.D), path.Base(in.Key), problem.Length(voice))
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s*1000)) * time.Millisecond }

// hasVoice reports whether the job has an audio input. It decides by the properties of the
// model, because an input may be a URL without a suffix.
func (h *Handler) hasVoice(rec ledger.Record) bool {
	model, known := h.Catalog.Model(rec.Model)
	return known && slices.ContainsFunc(model.MediaProperties(), func(p catalog.MediaProperty) bool {
		return p.Kind == media.Audio && slices.ContainsFunc(rec.Inputs, func(in ledger.Input) bool { return in.Property == p.Name })
	})
}
