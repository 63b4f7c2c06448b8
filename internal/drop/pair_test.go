package drop_test

import "testing"

func TestPairs(t *testing.T) {
	const talk = "ads/talk: job of pro, video_url=ads/talk.mp4, audio_url=ads/talk.wav"
	testRows(t, []row{
		{
			says: "a video or an image, and an audio, with the same stem in the same folder, are one job",
			do:   []string{"ads/talk.mp4", "ads/talk.wav"},
			want: []string{talk},
		},
		{
			says: "the files of a pair may arrive in any order",
			do:   []string{"ads/talk.wav", "ads/talk.mp4"},
			want: []string{talk},
		},
		{
			says: "files with different stems are not one job",
			do:   []string{"ads/talk.mp4", "ads/talks.wav"},
			want: []string{"ads/talk: waiting, waiting_for_audio", "ads/talks: waiting, waiting_for_video_or_image"},
		},
		{
			says: "stems that differ only in case are different stems",
			do:   []string{"ads/talk.mp4", "ads/Talk.wav"},
			want: []string{"ads/Talk: waiting, waiting_for_video_or_image", "ads/talk: waiting, waiting_for_audio"},
		},
		{
			says: "files in different folders are not one job",
			do:   []string{"ads/talk.mp4", "ads/de/talk.wav", "talk.wav"},
			want: []string{
				"ads/de/talk: waiting, waiting_for_video_or_image", "ads/talk: waiting, waiting_for_audio",
				"talk: waiting, waiting_for_video_or_image",
			},
		},
		{
			says: "A video and an audio are a job of the video model, an image and an audio one of the avatar model",
			do:   []string{"a.mov", "a.mp3", "b.png", "b.wav"},
			want: []string{
				"a: job of pro, video_url=a.mov, audio_url=a.mp3",
				"b: job of avatar, image_url=b.png, audio_url=b.wav, num_clips=1, prompt=A person speaking naturally.",
			},
		},
		{
			says: "Two candidates for one role (talk.wav and talk.mp3) are rejected as ambiguous",
			do:   []string{"talk.mp4", "talk.wav", "talk.mp3"},
			want: []string{"talk: rejected, ambiguous"},
		},
		{
			says: "Two candidates for one role (talk.mp4 and talk.png) are rejected as ambiguous",
			do:   []string{"talk.mp4", "talk.wav", "talk.png"},
			want: []string{"talk: rejected, ambiguous"},
		},
		{
			says: "Two candidates for one role are rejected, before the other role is there",
			do:   []string{"a.wav", "a.mp3", "b.mp4", "b.png"},
			want: []string{"a: rejected, ambiguous", "b: rejected, ambiguous"},
		},
		{
			says: "Two candidates for each role are two problems",
			do:   []string{"talk.mp4", "talk.png", "talk.wav", "talk.mp3"},
			want: []string{"talk: rejected, ambiguous, ambiguous"},
		},
		{
			says: "suffixes compare without case: talk.mp4 and talk.MP4 are two candidates for one role",
			do:   []string{"talk.mp4", "talk.MP4", "talk.wav"},
			want: []string{"talk: rejected, ambiguous"},
		},
		{
			says: "An empty media file is a drop, and is rejected",
			do:   []string{"talk.mp4 = ", "talk.wav"},
			want: []string{"talk: rejected, empty_file"},
		},
		{
			says: "An empty media file without a partner is rejected",
			do:   []string{"a.wav = ", "b.mp4 = ", "c.png = ", "d.webm = ", "e.flac = ", "f.de.wav = "},
			want: []string{
				"a: rejected, empty_file", "b: rejected, empty_file", "c: rejected, empty_file",
				"d: rejected, empty_file", "e: rejected, empty_file", "f.de: rejected, empty_file",
			},
		},
		{
			says: "An empty media file is rejected until it is dropped again",
			do:   []string{"talk.wav = ", "talk.wav"},
			want: []string{"talk: waiting, waiting_for_video_or_image"},
		},
		{
			says: "An empty audio with a tag is rejected under its tagged name",
			do:   []string{"talk.mp4", "talk.de.wav = "},
			want: []string{"talk.de: rejected, empty_file", "talk: used, by talk.de"},
		},
		{
			says: "An empty media file beside a second candidate is two problems",
			do:   []string{"talk.wav = ", "talk.mp3", "talk.mp4"},
			want: []string{"talk: rejected, ambiguous, empty_file"},
		},
	})
}

func TestTags(t *testing.T) {
	testRows(t, []row{
		{
			says: "talk.de.wav and talk.fr.wav beside one talk.mp4 are two jobs",
			do:   []string{"ads/talk.mp4", "ads/talk.de.wav", "ads/talk.fr.wav"},
			want: []string{
				"ads/talk.de: job of pro, video_url=ads/talk.mp4, audio_url=ads/talk.de.wav",
				"ads/talk.fr: job of pro, video_url=ads/talk.mp4, audio_url=ads/talk.fr.wav",
				"ads/talk: used, by ads/talk.de ads/talk.fr",
			},
		},
		{
			says: "an audio without a tag and an audio with a tag beside one video are two jobs",
			do:   []string{"talk.de.wav", "talk.wav", "talk.mp4"},
			want: []string{
				"talk.de: job of pro, video_url=talk.mp4, audio_url=talk.de.wav",
				"talk: job of pro, video_url=talk.mp4, audio_url=talk.wav",
			},
		},
		{
			says: "An audio may carry a tag, also beside an image",
			do:   []string{"talk.png", "talk.de.wav"},
			want: []string{
				"talk.de: job of avatar, image_url=talk.png, audio_url=talk.de.wav, num_clips=1, prompt=A person speaking naturally.",
				"talk: used, by talk.de",
			},
		},
		{
			says: "the longest matching stem wins",
			do:   []string{"talk.mp4", "talk.v2.mp4", "talk.v2.de.wav", "talk.de.wav"},
			want: []string{
				"talk.de: job of pro, video_url=talk.mp4, audio_url=talk.de.wav",
				"talk.v2.de: job of pro, video_url=talk.v2.mp4, audio_url=talk.v2.de.wav",
				"talk.v2: used, by talk.v2.de",
				"talk: used, by talk.de",
			},
		},
		{
			says: "the longest matching stem wins: a video with the audio's whole stem comes first",
			do:   []string{"talk.mp4", "talk.de.wav", "talk.de.mp4"},
			want: []string{
				"talk.de: job of pro, video_url=talk.de.mp4, audio_url=talk.de.wav",
				"talk: waiting, waiting_for_audio",
			},
		},
		{
			says: "A tag may have dots",
			do:   []string{"talk.mp4", "talk.v2.final.wav"},
			want: []string{
				"talk.v2.final: job of pro, video_url=talk.mp4, audio_url=talk.v2.final.wav",
				"talk: used, by talk.v2.final",
			},
		},
		{
			says: "A tag begins with a dot: talk-de.wav has none",
			do:   []string{"talk.mp4", "talk-de.wav"},
			want: []string{"talk-de: waiting, waiting_for_video_or_image", "talk: waiting, waiting_for_audio"},
		},
		{
			says: "An audio may carry a tag; a video may not",
			do:   []string{"talk.wav", "talk.de.mp4"},
			want: []string{"talk.de: waiting, waiting_for_audio", "talk: waiting, waiting_for_video_or_image"},
		},
		{
			says: "Two candidates for one role are rejected as ambiguous, for a tagged audio too",
			do:   []string{"talk.mp4", "talk.png", "talk.de.wav"},
			want: []string{"talk.de: rejected, ambiguous", "talk: used, by talk.de"},
		},
		{
			says: "A dot in the name of a folder does not begin a tag",
			do:   []string{"talk.mp4", "talk.de/voice.wav"},
			want: []string{"talk.de/voice: waiting, waiting_for_video_or_image", "talk: waiting, waiting_for_audio"},
		},
	})
}

func TestNewTakesOfTaggedAudios(t *testing.T) {
	b := newInbox(t)
	b.step(t, "talk.mp4", "talk.de.wav", "talk.fr.wav")
	before := b.takes(t, "inbox/talk.mp4")
	b.step(t, "talk.fr.wav")
	after := b.takes(t, "inbox/talk.mp4")
	if after["talk.de"] != before["talk.de"] || after["talk.fr"] == before["talk.fr"] {
		t.Errorf("dropping talk.fr.wav again, unchanged: takes %v became %v, want a new take of talk.fr only", before, after)
	}
	b.step(t, "talk.mp4")
	again := b.takes(t, "inbox/talk.mp4")
	if again["talk.de"] == after["talk.de"] || again["talk.fr"] == after["talk.fr"] {
		t.Errorf("dropping talk.mp4 again: takes %v became %v, want new takes of talk.de and talk.fr", after, again)
	}
}

func TestDeleting(t *testing.T) {
	testRows(t, []row{
		{
			says: "after a file is deleted, its name is assessed again",
			do:   []string{"talk.mp4", "talk.wav", "- talk.wav"},
			want: []string{"talk: waiting, waiting_for_audio"},
		},
		{
			says: "after one of two candidates is deleted, the name may be a job",
			do:   []string{"talk.mp4", "talk.wav", "talk.png", "- talk.png"},
			want: []string{"talk: job of pro, video_url=talk.mp4, audio_url=talk.wav"},
		},
		{
			says: "a name without files is withdrawn",
			do:   []string{"talk.mp4", "- talk.mp4"},
			want: []string{"talk: withdrawn, files_gone"},
		},
		{
			says: "the answer file of a deleted file is withdrawn",
			do:   []string{"notes.txt", "- notes.txt", "preset.json = {}", "- preset.json"},
			want: []string{"notes.txt: withdrawn, files_gone", "preset.json: withdrawn, files_gone"},
		},
		{
			says: "the names of tagged audios are assessed again when their video is gone",
			do:   []string{"talk.mp4", "talk.de.wav", "- talk.mp4"},
			want: []string{"talk.de: waiting, waiting_for_video_or_image", "talk: withdrawn, files_gone"},
		},
		{
			says: "after a video is deleted, a tagged audio uses the video with the next longest stem",
			do:   []string{"talk.mp4", "talk.de.wav", "talk.de.mp4", "- talk.de.mp4"},
			want: []string{"talk.de: job of pro, video_url=talk.mp4, audio_url=talk.de.wav", "talk: used, by talk.de"},
		},
		{
			says: "after job.json is deleted, the other files of the bundle wait for another job.json",
			do:   []string{`cafe.job/job.json = {}`, "cafe.job/a.png", "- cafe.job/job.json"},
			want: []string{"cafe: waiting, waiting_for_job_json"},
		},
		{
			says: "a bundle without a file is withdrawn: files that are not drops do not count",
			do:   []string{"cafe.job/ = ", "cafe.job/.DS_Store", `cafe.job/job.json = {}`, "- cafe.job/job.json"},
			want: []string{"cafe: withdrawn, files_gone"},
		},
	})
}
