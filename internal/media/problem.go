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

	// Reason is a clause that names the file and says what is wrong with it.
	Reason string

	// Remedy is a clause that says how to mend the file. What is to be done with
	// the mended one is the caller's to say.
	Remedy string
}

func (p *Problem) Error() string { return p.Reason }

// damage is the error of a parser about a file that breaks its form's rules. Its
// text goes on after "it is damaged:".
type damage string

func (d damage) Error() string { return string(d) }

// EmptyFile returns what is wrong with a file that has no bytes.
func EmptyFile(file string) *Problem {
	return &Problem{CodeEmptyFile, file + " is empty", "make sure that " + file + " is not empty on your computer"}
}

func noSound(file string) error {
	return &Problem{CodeEmptyFile, file + " holds no sound", "record " + file + " again"}
}

func damagedFile(file string, d damage) error {
	return &Problem{CodeDamagedFile,
		fmt.Sprintf("%s is damaged: %s", file, d),
		"export " + file + " again if it does not open on your computer",
	}
}

// wrongContent is the problem of a file whose content is of a form that its suffix
// does not stand for.
func wrongContent(file string, f form) error {
	remedy := fmt.Sprintf("convert %s to a JPEG or PNG image", file) // all forms without a suffix are images
	if f.suffix != "" {
		stem := strings.TrimSuffix(file, path.Ext(file))
		remedy = fmt.Sprintf("rename %s to %s%s", file, stem, f.suffix)
	}
	return &Problem{CodeWrongContent,
		fmt.Sprintf("%s is not what its suffix says: it is %s", file, f.called),
		remedy,
	}
}

func unknownContent(file string, kind Kind, content string) error {
	list := suffixes[kind]
	last := len(list) - 1
	return &Problem{CodeWrongContent,
		fmt.Sprintf("%s is not what its suffix says: it holds no known %s but %s", file, kind, content),
		fmt.Sprintf("export %s as a real %s or %s", file, strings.Join(list[:last], ", "), list[last]),
	}
}

// checkTracks returns the problem of a file that lacks the track its suffix promises.
func checkTracks(file string, info Info) error {
	stem := strings.TrimSuffix(file, path.Ext(file))
	switch {
	case info.Kind == KindVideo && !info.HasVideo && info.HasAudio:
		return &Problem{CodeNoVideoTrack,
			file + " has no video track, only sound",
			fmt.Sprintf("export %s again with its picture; if it is the voice, name it %s.m4a", file, stem),
		}
	case info.Kind == KindVideo && !info.HasVideo:
		return &Problem{CodeNoVideoTrack, file + " has no video track", "export " + file + " again with its picture"}
	case info.Kind == KindAudio && !info.HasAudio:
		return &Problem{CodeNoAudioTrack, file + " has no audio track", "export " + file + " again with its sound"}
	}
	return nil
}
