package client

import (
	"bytes"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func uploadOf(key string, text []byte) *Upload {
	return &Upload{File: drop.File{Key: key, Size: int64(len(text))}, Open: Bytes(text)}
}

// estimatedMP3 returns an MP3 file whose length can only be estimated: its bit rate changes, and
// it has too many frames to count them.
func estimatedMP3() []byte {
	frame := func(rate byte, size int) []byte {
		return append([]byte{0xff, 0xfb, rate | 8, 0xc0}, make([]byte, size-4)...) // 32 kHz: 36 ms
	}
	slow, fast := frame(0x10, 144), frame(0x50, 288)
	var sound []byte
	for i := range 100 {
		sound = append(sound, bytes.Repeat(slow, 100)...)
		sound = append(sound, bytes.Repeat(fast, 40+i)...)
	}
	return sound
}

// The bundle that BundlePairs makes of a pair has each warning about the pair once. It has no
// warning about presets, because presets do not count for a pair with a chosen model.
func TestBundlePairsKeepsWarnings(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	var face bytes.Buffer
	if err := png.Encode(&face, image.NewGray(image.Rect(0, 0, 512, 512))); err != nil {
		t.Fatal(err)
	}
	d := &Drop{Client: newClient(new(s3test.Bucket)), Resolver: drop.Resolver{Catalog: models}, Uploads: map[string]*Upload{}}
	folder := "inbox/" + strings.Repeat("a/", 100) // too many to search each for a preset: without a chosen model, the pair gets a warning
	for _, u := range []*Upload{uploadOf(folder+"talk.png", face.Bytes()), uploadOf(folder+"talk.mp3", estimatedMP3())} {
		d.Uploads[u.Key] = u
	}
	if _, _, err := d.BundlePairs(t.Context(), drop.Choice{Model: "community/live-avatar"}, true); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.Jobs) != 1 || !d.Jobs[0].Starts {
		t.Fatalf("jobs %+v, want one that starts", d.Jobs)
	}
	got := d.Jobs[0].Warnings
	if len(got) != 2 || !strings.HasPrefix(got[0], "the length of talk.mp3, about ") || !strings.Contains(got[1], "set num_clips if the voice is longer") {
		t.Errorf("warnings %q, want one about the estimate and one about num_clips", got)
	}
}
