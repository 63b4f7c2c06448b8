package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// blockSize is no multiple of any part size, so that no two parts are alike
// and a part in another's place shows.
const blockSize = 1<<20 + 13

// content is a playable MP4 of any length from one megabyte on, which takes no
// memory but one block: a clip, then a box that players pass over, full of random
// bytes. It is the same in every process.
type content struct {
	size  int64
	head  []byte
	block []byte
}

func newContent(size int64) *content {
	clip := theClip()
	head := slices.Grow(slices.Clip(clip), 16)
	head = binary.BigEndian.AppendUint32(head, 1) // the length follows the name
	head = append(head, "free"...)
	head = binary.BigEndian.AppendUint64(head, uint64(size-int64(len(clip))))
	return &content{size: size, head: head, block: randomBlock()}
}

var theClip = sync.OnceValue(func() []byte {
	clip, _ := sample.Files()
	return clip
})

var randomBlock = sync.OnceValue(func() []byte {
	block := make([]byte, blockSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(block) // never fails
	return block
})

// from returns bytes that begin at an offset: at least one of those up to end,
// and as many as lie together.
func (c *content) from(offset, end int64) []byte {
	piece := c.head
	if offset < int64(len(c.head)) {
		piece = piece[offset:]
	} else {
		piece = c.block[(offset-int64(len(c.head)))%blockSize:]
	}
	return piece[:min(int64(len(piece)), end-offset)]
}

// compare returns an error unless a file is this content, byte for byte.
func (c *content) compare(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != c.size {
		return fmt.Errorf("%d bytes in place of %d", info.Size(), c.size)
	}
	buf := make([]byte, blockSize)
	for offset := int64(0); offset < c.size; {
		want := c.from(offset, c.size)
		if _, err := io.ReadFull(file, buf[:len(want)]); err != nil {
			return err
		}
		if !bytes.Equal(buf[:len(want)], want) {
			return fmt.Errorf("other bytes after offset %d", offset)
		}
		offset += int64(len(want))
	}
	return nil
}
