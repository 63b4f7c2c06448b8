#!/bin/sh
# Makes the samples of this folder with ffmpeg, and figures.json, which says what
# ffprobe finds in them. Run it in this folder; the Go command must be on PATH.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make() { ffmpeg -v error -y -bitexact "$@"; }

picture='-f lavfi -i testsrc=size=64x48:rate=25'
sound='-f lavfi -i sine=frequency=330:sample_rate=44100'
codecs='-c:v libx264 -preset fast -crf 40 -pix_fmt yuv420p -g 25 -c:a aac -b:a 24k'
movie="$picture $sound -t 3 $codecs"

# MP4 and its relatives
make $movie moov-last.mp4
make $movie -movflags faststart moov-first.mp4
make $picture -t 2 -c:v libx264 -crf 40 -pix_fmt yuv420p video-only.m4v
make $sound -t 2.5 -c:a aac -b:a 24k audio-only.m4a
make $sound -t 2 -c:a aac -b:a 24k -f mp4 no-picture.mp4
make $picture -t 2 -c:v libx264 -crf 40 -pix_fmt yuv420p -f mp4 no-sound.m4a
make $picture $sound -t 1 -c:v mjpeg -q:v 30 -pix_fmt yuvj420p -c:a pcm_s16le -ar 8000 pcm.mov
make -ss 1.3 -i moov-last.mp4 -c copy cut-by-edit-list.mp4
make -i moov-last.mp4 -itsoffset 0.7 -i moov-last.mp4 -map 0:v -map 1:a -c copy late-sound.mp4
make -i moov-last.mp4 -use_editlist 0 -c copy no-edit-list.mp4
make -display_rotation 90 -i moov-last.mp4 -c copy rotated.mp4 2>/dev/null ||
	make -i moov-last.mp4 -c copy -metadata:s:v rotate=90 rotated.mp4
printf '1\n00:00:00,000 --> 00:00:02,500\nhello\n' >"$work/words.srt"
make -i moov-last.mp4 -i audio-only.m4a -i "$work/words.srt" -map 0 -map 1 -map 2 -c copy -c:s mov_text many-tracks.mp4
make -i moov-last.mp4 -c copy -movflags frag_keyframe+empty_moov fragmented.mp4
make -i moov-last.mp4 -c copy -movflags frag_keyframe+empty_moov+default_base_moof+skip_trailer fragmented-no-index.mp4
make -i moov-last.mp4 -c copy -movflags frag_keyframe fragmented-after-samples.mp4
make -i moov-last.mp4 -c copy -movflags frag_keyframe+delay_moov fragmented-edit-list.mp4
make -i moov-last.mp4 -c copy -movflags frag_keyframe+delay_moov+global_sidx+skip_trailer fragmented-sidx.mp4
make -i moov-last.mp4 -c copy -movflags dash+frag_keyframe+empty_moov fragmented-dash.mp4
make -i moov-last.mp4 -c copy -movflags cmaf+frag_keyframe fragmented-cmaf.mp4
make -i moov-last.mp4 -an -c copy -movflags frag_every_frame+empty_moov fragmented-every-frame.mp4
make -i audio-only.m4a -c copy -movflags frag_keyframe+empty_moov -frag_duration 300000 fragmented.m4a

# WAV
voice='-f lavfi -i sine=frequency=220:sample_rate=8000 -t 1.3'
make $voice pcm.wav
make $voice -ac 2 -c:a pcm_s24le pcm24-stereo.wav
make $voice -c:a pcm_f32le float.wav
make $voice -c:a pcm_u8 odd-bytes.wav
make $voice -c:a pcm_alaw alaw.wav
make $voice -c:a adpcm_ms adpcm-ms.wav
make $voice -c:a adpcm_ima_wav adpcm-ima.wav
make $voice -rf64 always rf64.wav
make $voice -t 0.5 -af 'pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0' extensible.wav
ffmpeg -v error -y $voice -metadata title=before-the-sound tagged.wav
ffmpeg -v error $voice -f wav - | cat >streamed.wav

# MP3
make $sound -t 3 -c:a libmp3lame -b:a 32k cbr.mp3
make $sound -t 3 -c:a libmp3lame -q:a 7 vbr.mp3
make $sound -t 3 -c:a libmp3lame -b:a 32k -write_xing 0 -id3v2_version 0 cbr-no-header.mp3
make $sound -t 3 -c:a libmp3lame -b:a 32k -ar 22050 mpeg2.mp3
make $sound -t 3 -c:a libmp3lame -b:a 16k -ar 11025 mpeg25.mp3
make $sound -t 3 -c:a mp2 -b:a 32k -ac 1 -f mp2 layer2.mp3
make -f lavfi -i testsrc=size=320x240 -frames:v 1 "$work/cover.png"
make -i cbr.mp3 -i "$work/cover.png" -map 0 -map 1 -c copy -id3v2_version 3 -write_id3v1 1 -metadata title=tagged tagged.mp3

# Images
make $picture -frames:v 1 picture.jpg
make $picture -frames:v 1 picture.png
make $picture -frames:v 1 -c:v libwebp -lossless 0 lossy.webp
make $picture -frames:v 1 -c:v libwebp -lossless 1 lossless.webp
make -f lavfi -i color=red@0.5:size=64x48,format=rgba -frames:v 1 -c:v libwebp -lossless 0 alpha.webp
make $picture -t 0.2 -c:v libwebp_anim moving.webp

# Forms that are not read
make $picture -t 0.4 -c:v libvpx -b:v 20k small.webm
make $picture -t 0.4 -c:v libx264 -crf 40 -pix_fmt yuv420p small.mkv
make $picture -t 0.4 -c:v mjpeg -q:v 30 -pix_fmt yuvj420p small.avi
make $sound -t 0.4 -c:a libvorbis small.ogg
make $sound -t 0.4 -c:a libopus -b:a 16k small.opus
make $sound -t 0.4 -c:a flac small.flac
make $sound -t 0.4 -c:a aac -b:a 24k small.aac

UPDATE_GOLDEN=1 go test .. -run TestSamples
