package media

import (
	"fmt"
	"path"
	"strings"
)

// The codes of problems.
const (
	CodeEmptyFile    = "empty_file"
	CodeWrongContent = "wrong_content"
	CodeNoVideoTrack = "no_video_track"
	CodeNoAudioTrack = "no_audio_track"
	CodeDamagedFile  = "damaged_file"
)

// Problem is what is wrong with a file itself, as opposed to trouble with reading it.
type Problem struct {
	// Code is one of the constants of this package.
	Code string

	// Reason is a sentence that names the file.
	Reason string

	// Remedy is a sentence that says what to do about it.
	Remedy string
}

func (p *Problem) Error() string { return p.Reason }

// damage is the error of a parser about a file that breaks its form's rules. Its
// text goes on after "it is damaged:".
type damage string

func (d damage) Error() string { return string(d) }

func emptyFile(file string) error {
	return &Problem{CodeEmptyFile, file + " is empty", "upload it again, or drop another file"}
}

func noSound(file string) error {
	return &Problem{CodeEmptyFile, file + " holds no sound", "record it again, or drop another file"}
}

func damagedFile(file string, d damage) error {
	return &Problem{CodeDamagedFile,
		fmt.Sprintf("%s is damaged: %s", file, d),
		"export it again and upload it whole",
	}
}

// wrongContent is the problem of a file whose content is of a form that its suffix
// does not stand for.
func wrongContent(file string, f form) error {
	remedy := "convert it and drop the result"
	if f.suffix != "" {
		stem := strings.TrimSuffix(file, path.Ext(file))
		remedy = fmt.Sprintf("rename it to %s%s", stem, f.suffix)
	}
	return &Problem{CodeWrongContent,
		fmt.Sprintf("%s is not what its suffix says: it is %s", file, f.called),
		remedy,
	}
}

func unknownContent(file string, kind Kind, content string) error {
	list := suffixes[kind]
	return &Problem{CodeWrongContent,
		fmt.Sprintf("%s is not what its suffix says: it holds no known %s but %s", file, kind, content),
		fmt.Sprintf("drop a file that really is one of %s", strings.Join(list, " ")),
	}
}

// checkTracks returns the problem of a file that lacks the track its suffix promises.
func checkTracks(file string, info Info) error {
	stem := strings.TrimSuffix(file, path.Ext(file))
	switch {
	case info.Kind == KindVideo && !info.HasVideo && info.HasAudio:
		return &Problem{CodeNoVideoTrack,
			file + " has no video track, only sound",
			fmt.Sprintf("drop a video, or rename it to %s.m4a if it is the voice", stem),
		}
	case info.Kind == KindVideo && !info.HasVideo:
		return &Problem{CodeNoVideoTrack, file + " has no video track", "export it again with its picture"}
	case info.Kind == KindAudio && !info.HasAudio:
		return &Problem{CodeNoAudioTrack, file + " has no audio track", "export it again with its sound"}
	}
	return nil
}
