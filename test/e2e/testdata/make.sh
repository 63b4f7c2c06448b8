#!/bin/sh
# Makes the media of this folder, and copies them into the wrong drops. Run it in
# this folder, with ffmpeg installed. The other files of the wrong drops are
# written by hand.
set -eu

make() { ffmpeg -v error -y -bitexact "$@"; }

mkdir -p media
picture='-f lavfi -i testsrc=size=64x48:rate=2'
small='-c:v libx264 -preset veryslow -crf 45 -pix_fmt yuv420p'
voice='-f lavfi -i sine=frequency=220:sample_rate=8000'

make $picture -t 2 $small media/talk.mp4
make $picture -t 2 $small -f mov media/talk.mov
make -f lavfi -i color=gray:size=32x32:rate=10 -t 17.3 $small media/long.mp4
make $voice -t 1.5 -c:a aac -b:a 8k -f mp4 media/no-picture.mp4
make $picture -t 2 $small -f mp4 media/no-sound.m4a
make $voice -t 1.5 -c:a aac -b:a 8k media/voice.m4a
make $voice -t 1 -ar 2000 -c:a pcm_u8 media/voice.wav
make $voice -t 2 -ar 2000 -c:a pcm_u8 media/speech.wav # as long as talk.mp4
make $voice -t 1 -ar 8000 -c:a libmp3lame -b:a 8k media/voice.mp3
make $voice -t 1 -c:a libopus -b:a 6k -fflags +bitexact media/voice.ogg
make -f lavfi -i color=teal:size=640x480 -frames:v 1 media/woman.png
make -f lavfi -i color=teal:size=200x200 -frames:v 1 media/thumbnail.png
make -f lavfi -i color=teal:size=512x512 -frames:v 1 media/portrait.png
# An upload that broke off: the index of an MP4 comes last.
head -c 1500 media/talk.mp4 >media/cut.mp4
# The head of a photo as phones take them.
printf '\000\000\000\030ftypheic\000\000\000\000mif1heic\000\000\000\000' >media/photo.heic

# place DROP MEDIUM KEY...: copies a medium to keys of a wrong drop
place() {
	drop=drops/$1/inbox medium=media/$2
	shift 2
	for key; do
		mkdir -p "$drop/$(dirname "$key")"
		cp "$medium" "$drop/$key"
	done
}

place phone-video-and-voice-memo talk.mov ads/IMG_4711.MOV
place phone-video-and-voice-memo voice.m4a 'ads/New Recording 3.m4a'
place phone-video-beside-its-export talk.mov ads/talk.MOV
place phone-video-beside-its-export talk.mp4 ads/talk.mp4
place phone-video-beside-its-export voice.wav ads/talk.wav
place phone-photo photo.heic ads/woman.HEIC
place phone-photo voice.wav ads/woman.wav
place phone-photo-renamed photo.heic ads/woman.jpg
place phone-photo-renamed voice.wav ads/woman.wav
place text-renamed-to-video voice.wav ads/talk.wav
place web-page-saved-as-voice talk.mp4 ads/talk.mp4
place mp3-renamed-to-wav talk.mp4 ads/talk.mp4
place mp3-renamed-to-wav voice.mp3 ads/talk.wav
place clip-too-long-for-react long.mp4 ads/cafe.job/talk.mp4
place clip-too-long-for-react voice.wav ads/cafe.job/voice.wav
place clip-too-long-for-preset long.mp4 ads/talk.mp4
place clip-too-long-for-preset voice.wav ads/talk.wav
place video-without-picture no-picture.mp4 ads/talk.mp4
place video-without-picture voice.wav ads/talk.wav
place voice-without-sound talk.mp4 ads/talk.mp4
place voice-without-sound no-sound.m4a ads/talk.m4a
place upload-broken-off cut.mp4 ads/talk.mp4
place upload-broken-off voice.wav ads/talk.wav
place empty-voice talk.mp4 ads/talk.mp4
place two-voices talk.mp4 ads/talk.mp4
place two-voices voice.wav ads/talk.wav
place two-voices voice.mp3 ads/talk.mp3
place video-and-image talk.mp4 ads/talk.mp4
place video-and-image woman.png ads/talk.png
place video-and-image voice.wav ads/talk.wav
place voice-alone voice.wav ads/talk.wav
place voice-in-another-folder talk.mp4 ads/video/talk.mp4
place voice-in-another-folder voice.wav ads/voice/talk.wav
place ogg-for-avatar woman.png ads/woman.png
place ogg-for-avatar voice.ogg ads/woman.ogg
place unknown-emotion talk.mp4 ads/cafe.job/talk.mp4
place unknown-emotion voice.wav ads/cafe.job/voice.wav
place misspelt-member talk.mp4 ads/cafe.job/talk.mp4
place misspelt-member voice.wav ads/cafe.job/voice.wav
place misspelt-model talk.mp4 ads/cafe.job/talk.mp4
place misspelt-model voice.wav ads/cafe.job/voice.wav
place no-model talk.mp4 ads/cafe.job/talk.mp4
place no-model voice.wav ads/cafe.job/voice.wav
place misspelt-file talk.mp4 ads/cafe.job/talk.mp4
place misspelt-file voice.wav ads/cafe.job/voice.wav
place path-of-my-computer talk.mp4 ads/cafe.job/talk.mp4
place path-of-my-computer voice.wav ads/cafe.job/voice.wav
place file-of-another-bundle talk.mp4 ads/cafe.job/talk.mp4
place options-beside-input talk.mp4 ads/cafe.job/talk.mp4
place options-beside-input voice.wav ads/cafe.job/voice.wav
place video-and-voice-swapped talk.mp4 ads/cafe.job/talk.mp4
place video-and-voice-swapped voice.wav ads/cafe.job/voice.wav
place link-without-tls talk.mp4 ads/cafe.job/talk.mp4
place trailing-comma talk.mp4 ads/cafe.job/talk.mp4
place trailing-comma voice.wav ads/cafe.job/voice.wav
place typographic-quotes talk.mp4 ads/cafe.job/talk.mp4
place typographic-quotes voice.wav ads/cafe.job/voice.wav
place job-json-in-utf-16 talk.mp4 ads/cafe.job/talk.mp4
place job-json-in-utf-16 voice.wav ads/cafe.job/voice.wav
place hidden-suffix-of-job-json talk.mp4 ads/cafe.job/talk.mp4
place hidden-suffix-of-job-json voice.wav ads/cafe.job/voice.wav
place folder-without-job-suffix talk.mp4 ads/cafe/talk.mp4
place folder-without-job-suffix voice.wav ads/cafe/voice.wav
place thumbnail-for-happyhorse thumbnail.png ads/cafe.job/woman.png
place photo-too-large woman.png ads/cafe.job/woman.png # the test adds zeros to it
place seed-too-large woman.png ads/cafe.job/woman.png
place blank-prompt woman.png ads/cafe.job/woman.png
place no-prompt woman.png ads/cafe.job/woman.png
place wildcard-for-videos talk.mp4 ads/cafe.job/talk.mp4
place wildcard-for-videos voice.wav ads/cafe.job/voice.wav
place voice-for-happyhorse woman.png ads/cafe.job/woman.png
place voice-for-happyhorse voice.wav ads/cafe.job/voice.wav
place numbers-in-quotes woman.png ads/cafe.job/woman.png
place numbers-in-quotes voice.wav ads/cafe.job/voice.wav
place everything-at-once long.mp4 ads/cafe.job/talk.mp4
place everything-at-once voice.mp3 ads/cafe.job/voice.wav
place preset-for-other-media woman.png ads/woman.png
place preset-for-other-media voice.wav ads/woman.wav
place preset-with-media talk.mp4 ads/talk.mp4
place preset-with-media voice.wav ads/talk.wav
