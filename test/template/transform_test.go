package template

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
)

// transformed returns the stack after the SAM transform. Without the sam command,
// the test is skipped or, in CI, fails.
func transformed(t *testing.T) stack {
	t.Helper()
	text, err := transform()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("the SAM transform needs the sam command (pip install aws-sam-cli): ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filled(t, text, nil)
}

// transform runs the SAM transform, which is part of the SAM CLI, offline. With --debug,
// sam validate prints the template after the transform.
var transform = sync.OnceValues(func() ([]byte, error) {
	sam, err := exec.LookPath("sam")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(sam, "validate", "--debug", "--region", "us-east-1", "--template-file", filepath.Join(root, "template.yaml"))
	cmd.Env = append(os.Environ(), "SAM_CLI_TELEMETRY=0", "AWS_EC2_METADATA_DISABLED=true", "NO_COLOR=1")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("sam validate: %w\n%s", err, said)
	}
	match := translation.FindSubmatch(said)
	if match == nil {
		return nil, fmt.Errorf("sam validate printed no template:\n%s", said)
	}
	return match[1], nil
})

// translation matches the template in the output of sam validate. The line after the
// template begins with the date, or says that the template is valid.
var translation = regexp.MustCompile(`(?s)Translated template is:\r?\n(.*?\n)(?:\d{4}-\d\d-\d\d |\S* is a valid SAM Template)`)

// forBothForms runs a test on the stack as it is written and after the transform.
func forBothForms(t *testing.T, test func(*testing.T, stack)) {
	t.Run("as written", func(t *testing.T) { test(t, written(t, nil)) })
	t.Run("after the transform", func(t *testing.T) { test(t, transformed(t)) })
}
