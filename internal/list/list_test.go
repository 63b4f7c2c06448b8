package list_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/list"
)

// read calls list.Read. If file is empty, the name of the file is l.csv.
func read(t testing.TB, file, text, model string, set map[string]string) ([]list.Row, []list.Problem) {
	t.Helper()
	if file == "" {
		file = "l.csv"
	}
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	return list.Read(file, []byte(text), list.Defaults{
		Catalog: models, Model: model, VideoModel: "sync/sync/lipsync/v2/pro", ImageModel: "community/live-avatar", Options: set,
	})
}

// describe returns a row in one line.
func describe(r list.Row) string {
	text := fmt.Sprintf("%d %s: %s", r.Number, r.Name, r.Model.ID)
	for _, values := range []map[string]string{r.Files, r.Links} {
		for _, p := range r.Model.MediaProperties() {
			if v := values[p.Name]; v != "" {
				text += " " + p.Name + "=" + v
			}
		}
	}
	options, err := json.Marshal(r.Options)
	if err != nil {
		panic(err)
	}
	return text + " " + string(options)
}

// Read reads the lists that spreadsheets and other programs write.
func TestRead(t *testing.T) {
	const pair = "2 a: sync/sync/lipsync/v2/pro video_url=a.mp4 audio_url=a.wav {}"
	tests := []struct {
		name, file, text, model string
		set                     map[string]string
		want                    []string
	}{
		{name: "plain", text: "name,video,audio\na,a.mp4,a.wav\n", want: []string{pair}},
		{name: "a byte order mark and CRLF, as Excel writes them", text: "\ufeffname,video,audio\r\na,a.mp4,a.wav\r\n", want: []string{pair}},
		{name: "semicolons, as Excel writes them in half of Europe", text: "name;video;audio\r\na;a.mp4;a.wav\r\n", want: []string{pair}},
		{name: "tabs", file: "l.tsv", text: "name\tvideo\taudio\na\ta.mp4\ta.wav", want: []string{pair}},
		{name: "a line for Excel that names the separator", text: "sep=;\r\nname;video;audio\r\na;a.mp4;a.wav\r\n", want: []string{pair}},
		{name: "CR only, as Excel for Mac writes it", text: "name,video,audio\ra,a.mp4,a.wav\r", want: []string{pair}},
		{name: "capitals and spaces in the header", text: " Name , VIDEO,Audio \na,a.mp4,a.wav\n", want: []string{pair}},
		{name: "empty lines and cells, which the spreadsheet counts", text: "\nname,video,audio,\n\n,,,\na,a.mp4,a.wav,\n,,\nb, b.mp4 ,b.wav",
			want: []string{strings.Replace(pair, "2", "5", 1), "7 b: sync/sync/lipsync/v2/pro video_url=b.mp4 audio_url=b.wav {}"}},
		{name: "a row whose last cells are missing, as Excel writes it", text: "name,video,audio,model,emotion\na,a.mp4,a.wav\n", want: []string{pair}},
		{name: "quotes, separators and line breaks in a cell", model: "community/live-avatar", text: "name,image,audio,prompt\na,a.png,a.wav,\"She says \"\"hi\"\",\nthen waves\"\nb,\"b,1.png\",b.wav,x\n",
			want: []string{`2 a: community/live-avatar image_url=a.png audio_url=a.wav {"prompt":"She says \"hi\",\nthen waves"}`, `3 b: community/live-avatar image_url=b,1.png audio_url=b.wav {"prompt":"x"}`}},
		{name: "the columns of several models", text: "name,model,video,image,audio,emotion,temperature,num_clips\na,sync/react-1,a.mp4,,a.wav,happy,0.5,\nb,,,b.png,b.wav,,,3\n",
			want: []string{`2 a: sync/react-1 video_url=a.mp4 audio_url=a.wav {"emotion":"happy","temperature":0.5}`, `3 b: community/live-avatar image_url=b.png audio_url=b.wav {"num_clips":3}`}},
		{name: "columns named after the inputs", text: "name,model,image,image_url_2,prompt,watermark\na,happyhorse/happyhorse-1.0/reference-to-video,a.png,b.png,character1 meets character2,FALSE\n",
			want: []string{`2 a: happyhorse/happyhorse-1.0/reference-to-video image_url_1=a.png image_url_2=b.png {"prompt":"character1 meets character2","watermark":false}`}},
		{name: "an https URL and a file of the bucket", text: "name,video,audio\na,https://example.com/a.mp4?key=1,/inbox/shared/a.wav\n",
			want: []string{"2 a: sync/sync/lipsync/v2/pro video_url=https://example.com/a.mp4?key=1 audio_url=/inbox/shared/a.wav {}"}},
		{name: "a model and options for rows that have none", model: "sync/react-1", set: map[string]string{"emotion": "sad", "temperature": "1"}, text: "name,video,audio,emotion\na,a.mp4,a.wav,\nb,b.mp4,b.wav,happy\n",
			want: []string{`2 a: sync/react-1 video_url=a.mp4 audio_url=a.wav {"emotion":"sad","temperature":1}`, `3 b: sync/react-1 video_url=b.mp4 audio_url=b.wav {"emotion":"happy","temperature":1}`}},
		{name: "a medium for rows that have none", model: "sync/react-1", set: map[string]string{"video_url": "/inbox/shared/v.mp4"}, text: "name,video,audio\na,,a.wav\nb,b.mp4,b.wav\n",
			want: []string{"2 a: sync/react-1 audio_url=a.wav video_url=/inbox/shared/v.mp4 {}", "3 b: sync/react-1 video_url=b.mp4 audio_url=b.wav {}"}},
		{name: "names in any script", text: "name,video,audio\ncafé 1+1,a.mp4,a.wav\n日本,a.mp4,a.wav\n",
			want: []string{"2 café 1+1: sync/sync/lipsync/v2/pro video_url=a.mp4 audio_url=a.wav {}", "3 日本: sync/sync/lipsync/v2/pro video_url=a.mp4 audio_url=a.wav {}"}},
		{name: "JSON lines", file: "l.jsonl", text: "\ufeff{\"name\": \"a\", \"video\": \"a.mp4\", \"audio\": \"a.wav\", \"model\": null}\r\n\r\n{\"name\": \"b\", \"model\": \"sync/react-1\", \"video\": \"b.mp4\", \"audio\": \"b.wav\", \"temperature\": 0.50}",
			want: []string{strings.Replace(pair, "2", "1", 1), `3 b: sync/react-1 video_url=b.mp4 audio_url=b.wav {"temperature":0.50}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows, problems := read(t, tt.file, tt.text, tt.model, tt.set)
			for _, p := range problems {
				t.Error(p)
			}
			var got []string
			for _, r := range rows {
				got = append(got, describe(r))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Each problem says what to do. If it is about a row or a column, it names this row or column.
func TestProblems(t *testing.T) {
	const header, good, modelHeader = "name,video,audio\n", "a,a.mp4,a.wav\n", "name,model,video,audio,"
	tests := []struct {
		name, file, text, model string
		set                     map[string]string
		want                    []string
	}{
		{name: "empty", text: "", want: []string{"l.csv has no rows. Add a row for each job."}},
		{name: "a header only", text: header, want: []string{"l.csv has no rows. Add a row for each job."}},
		{name: "no header", text: good + good, want: []string{"row 1: the first row names no column that a list may have. Begin the list with the names of the columns, such as name, video, audio and model."}},
		{name: "a line that names no separator", text: "sep=\r\nname,video\r\n", want: []string{"row 1: the first row names no column that a list may have. Begin the list with the names of the columns, such as name, video, audio and model."}},
		{name: "a line that names a quote as the separator", text: "sep=\"\nname,video\n", want: []string{`row 1, column A: a double quote is inside a cell that has no quotes around it. Put the whole cell in double quotes, and write "" for each quote inside it.`}},
		{name: "an unknown column", text: "name,video,audio,emtion\na,a.mp4,a.wav,happy\n",
			want: []string{`row 1, column D (emtion): there is no column "emtion" (the nearest is "emotion"). Rename it to emotion, or remove it.`}},
		{name: "an unknown column that is a URL", text: "name,video,audio,https://example.com/a?sig=s3cret\na,a.mp4,a.wav,\n",
			want: []string{`row 1, column D (https://example.com/a?…): there is no column "https://example.com/a?…". Remove the column.`}},
		{name: "a column twice", text: "name,video,audio,Audio\na,a.mp4,a.wav,b.wav\n", want: []string{"row 1, column D (audio): column C (audio) has the same name. Remove one of the two columns."}},
		{name: "no column for the names", text: "video,audio\na.mp4,a.wav\n", want: []string{
			`row 1, column "name": the column is missing. Add this column: each row needs its own name.`,
		}},
		{name: "no name", text: header + ",a.mp4,a.wav\n", want: []string{"row 2, column A (name): the row has no name. Give each row its own name: it becomes the name of the job."}},
		{name: "a name twice, composed and decomposed", text: header + "caf\u00e9,a.mp4,a.wav\n\ncafe\u0301,b.mp4,b.wav\n",
			want: []string{"row 4, column A (name): \"caf\u00e9\" is also the name of row 2. Give each row its own name."}},
		{name: "a name with a slash, one that begins with a dot and one with a tab", text: header + "de/a,a.mp4,a.wav\n.a,a.mp4,a.wav\n\"a\tb\",a.mp4,a.wav\n", want: []string{
			`row 2, column A (name): the name "de/a" has a slash. Replace the slash with a hyphen, or make a list for each folder.`,
			`row 3, column A (name): the name ".a" begins with a dot, and lipdrop ignores files with such names. Remove the dot.`,
			`row 4, column A (name): the name "a\tb" has characters that cannot be seen or typed. Remove them.`,
		}},
		{name: "no voice", text: header + "a,a.mp4,\n", want: []string{"row 2, column C (audio): an audio file is missing; sync/sync/lipsync/v2/pro requires one. Name an audio file there."}},
		{name: "no voice in the column audio_url", text: "name,video,audio_url\na,a.mp4,\n",
			want: []string{"row 2, column C (audio_url): an audio file is missing; sync/sync/lipsync/v2/pro requires one. Name an audio file there."}},
		{name: "no column for the voices", text: "name,video\na,a.mp4\n", want: []string{`row 2, column "audio": an audio file is missing; sync/sync/lipsync/v2/pro requires one. Name an audio file there.`}},
		{name: "neither a video nor an image", text: header + "a,,a.wav\n", want: []string{"row 2, column B (video): the row names no model, and neither video nor image is set. Set video or image to a file, or set model."}},
		{name: "an image for a model of videos", text: "name,video,image,audio\na,a.mp4,a.png,a.wav\n", want: []string{"row 2, column C (image): sync/sync/lipsync/v2/pro accepts no image. Remove the image from the row, or choose another model."}},
		{name: "a video twice", text: "name,video,video_url,audio\na,a.mp4,b.mp4,a.wav\n", want: []string{"row 2, column B (video): video and video_url are the same input of sync/sync/lipsync/v2/pro. Remove one of the two."}},
		{name: "media of the wrong kind", text: header + "a,a.wav,a.mp4\n", want: []string{
			"row 2, column B (video): a.wav is an audio file; sync/sync/lipsync/v2/pro accepts a video there. Name a video.",
			"row 2, column C (audio): a.mp4 is a video; sync/sync/lipsync/v2/pro accepts an audio file there. Name an audio file.",
		}},
		{name: "a suffix that no medium has", text: header + "a,a.mp4,a.txt\n", want: []string{"row 2, column C (audio): a.txt is not accepted: its suffix is not one of .wav, .mp3, .m4a, .aac, .ogg, .opus and .flac. Name an audio file."}},
		{name: "a URL without encryption", text: header + "a,http://example.com/a.mp4,a.wav\n", want: []string{
			"row 2, column B (video): the URL of the video begins with http:, but only https URLs are passed on. Name a file on this computer, or a URL that begins with https:.",
		}},
		{name: "an unknown model", text: "name,model,video,audio\na,sync/react-2,a.mp4,a.wav\n", want: []string{`row 2, column B (model): there is no model "sync/react-2" (the nearest is sync/react-1). Write sync/react-1.`}},
		{name: "a wrong value", text: modelHeader + "emotion\na,sync/react-1,a.mp4,a.wav,joyful\n", want: []string{
			`row 2, column E (emotion): emotion is "joyful"; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised. Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`,
		}},
		{name: "a number beyond its range", text: modelHeader + "temperature\na,sync/react-1,a.mp4,a.wav,5\n", want: []string{
			"row 2, column E (temperature): temperature is 5; sync/react-1 accepts a number from 0 to 1. Set temperature to a number from 0 to 1, or leave it out.",
		}},
		{name: "a decimal point in a list with semicolons", text: strings.ReplaceAll(modelHeader+"temperature\na,sync/react-1,a.mp4,a.wav,0.5\n", ",", ";"), want: nil},
		{name: "a decimal comma", text: strings.ReplaceAll(strings.ReplaceAll(modelHeader+"temperature\na,sync/react-1,a.mp4,a.wav,0.5\n", ",", ";"), ".5", ",5"),
			want: []string{"row 2, column E (temperature): temperature is 0,5, with a decimal comma. Write 0.5, with a point."}},
		{name: "numbers with separators of thousands", text: "name,image,audio,seed\na,a.png,a.wav,\"1,000\"\nb,a.png,a.wav,12.345.678\nc,a.png,a.wav,1\u202f000\n", want: []string{
			`row 2, column D (seed): seed is "1,000"; community/live-avatar accepts a whole number. Write the number without separators of thousands, and with a point before decimals.`,
			`row 3, column D (seed): seed is "12.345.678"; community/live-avatar accepts a whole number. Write the number without separators of thousands, and with a point before decimals.`,
			`row 4, column D (seed): seed is "1\u202f000"; community/live-avatar accepts a whole number. Write the number without separators of thousands, and with a point before decimals.`,
		}},
		{name: "names that are the error of a formula or a shortened number", text: header + "#NAME?,a.mp4,a.wav\n4.00638E+12,a.mp4,a.wav\n\"4,00638E+12\",a.mp4,a.wav\n", want: []string{
			"row 2, column A (name): name is #NAME?, the error of a formula. Fix the formula, then save the list again.",
			"row 3, column A (name): name is 4.00638E+12, a number whose last digits the spreadsheet left out. Format the column as a number without decimals, then save the list again.",
			"row 4, column A (name): name is 4,00638E+12, a number whose last digits the spreadsheet left out. Format the column as a number without decimals, then save the list again.",
		}},
		{name: "the error of a formula", text: modelHeader + "emotion\na,sync/react-1,a.mp4,a.wav,#REF!\n", want: []string{"row 2, column E (emotion): emotion is #REF!, the error of a formula. Fix the formula, then save the list again."}},
		{name: "a number that Excel shortened", text: "name,image,audio,seed\na,a.png,a.wav,1.23457E+11\n", want: []string{
			"row 2, column D (seed): seed is 1.23457E+11, a number whose last digits the spreadsheet left out. Format the column as a number without decimals, then save the list again.",
		}},
		{name: "an option of another model", text: modelHeader + "num_clips\na,sync/react-1,a.mp4,a.wav,3\n", want: []string{
			"row 2, column E (num_clips): num_clips is not an input of sync/react-1, which accepts audio_url, emotion, lipsync_mode, model_mode, temperature and video_url. Remove num_clips.",
		}},
		{name: "a medium of --set with a wrong suffix", set: map[string]string{"image_url_2": "b.gif", "prompt": "p"}, text: "name,image,model\na,a.png,happyhorse/happyhorse-1.0/reference-to-video\n", want: []string{
			"row 2, --set image_url_2: b.gif is not accepted: its suffix is not one of .png, .jpg, .jpeg and .webp. Name an image.",
		}},
		{name: "an option of --set that the model does not have", set: map[string]string{"emotion": "happy"}, text: header + good, want: []string{
			"row 2, --set emotion: emotion is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url. Remove emotion.",
		}},
		{name: "a required option that is missing", model: "happyhorse/happyhorse-1.0/reference-to-video", text: "name,image,prompt\na,a.png,\n", want: []string{
			"row 2, column C (prompt): prompt is missing; happyhorse/happyhorse-1.0/reference-to-video requires it. Set prompt to a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank.",
		}},
		{name: "a text with a comma and without quotes, which becomes two cells", text: "name,image,audio,prompt\na,a.png,a.wav,Hi, there\n", want: []string{
			`row 2, column E: the cell holds " there", but its column has no name in the header. Name the column in the header, or empty the cell. If a comma split one text into two cells, put the whole text in plain double quotes.`,
		}},
		{name: "the same text in the quotes of a word processor", text: "name,image,audio,prompt\na,a.png,a.wav,“Hi, there”\n", want: []string{
			`row 2, column E: the cell holds " there”", but its column has no name in the header. Name the column in the header, or empty the cell. If a comma split one text into two cells, put the whole text in plain double quotes.`,
		}},
		{name: "a cell too many, with a space as the separator", text: "sep= \nname image audio\na a.png a.wav Hi\n", want: []string{
			`row 2, column D: the cell holds "Hi", but its column has no name in the header. Name the column in the header, or empty the cell. If a space split one text into two cells, put the whole text in plain double quotes.`,
		}},
		{name: "a cell of two lines that is one cell too many", text: header + "a,a.mp4,a.wav,\"x\ny\"\n", want: []string{
			`row 2, column D: the cell holds "x\ny", but its column has no name in the header. Name the column in the header, or empty the cell. If a comma split one text into two cells, put the whole text in plain double quotes.`,
		}},
		{name: "a quote inside a cell", text: "name,image,audio,prompt\na,a.png,a.wav,say \"hi\"\nb,b.png,,x\n", want: []string{
			`row 2, column D: a double quote is inside a cell that has no quotes around it. Put the whole cell in double quotes, and write "" for each quote inside it.`,
			"row 3, column C (audio): an audio file is missing; community/live-avatar requires one. Name an audio file there.",
		}},
		{name: "a quote that is not closed", text: header + "\"a,a.mp4,a.wav\nb,b.mp4,b.wav\n", want: []string{
			`row 2: a cell begins with a double quote, but does not end with one, or a double quote inside the cell is not written twice. Write "" for each quote inside the cell, and end the cell with one quote.`,
		}},
		{name: "text in the encoding Windows-1252", text: header + "caf\xe9,a.mp4,a.wav\n", want: []string{`row 2, column A (name): the cell "caf\xe9" is not text in UTF-8. Save the list as CSV UTF-8.`}},
		{name: "UTF-16", text: "\xff\xfen\x00a\x00", want: []string{"the list is not text in UTF-8: it contains bytes with the value 0. Save the list as CSV UTF-8."}},
		{name: "every problem of every row", text: header + ",a.wav,\nb,b.mp4,b.txt\n", want: []string{
			"row 2, column A (name): the row has no name. Give each row its own name: it becomes the name of the job.",
			"row 2, column B (video): a.wav is an audio file; sync/sync/lipsync/v2/pro accepts a video there. Name a video.",
			"row 2, column C (audio): an audio file is missing; sync/sync/lipsync/v2/pro requires one. Name an audio file there.",
			"row 3, column C (audio): b.txt is not accepted: its suffix is not one of .wav, .mp3, .m4a, .aac, .ogg, .opus and .flac. Name an audio file.",
		}},
		{name: "JSON that is not an object, is broken, or continues on the next line", file: "l.jsonl", text: "[1]\n{\"name\": \"a\",}\n{\n", want: []string{
			`row 1: the line is not a JSON object. Write one object per line, such as {"name": "a", "video": "a.mp4", "audio": "a.wav"}.`,
			"row 2: the line is not JSON at character 14: remove the comma before this place. Fix the line. Each object must be on one line.",
			"row 3: the line is not JSON at character 2: it ends too early: a closing bracket or quote is missing. Fix the line. Each object must be on one line.",
		}},
		{name: "JSON with an unknown member, a member twice and a number for a name", file: "l.jsonl", text: `{"name": 1, "vidoe": "a.mp4", "video": "a.mp4", "audio": "a.wav", "audio": "b.wav"}`, want: []string{
			`row 1, member "vidoe": there is no member "vidoe" (the nearest is "video"). Rename it to video, or remove it.`,
			`row 1, member "audio": the object has this member twice. Remove one of the two.`,
			`row 1, member "name": name is not a text. Write name in double quotes.`,
		}},
		{name: "JSON with numbers for the model and a medium", file: "l.jsonl", text: `{"name": "a", "model": 5, "video": "a.mp4", "audio": 6}`, want: []string{
			`row 1, member "model": model is not a text. Write model in double quotes.`,
			`row 1, member "audio": audio is not a text. Write audio in double quotes.`,
		}},
		{name: "JSON with a number for a medium that another member also sets", file: "l.jsonl", text: `{"name": "a", "model": "sync/react-1", "video_url": 5, "video": "a.mp4", "audio": "a.wav"}`, want: []string{
			`row 1, member "video_url": video_url is not a text. Name a file or an https URL, in double quotes.`,
		}},
		{name: "JSON with a number in quotes", file: "l.jsonl", text: `{"name": "a", "model": "sync/react-1", "video": "a.mp4", "audio": "a.wav", "temperature": "1"}`, want: []string{
			`row 1, member "temperature": temperature is "1"; sync/react-1 accepts a number from 0 to 1. Write temperature as 1, without quotes.`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := read(t, tt.file, tt.text, tt.model, tt.set)
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Read finds a problem in the last row of a list of 5,001 rows.
func TestLongList(t *testing.T) {
	var text strings.Builder
	text.WriteString("name,video,audio\n")
	for i := range 5000 {
		fmt.Fprintf(&text, "row %d,talk.mp4,%d.wav\n", i, i)
	}
	text.WriteString("row 7,talk.mp4,a.wav\n")
	rows, problems := read(t, "l.csv", text.String(), "", nil)
	if len(rows) != 5001 || len(problems) != 1 || problems[0].Row != 5002 {
		t.Errorf("%d rows and the problems %v, want 5001 rows and a problem in row 5002", len(rows), problems)
	}
}

// For every text, Read does not panic. Each problem has a reason and a remedy, and names no row after
// the last line. No input of a row is both in Files and in Links.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"", "name,video,audio\na,a.mp4,a.wav", "sep=;\nname;video\n\"", "\r\r", "{\"name\": 1}", "name\n\"a\n\nb\"\"c", "\ufeff\x00"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, isTable bool) {
		file, lines := "l.jsonl", 1+strings.Count(text, "\n")
		if isTable {
			file, lines = "l.csv", lines+strings.Count(text, "\r")
		}
		rows, problems := read(t, file, text, "", nil)
		for _, p := range problems {
			if p.Reason == "" || p.Remedy == "" || p.Row > lines {
				t.Errorf("problem %+v, want a reason, a remedy and a row of at most %d", p, lines)
			}
		}
		for _, r := range rows {
			for property := range r.Files {
				if r.Links[property] != "" {
					t.Errorf("%s is both in Files and in Links, want it in only one of them", property)
				}
			}
		}
	})
}

func TestIsList(t *testing.T) {
	for path, want := range map[string]bool{"a.csv": true, "b/A.CSV": true, "a.jsonl": true, "a.ndjson": true, "a.tsv": true, "job.json": false, "a.mp4": false, "csv": false} {
		if got := list.IsList(path); got != want {
			t.Errorf("IsList(%q) is %t, want %t", path, got, want)
		}
	}
}
