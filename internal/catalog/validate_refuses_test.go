package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Each row sets one wrong member in the model's smallest valid input.
func TestValidateRefuses(t *testing.T) {
	tests := []struct {
		id, members string
		reason      string
		remedy      string
	}{
		{react1, `{"emotion": "joyful"}`,
			`emotion is "joyful"; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised`,
			`Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`},
		{react1, `{"emotion": "Suprised"}`,
			`emotion is "Suprised"; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised (the nearest is surprised)`,
			`Set emotion to surprised.`},
		{react1, `{"emotion": ""}`,
			`emotion is blank; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised`,
			`Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`},
		{react1, `{"emotion": null}`,
			`emotion is null; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised`,
			`Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`},
		{react1, `{"emotion": "https://example.com/a.wav?X-Amz-Signature=1"}`,
			`emotion is a URL; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised`,
			`Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.`},
		{react1, `{"model_mode": "mouth"}`,
			`model_mode is "mouth"; sync/react-1 accepts lips, face or head`,
			`Set model_mode to lips, face or head, or leave it out.`},
		{react1, `{"lipsync_mode": "cut-off"}`,
			`lipsync_mode is "cut-off"; sync/react-1 accepts cut_off, loop, bounce, silence or remap (the nearest is cut_off)`,
			`Set lipsync_mode to cut_off.`},
		{react1, `{"temperature": 1.001}`,
			`temperature is 1.001; sync/react-1 accepts a number from 0 to 1`,
			`Set temperature to a number from 0 to 1, or leave it out.`},
		{react1, `{"temperature": "0.5"}`,
			`temperature is "0.5"; sync/react-1 accepts a number from 0 to 1`,
			`Write temperature as 0.5, without quotes.`},
		{react1, `{"temperature": "1.5"}`,
			`temperature is "1.5"; sync/react-1 accepts a number from 0 to 1`,
			`Set temperature to a number from 0 to 1, or leave it out.`},
		{react1, `{"video_url": ""}`,
			`video_url is blank; sync/react-1 accepts the name of a video or an https URL`,
			`Set video_url to the name of a video or an https URL.`},
		{react1, `{"video_url": ["talk.mp4"]}`,
			`video_url is a list; sync/react-1 accepts the name of a video or an https URL`,
			`Set video_url to the name of a video or an https URL.`},
		{lipsync, `{"sync_mode": true}`,
			`sync_mode is true; sync/sync/lipsync/v2/pro accepts cut_off, loop, bounce, silence or remap`,
			`Set sync_mode to cut_off, loop, bounce, silence or remap, or leave it out.`},
		{lipsync, `{"emotion": "happy"}`,
			`emotion is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url`,
			`Remove emotion.`},
		{lipsync, `{"lipsync_mode": "loop"}`,
			`lipsync_mode is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url (the nearest is sync_mode)`,
			`Rename lipsync_mode to sync_mode.`},
		{lipsync, `{"audio_ur": "talk.wav"}`,
			`audio_ur is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url (the nearest is audio_url)`,
			`Remove audio_ur.`},
		{lipsync, `{"webhook": "https://example.com/hook?key=1"}`,
			`webhook is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url`,
			`Remove webhook.`},
		{lipsync, `{"wie geht's": 1}`,
			`"wie geht's" is not an input of sync/sync/lipsync/v2/pro, which accepts audio_url, sync_mode and video_url`,
			`Remove "wie geht's".`},
		{liveAvatar, `{"num_clips": 0}`,
			`num_clips is 0; community/live-avatar accepts a whole number from 1 to 100`,
			`Set num_clips to a whole number from 1 to 100, or leave it out.`},
		{liveAvatar, `{"num_clips": 101}`,
			`num_clips is 101; community/live-avatar accepts a whole number from 1 to 100`,
			`Set num_clips to a whole number from 1 to 100, or leave it out.`},
		{liveAvatar, `{"num_clips": 2.5}`,
			`num_clips is 2.5; community/live-avatar accepts a whole number from 1 to 100`,
			`Set num_clips to a whole number from 1 to 100, or leave it out.`},
		{liveAvatar, `{"num_clips": "5"}`,
			`num_clips is "5"; community/live-avatar accepts a whole number from 1 to 100`,
			`Write num_clips as 5, without quotes.`},
		{liveAvatar, `{"frames_per_clip": 50}`,
			`frames_per_clip is 50; community/live-avatar accepts a whole number from 16 to 80 that is a multiple of 4`,
			`Set frames_per_clip to a whole number from 16 to 80 that is a multiple of 4, or leave it out.`},
		{liveAvatar, `{"prompt": " \n\u200b"}`,
			`prompt is blank; community/live-avatar accepts a text that is not blank`,
			`Set prompt to a text that is not blank.`},
		{happyhorse, `{"image_url": "b.png"}`,
			`image_url is not an input of happyhorse/happyhorse-1.0/reference-to-video, which accepts aspect_ratio, duration, image_url_1 to image_url_9, prompt, resolution, seed and watermark (the nearest is image_url_1)`,
			`Remove image_url.`},
		{happyhorse, `{"aspect_ratio": "16x9"}`,
			`aspect_ratio is "16x9"; happyhorse/happyhorse-1.0/reference-to-video accepts 16:9, 9:16, 1:1, 4:3 or 3:4 (the nearest is 16:9)`,
			`Set aspect_ratio to 16:9.`},
		{happyhorse, `{"resolution": "1080p"}`,
			`resolution is "1080p"; happyhorse/happyhorse-1.0/reference-to-video accepts 720P or 1080P (the nearest is 1080P)`,
			`Set resolution to 1080P.`},
		{happyhorse, `{"duration": 7.5}`,
			`duration is 7.5; happyhorse/happyhorse-1.0/reference-to-video accepts a whole number from 3 to 15`,
			`Set duration to a whole number from 3 to 15, or leave it out.`},
		{happyhorse, `{"watermark": "true"}`,
			`watermark is "true"; happyhorse/happyhorse-1.0/reference-to-video accepts true or false`,
			`Write watermark as true, without quotes.`},
		{happyhorse, `{"prompt": ""}`,
			`prompt is blank; happyhorse/happyhorse-1.0/reference-to-video accepts a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank`,
			`Set prompt to a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank.`},
		{happyhorse, `{"prompt": "` + strings.Repeat("é", 5001) + `"}`,
			`prompt has 5,001 characters; happyhorse/happyhorse-1.0/reference-to-video accepts a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank`,
			`Shorten prompt to at most 5,000 characters.`},
		{happyhorse, `{"prompt": "` + strings.Repeat("她", 2501) + `"}`,
			`prompt has 2,501 characters and is Chinese; happyhorse/happyhorse-1.0/reference-to-video accepts a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank`,
			`Shorten prompt to at most 2,500 characters.`},
		{happyhorse, `{"prompt": "` + strings.Repeat("她1, ", 1500) + `"}`,
			`prompt has 6,000 characters and is Chinese; happyhorse/happyhorse-1.0/reference-to-video accepts a text of at most 5,000 characters (2,500 if it is Chinese) that is not blank`,
			`Shorten prompt to at most 2,500 characters.`},
		{talker, `{"strength": 0}`,
			`strength is 0; acme/talker-2.1/portrait accepts a number of at most 2.5 that satisfies its schema (exclusiveMinimum)`,
			`Compare strength with the schema on the model's page.`},
		{talker, `{"strength": 2.6}`,
			`strength is 2.6; acme/talker-2.1/portrait accepts a number of at most 2.5`,
			`Set strength to a number of at most 2.5, or leave it out.`},
		{talker, `{"cuts": [1, 2, 3]}`,
			`cuts is a list; acme/talker-2.1/portrait accepts a list that satisfies its schema (maxItems)`,
			`Compare cuts with the schema on the model's page.`},
		{talker, `{"cuts": [1, "2"]}`,
			`cuts is a list; acme/talker-2.1/portrait accepts a list that satisfies its schema (type)`,
			`Compare cuts with the schema on the model's page.`},
		{talker, `{"mood": {"calm": true}}`,
			`mood is an object; acme/talker-2.1/portrait accepts calm or lively`,
			`Set mood to calm or lively.`},
		{talker, `{"portret": "anna.png"}`,
			`portret is not an input of acme/talker-2.1/portrait, which accepts cuts, frames, loop, mood, note, pieces, portrait, seed, speech and strength (the nearest is portrait)`,
			`Remove portret.`},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %.40s", tt.id, tt.members), func(t *testing.T) {
			code := problem.BadValue
			if strings.Contains(tt.reason, " is not an input of ") {
				code = problem.UnknownMember
			}
			member := strings.Split(tt.members, `"`)[1]
			want := []problem.Problem{{Code: code, Reason: tt.reason, Remedy: tt.remedy, Member: member}}
			m := model(t, tt.id)
			for how, decode := range map[string]func(string, any) error{"float64": decodeFloat, "json.Number": decodeNumber} {
				if diff := cmp.Diff(want, m.Validate(inputWith(t, tt.id, tt.members, decode))); diff != "" {
					t.Errorf("as %s (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}
