package main

import (
	"context"
	"strings"
)

// tuned returns rclone copyto under different flags.
func tuned(ctx context.Context, s *stack) ([]tool, error) {
	if err := s.buildRclone(ctx); err != nil {
		return nil, err
	}
	var all []tool
	for _, flags := range []string{
		"--multi-thread-streams 4 --multi-thread-cutoff 256Mi", // as it comes
		"--multi-thread-streams 4 --multi-thread-cutoff 0",
		"--multi-thread-streams 8 --multi-thread-cutoff 0 --s3-chunk-size 8Mi",
		"--multi-thread-streams 16 --multi-thread-cutoff 0 --s3-chunk-size 8Mi",
		"--multi-thread-streams 32 --multi-thread-cutoff 0 --s3-chunk-size 8Mi",
		"--multi-thread-streams 8 --multi-thread-cutoff 0 --s3-chunk-size 16Mi",
		"--multi-thread-streams 16 --multi-thread-cutoff 0 --s3-chunk-size 16Mi",
		"--multi-thread-streams 16 --multi-thread-cutoff 0 --s3-chunk-size 8Mi --buffer-size 0",
	} {
		all = append(all, tool{name: strings.ReplaceAll(flags, "--", ""), about: "rclone copyto", copy: rcloneCopyto(strings.Fields(flags))})
	}
	return all, nil
}
