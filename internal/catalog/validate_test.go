package catalog_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
)

// valid holds the smallest valid input of each model.
var valid = map[string]map[string]any{
	react1:     {"video_url": "talk.mp4", "audio_url": "https://example.com/talk.wav"},
	lipsync:    {"video_url": "talk.mp4", "audio_url": "talk.wav"},
	liveAvatar: {"image_url": "anna.png", "audio_url": "talk.wav", "prompt": "She speaks."},
	happyhorse: {"image_url_1": "anna.png", "prompt": "character1 waves."},
	talker:     {"portrait": "anna.png", "speech": "talk.wav", "mood": "calm"},
}

// inputWith decodes a JSON object and sets its members in a copy of a model's smallest valid input.
func inputWith(t testing.TB, id, text string, decode func(string, any) error) map[string]any {
	t.Helper()
	input := maps.Clone(valid[id])
	var members map[string]any
	if err := decode(text, &members); err != nil {
		t.Fatal(err)
	}
	maps.Copy(input, members)
	return input
}

func decodeFloat(text string, v any) error { return json.Unmarshal([]byte(text), v) }

func decodeNumber(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

func TestValidateAccepts(t *testing.T) {
	tests := map[string][]string{
		react1: {
			`{}`,
			`{"emotion": "happy"}`, `{"emotion": "angry"}`, `{"emotion": "sad"}`, `{"emotion": "neutral"}`, `{"emotion": "disgusted"}`, `{"emotion": "surprised"}`,
			`{"model_mode": "lips"}`, `{"model_mode": "face"}`, `{"model_mode": "head"}`,
			`{"lipsync_mode": "cut_off"}`, `{"lipsync_mode": "loop"}`, `{"lipsync_mode": "bounce"}`, `{"lipsync_mode": "silence"}`, `{"lipsync_mode": "remap"}`,
			`{"temperature": 0}`, `{"temperature": 1}`, `{"temperature": 1.0}`, `{"temperature": 0.35}`, `{"temperature": 1e-300}`,
			`{"emotion": "sad", "model_mode": "head", "lipsync_mode": "loop", "temperature": 0.2}`,
		},
		lipsync: {
			`{}`,
			`{"sync_mode": "cut_off"}`, `{"sync_mode": "loop"}`, `{"sync_mode": "bounce"}`, `{"sync_mode": "silence"}`, `{"sync_mode": "remap"}`,
		},
		liveAvatar: {
			`{}`,
			`{"num_clips": 1}`, `{"num_clips": 100}`, `{"num_clips": 5.0}`, `{"num_clips": 1e2}`,
			`{"frames_per_clip": 16}`, `{"frames_per_clip": 20}`, `{"frames_per_clip": 80}`,
			`{"guidance_scale": 0}`, `{"guidance_scale": 10}`, `{"guidance_scale": 7.25}`,
			`{"seed": 0}`, `{"seed": -1}`, `{"seed": 2147483648}`,
			`{"prompt": "她说话。"}`, `{"prompt": "` + strings.Repeat("a", 20_000) + `"}`,
		},
		happyhorse: {
			`{}`,
			`{"image_url_2": "b.png", "image_url_3": "c.png", "image_url_4": "d.png", "image_url_5": "e.png", "image_url_6": "f.png", "image_url_7": "g.png", "image_url_8": "h.png", "image_url_9": "i.png"}`,
			`{"aspect_ratio": "16:9"}`, `{"aspect_ratio": "9:16"}`, `{"aspect_ratio": "1:1"}`, `{"aspect_ratio": "4:3"}`, `{"aspect_ratio": "3:4"}`,
			`{"resolution": "720P"}`, `{"resolution": "1080P"}`,
			`{"duration": 3}`, `{"duration": 15}`, `{"duration": 7.0}`,
			`{"seed": 0}`, `{"seed": 2147483647}`,
			`{"watermark": true}`, `{"watermark": false}`,
			`{"prompt": "` + strings.Repeat("é", 5000) + `"}`,
			`{"prompt": "` + strings.Repeat("她", 2500) + `"}`,
			// Half of the letters are Han. A text counts as Chinese only if more than half are.
			`{"prompt": "` + strings.Repeat("她a", 2500) + `"}`,
		},
		talker: {
			`{}`,
			`{"strength": 2.5}`, `{"seed": null}`, `{"seed": 9}`, `{"cuts": []}`, `{"cuts": [0.5, 2]}`, `{"note": {"any": ["thing"]}}`, `{"note": "soon"}`,
		},
	}
	for id, rows := range tests {
		m := model(t, id)
		for _, row := range rows {
			for how, decode := range map[string]func(string, any) error{"float64": decodeFloat, "json.Number": decodeNumber} {
				input := inputWith(t, id, row, decode)
				before := inputWith(t, id, row, decode)
				if problems := m.Validate(input); len(problems) > 0 {
					t.Errorf("%s %.80s as %s: problems %+v, want none", id, row, how, problems)
				}
				if diff := cmp.Diff(before, input); diff != "" {
					t.Errorf("%s %.80s: Validate changed the input (-before +after):\n%s", id, row, diff)
				}
			}
		}
	}
}

func TestValidateReportsEveryProblemAtOnce(t *testing.T) {
	got := model(t, react1).Validate(map[string]any{
		"audio_ur":    "talk.wav",
		"emotion":     "joyful",
		"model_mode":  3.0,
		"temperature": json.Number("2"),
	})
	want := []string{
		"unknown_member audio_ur: audio_ur is not an input of sync/react-1, which accepts audio_url, emotion, lipsync_mode, model_mode, temperature and video_url (the nearest is audio_url). Rename audio_ur to audio_url.",
		`bad_value emotion: emotion is "joyful"; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised. Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`,
		"bad_value model_mode: model_mode is 3; sync/react-1 accepts lips, face or head. Set model_mode to lips, face or head, or leave it out.",
		"bad_value temperature: temperature is 2; sync/react-1 accepts a number from 0 to 1. Set temperature to a number from 0 to 1, or leave it out.",
		"missing_member video_url: video_url is missing; sync/react-1 requires it. Set video_url to the name of a video or an https URL.",
	}
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// texts returns the code, the member, the reason and the remedy of each problem.
func texts(problems []problem.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, fmt.Sprintf("%s %s: %s. %s", p.Code, p.Member, p.Reason, p.Remedy))
	}
	return all
}

// Validate fills in no defaults: a required member that has a default is still missing.
// A misspelt member is one problem: Validate does not also report the intended member as missing.
func TestValidateMissing(t *testing.T) {
	tests := []struct {
		id    string
		input map[string]any
		want  []string
	}{
		{react1, nil, []string{"audio_url missing_member", "video_url missing_member"}},
		{lipsync, nil, []string{"audio_url missing_member", "video_url missing_member"}},
		{liveAvatar, nil, []string{"audio_url missing_member", "image_url missing_member", "prompt missing_member"}},
		{happyhorse, nil, []string{"image_url_1 missing_member", "prompt missing_member"}},
		{react1, map[string]any{"video_url": "v.mp4", "audio_ur": "a.wav"}, []string{"audio_ur unknown_member"}},
		{liveAvatar, map[string]any{"image": "i.png", "audio": "a.wav", "text": "Hi"}, []string{"audio unknown_member", "image unknown_member", "prompt missing_member", "text unknown_member"}},
		{react1, map[string]any{"video_url": "v.mp4", "audio_url": "a.wav", "audio_ur": "b.wav"}, []string{"audio_ur unknown_member"}},
		{react1, map[string]any{"video_url": 1, "video_ur": "v.mp4", "audio_url": "a.wav"}, []string{"video_ur unknown_member", "video_url bad_value"}},
	}
	for _, tt := range tests {
		var got []string
		for _, p := range model(t, tt.id).Validate(tt.input) {
			got = append(got, p.Member+" "+string(p.Code))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", tt.id, tt.input, diff)
		}
	}
}

// If two wrong names probably mean the same member, only one remedy says to rename.
func TestValidateTwoNamesForOne(t *testing.T) {
	problems := model(t, happyhorse).Validate(map[string]any{"image_url": "a.png", "image_url_10": "b.png", "prompt": "character1 waves"})
	var remedies []string
	for _, p := range problems {
		remedies = append(remedies, p.Remedy)
	}
	if diff := cmp.Diff([]string{"Rename image_url to image_url_1.", "Remove image_url_10."}, remedies); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A problem of the input as a whole has no member.
func TestValidateTheInputAsAWhole(t *testing.T) {
	got := model(t, talker).Validate(map[string]any{"portrait": "anna.png", "strength": 1.0})
	var members []string
	for _, p := range got {
		members = append(members, p.Member)
	}
	if diff := cmp.Diff([]string{"mood", "speech", ""}, members); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if want := "the input as a whole breaks minProperties of the schema of acme/talker-2.1/portrait"; got[2].Reason != want {
		t.Errorf("got %q, want %q", got[2].Reason, want)
	}
}

// The jsonschema package panics, or takes long, with some of these values, so Validate
// refuses the values before it calls that package.
func TestValidateRefusesUnusableValues(t *testing.T) {
	unusable := []any{
		json.Number("1e400"), json.Number("1e-400"), json.Number("1e999999999999"), json.Number("-1e-999999999"),
		json.Number("0." + strings.Repeat("0", 100_000) + "1"), json.Number("1." + strings.Repeat("0", 100_000) + "1"),
		json.Number("0e99999999999999999999"), json.Number("-0.0E-99999999999999999999"),
		json.Number("seven"), json.Number(""),
		math.Inf(1), math.NaN(), int64(1), []string{"a"},
	}
	for _, v := range unusable {
		for _, value := range []any{v, []any{v}, map[string]any{"n": v}} {
			input := maps.Clone(valid[talker])
			input["note"] = value
			problems := model(t, talker).Validate(input)
			if len(problems) != 1 || problems[0].Member != "note" || problems[0].Code != problem.BadValue {
				t.Errorf("%.30v: got %+v, want one %s of note", value, problems, problem.BadValue)
			}
		}
	}
}

// FuzzValidate checks that ValidateOptions does not panic for any value of an option, and
// that each problem has a code, a reason and a remedy.
func FuzzValidate(f *testing.F) {
	for _, value := range []string{`1`, `0e99999999999999999999`, `"0e-99999999999999999999"`, `1e400`, `true`, `TRUE`, `0,5`, `"cut_off"`, `[null, {"a": -0.5}]`} {
		f.Add(value)
	}
	models := []*catalog.Model{model(f, react1), model(f, liveAvatar), model(f, talker)}
	f.Fuzz(func(t *testing.T, text string) {
		var value any
		isJSON := decodeNumber(text, &value) == nil
		for _, m := range models {
			for _, o := range m.Options() {
				values := []any{m.Value(o.Name, text)}
				if isJSON {
					values = append(values, value)
				}
				for _, v := range values {
					for _, p := range m.ValidateOptions(map[string]any{o.Name: v}) {
						if p.Code == "" || p.Reason == "" || p.Remedy == "" {
							t.Errorf("%s of %s: problem %+v, want a code, a reason and a remedy", o.Name, m.ID, p)
						}
					}
				}
			}
		}
	})
}

func TestValidateOptions(t *testing.T) {
	m := model(t, liveAvatar)
	if problems := m.ValidateOptions(map[string]any{"num_clips": 3}); len(problems) > 0 {
		t.Errorf("a preset without prompt and media: problems %+v, want none", problems)
	}
	if problems := m.ValidateOptions(nil); len(problems) > 0 {
		t.Errorf("an empty preset: problems %+v, want none", problems)
	}
	got := m.ValidateOptions(map[string]any{"image_url": "anna.png", "audio_ur": "talk.wav", "num_clips": 101.0, "promt": "Hello"})
	want := []string{
		"unknown_member audio_ur: audio_ur is not an option of community/live-avatar, which accepts frames_per_clip, guidance_scale, num_clips, prompt and seed. Remove audio_ur.",
		"media_in_preset image_url: image_url accepts media; it is not an option. Remove image_url: the media are the uploaded files.",
		"bad_value num_clips: num_clips is 101; community/live-avatar accepts a whole number from 1 to 100. Set num_clips to a whole number from 1 to 100, or leave it out.",
		"unknown_member promt: promt is not an option of community/live-avatar, which accepts frames_per_clip, guidance_scale, num_clips, prompt and seed (the nearest is prompt). Rename promt to prompt.",
	}
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// For any input, Validate and ValidateOptions do not panic. Their problems are sorted and short, and
// never quote the query of a URL.
func TestValidateAnything(t *testing.T) {
	const secret = "X-Amz-Signature"
	models := []*catalog.Model{model(t, react1), model(t, liveAvatar), model(t, happyhorse), model(t, talker)}
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"happy", "5", "null", "https://example.com/a.mp4?" + secret + "=1", strings.Repeat("长", 3000)}))
	scalar := rapid.OneOf(
		rapid.Just[any](nil), text.AsAny(), rapid.Bool().AsAny(), rapid.Float64().AsAny(), rapid.Int().AsAny(),
		rapid.Map(rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{1,5})?(e-?[0-9]{1,20})?`), func(s string) any { return json.Number(s) }),
	)
	value := rapid.OneOf(scalar, rapid.SliceOfN(scalar, 0, 3).AsAny(), rapid.MapOfN(rapid.String(), scalar, 0, 3).AsAny())
	rapidtest.Check(t, func(t *rapid.T) {
		m := rapid.SampledFrom(models).Draw(t, "model")
		var names []string
		for _, p := range m.MediaProperties() {
			names = append(names, p.Name)
		}
		for _, o := range m.Options() {
			names = append(names, o.Name)
		}
		input := rapid.MapOfN(rapid.OneOf(rapid.SampledFrom(names), text), value, 0, 6).Draw(t, "input")
		for _, problems := range [][]problem.Problem{m.Validate(input), m.ValidateOptions(input)} {
			for i, p := range problems {
				if i > 0 && problems[i-1].Reason > p.Reason {
					t.Errorf("%q comes before %q, want the reasons sorted", problems[i-1].Reason, p.Reason)
				}
				shown := p.Reason + p.Remedy
				if strings.Contains(shown, secret) || len(shown) > 2000 || strings.ContainsAny(shown, "\n\x00") {
					t.Errorf("text %q, want at most 2000 bytes on one line, without %s", shown, secret)
				}
				if p.Code == "" || p.Reason == "" || p.Remedy == "" {
					t.Errorf("problem %+v, want a code, a reason and a remedy", p)
				}
			}
		}
	})
}

// A text becomes a number only if the option accepts numbers, and a boolean only if it accepts booleans.
func TestValue(t *testing.T) {
	tests := []struct {
		name, id, property, text string
		want                     any
	}{
		{"a number", react1, "temperature", "0.50", json.Number("0.50")},
		{"a number with spaces around it", react1, "temperature", " 1 ", json.Number("1")},
		{"a number beyond the range", react1, "temperature", "7", json.Number("7")},
		{"a decimal comma", react1, "temperature", "0,5", "0,5"},
		{"a text", react1, "emotion", "happy", "happy"},
		{"a number for a text", happyhorse, "prompt", "42", "42"},
		{"a whole number", liveAvatar, "num_clips", "12", json.Number("12")},
		{"a boolean as Excel writes it", happyhorse, "watermark", "TRUE", true},
		{"a number for a boolean", happyhorse, "watermark", "1", "1"},
		{"a boolean for a number", react1, "temperature", "true", "true"},
		{"a number for a list", talker, "cuts", "5", "5"},
		{"a number for a number or a boolean", talker, "loop", "5", json.Number("5")},
		{"a boolean for a number or a boolean", talker, "loop", "true", true},
		{"an option that the model does not have", react1, "seed", "1", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := model(t, tt.id).Value(tt.property, tt.text); got != tt.want {
				t.Errorf("%#v, want %#v", got, tt.want)
			}
		})
	}
}

// If one character in the name of an option is wrong or missing, the remedy names the option.
func TestValidateTypos(t *testing.T) {
	models := []*catalog.Model{model(t, react1), model(t, lipsync), model(t, liveAvatar), model(t, talker)}
	rapidtest.Check(t, func(t *rapid.T) {
		m := rapid.SampledFrom(models).Draw(t, "model")
		name := rapid.SampledFrom(m.Options()).Draw(t, "option").Name
		at := rapid.IntRange(0, len(name)-1).Draw(t, "at")
		typo := name[:at] + rapid.SampledFrom([]string{"", "x", "-"}).Draw(t, "instead") + name[at+1:]
		if len(typo) < 4 {
			t.Skip("too short for a suggestion")
		}
		problems := m.ValidateOptions(map[string]any{typo: 1})
		if len(problems) != 1 || problems[0].Remedy != "Rename "+typo+" to "+name+"." {
			t.Errorf("%s: problems %+v, want one whose remedy is to rename %s to %s", typo, problems, typo, name)
		}
	})
}
