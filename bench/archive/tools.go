package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lipdrop/lipdrop/internal/local"
)

// A copying is one copy of a file into the bucket.
type copying struct {
	number int // counts all of a run
	source source
	size   int64
	url    string
}

// key is where the other tools put the file.
func (c copying) key() string { return fmt.Sprintf("out/%d/talk.mp4", c.number) }

// A tool is what makes copies. It returns the key that it made.
type tool struct {
	name  string
	about string
	copy  func(context.Context, *stack, copying) (cost, string, error)
}

// The names of the two that are no peers.
const (
	ours  = "lipdrop"
	limit = "the limit"
)

// curlAWS is the peer that need not be there.
const curlAWS = "curl, aws"

// tools returns the tools of the given names, all where there are none, and
// says which are not there.
func tools(ctx context.Context, s *stack, names []string) ([]tool, error) {
	all := []tool{
		{ours, "the archive function, from its cold start to its status", runFunction},
		{"rclone copyto", "rclone's http backend: " + strings.Join(bestRclone, " "), rcloneCopyto(bestRclone)},
		{"rclone copyurl", "as it is", rcloneCopyurl},
		{"manager", "feature/s3/manager, a plain streamed body, as it is", role("stream")},
		{curlAWS, "curl | aws s3 cp -, as they are", runCurlAWS},
		{limit, "ranges side by side into memory, multipart, no hash", role("limit")},
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(t tool) bool { return t.name == name }) {
			return nil, fmt.Errorf("no tool %q", name)
		}
	}
	if len(names) > 0 {
		all = slices.DeleteFunc(all, func(t tool) bool { return !slices.Contains(names, t.name) })
	}
	if slices.ContainsFunc(all, func(t tool) bool { return strings.HasPrefix(t.name, "rclone") }) {
		if err := s.buildRclone(ctx); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(t tool) bool { return t.name == curlAWS && !installed("curl", "aws") }), nil
}

// installed reports whether programs are there, and says which are not.
func installed(programs ...string) bool {
	all := true
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			say("left out: " + err.Error())
			all = false
		}
	}
	return all
}

// rclonePackage is pinned as a tool in go.mod.
const rclonePackage = "github.com/rclone/rclone"

// bestRclone are the flags with which rclone copyto was fastest: see -tune.
var bestRclone = []string{"--multi-thread-streams", "16", "--multi-thread-cutoff", "0", "--s3-chunk-size", "8Mi", "--s3-upload-concurrency", "16"}

// oneThread is for a source that answers a range with the whole file. With more
// threads the object that rclone 1.76.0 made here was not the file, and it said
// nothing.
var oneThread = []string{"--multi-thread-streams", "0"}

// buildRclone makes rclone's program, the first time.
func (s *stack) buildRclone(ctx context.Context) error {
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", rclonePackage).Output()
	if err != nil {
		return fmt.Errorf("the version of rclone: %w", err)
	}
	s.rclone = filepath.Join(s.programs, "rclone-"+strings.TrimSpace(string(version)))
	if _, err := os.Stat(s.rclone); err == nil {
		return nil
	}
	say("building rclone: once, for some minutes")
	partial := s.rclone + ".partial"
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", partial, rclonePackage).CombinedOutput(); err != nil {
		return fmt.Errorf("build rclone: %w: %s", err, out)
	}
	return os.Rename(partial, s.rclone)
}

// rcloneCopyto returns a copy by rclone copyto under the given flags.
func rcloneCopyto(flags []string) func(context.Context, *stack, copying) (cost, string, error) {
	return func(ctx context.Context, s *stack, c copying) (cost, string, error) {
		slash := strings.LastIndexByte(c.url, '/') + 1
		env := s.rcloneEnvironment()
		env["RCLONE_CONFIG_SRC_TYPE"], env["RCLONE_CONFIG_SRC_URL"] = "http", c.url[:slash]
		args := append([]string{"copyto", "src:" + c.url[slash:], "dst:" + local.Bucket + "/" + c.key()}, flags...)
		if !c.source.ranges {
			args = append(args, oneThread...)
		}
		spent, err := run(ctx, command(env, s.rclone, args...))
		return spent, c.key(), err
	}
}

func rcloneCopyurl(ctx context.Context, s *stack, c copying) (cost, string, error) {
	spent, err := run(ctx, command(s.rcloneEnvironment(), s.rclone, "copyurl", c.url, "dst:"+local.Bucket+"/"+c.key()))
	return spent, c.key(), err
}

// rcloneEnvironment has the S3 server as the remote dst.
func (s *stack) rcloneEnvironment() map[string]string {
	env := s.environment()
	maps.Copy(env, map[string]string{
		"RCLONE_CONFIG":                      filepath.Join(s.dir, "rclone.conf"),
		"RCLONE_CONFIG_DST_TYPE":             "s3",
		"RCLONE_CONFIG_DST_PROVIDER":         "Other",
		"RCLONE_CONFIG_DST_ENV_AUTH":         "true",
		"RCLONE_CONFIG_DST_ENDPOINT":         s.s3URL,
		"RCLONE_CONFIG_DST_REGION":           local.Region,
		"RCLONE_CONFIG_DST_NO_CHECK_BUCKET":  "true",
		"RCLONE_CONFIG_DST_FORCE_PATH_STYLE": "true",
		"RCLONE_CA_CERT":                     s.certs.CA,
		"RCLONE_RETRIES":                     "1", // an error is to show
		"RCLONE_LOG_LEVEL":                   "ERROR",
		"RCLONE_STATS":                       "0",
	})
	return env
}

func runCurlAWS(ctx context.Context, s *stack, c copying) (cost, string, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return cost{}, "", err
	}
	get := command(s.environment(), "curl", "--silent", "--show-error", "--fail", "--cacert", s.certs.CA, c.url)
	get.Stdout = in
	put := command(s.environment(), "aws", "s3", "cp", "--quiet", "-", "s3://"+local.Bucket+"/"+c.key())
	put.Stdin = out
	spent, err := run(ctx, get, put)
	return spent, c.key(), err
}

// role copies by a role of this program.
func role(name string) func(context.Context, *stack, copying) (cost, string, error) {
	return func(ctx context.Context, s *stack, c copying) (cost, string, error) {
		cmd, err := self(name, c.url, local.Bucket, c.key(), strconv.FormatInt(c.size, 10), strconv.Itoa(c.source.many))
		if err != nil {
			return cost{}, "", err
		}
		cmd.Env = list(s.environment())
		spent, err := run(ctx, cmd)
		return spent, c.key(), err
	}
}

func command(env map[string]string, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = list(env)
	return cmd
}

func list(env map[string]string) []string {
	var all []string
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}
