package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/config"
)

func TestEveryMistakeAtOnce(t *testing.T) {
	vars := map[string]string{"HOURS": "-1", "GIB": "many", "URL": "http://example.com", "SECRET_URL": "https://user:pw@example.com",
		"COUNT": "0", "PART": "1.5", "FOLDERS": "outbox/,inbox/cast", "CHOICE": "rejects", "LIMIT": "-2", "JOBS": "1.5"}
	env := config.Env{Getenv: func(name string) string { return vars[name] }}
	env.Text("BUCKET")
	env.Hours("HOURS")
	env.Hours("NO_HOURS")
	env.GiB("GIB")
	env.Count("COUNT")
	env.Count("PART")
	env.Limit("LIMIT")
	env.Limit("NO_LIMIT")
	env.CountLimit("JOBS")
	env.Folders("FOLDERS")
	env.Choice("CHOICE", "warn", "reject")
	env.BaseURL("URL")
	env.BaseURL("SECRET_URL")
	env.Mistake("MODEL", errors.New("there is no model x"))
	env.Mistake("OTHER", nil)
	want := `BUCKET: is not set
HOURS: "-1" is not a number above 0 and below 1,000,000
NO_HOURS: is not set
GIB: "many" is not a number above 0 and below 1,000,000
COUNT: "0" is not a number above 0 and below 1,000,000
PART: 1.5 is not a whole number
LIMIT: "-2" is not a number of at least 0 and below 1,000,000
NO_LIMIT: is not set
JOBS: 1.5 is not a whole number
FOLDERS: "outbox/" is not a folder such as inbox/shared/
FOLDERS: "inbox/cast" is not a folder such as inbox/shared/
CHOICE: "rejects" is not warn or reject
URL: must be https: the token would be sent unencrypted to example.com
SECRET_URL: is not the address of an API, such as https://model-api.runcomfy.net
MODEL: there is no model x`
	if diff := cmp.Diff(want, fmt.Sprint(env.Err())); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestClientsReportEveryMissingVariable(t *testing.T) {
	env := config.Env{Getenv: func(string) string { return "" }}
	env.Clients(t.Context())
	want := "BUCKET: is not set\nSTATE_MACHINE_ARN: is not set\nRUNCOMFY_TOKEN_SECRET: is not set\nRUNCOMFY_BASE_URL: is not set"
	if diff := cmp.Diff(want, fmt.Sprint(env.Err())); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	vars := map[string]string{"HOURS": "0.5", "GIB": "1.5", "LIST": " a, ,b ", "COUNT": "4", "OFF": "0.0", "USD": "0.5", "JOBS": "12", "FOLDERS": "inbox/cast/, inbox/", "CHOICE": "warn"}
	env := config.Env{Getenv: func(name string) string { return vars[name] }}
	got := []any{env.Hours("HOURS"), env.GiB("GIB"), env.Count("COUNT"), env.Limit("OFF"), env.CountLimit("OFF"), env.Limit("USD"), env.CountLimit("JOBS"), env.Folders("FOLDERS"), env.List("LIST"), env.Choice("CHOICE", "warn", "reject")}
	want := []any{30 * time.Minute, int64(3 << 29), 4, 0.0, 0, 0.5, 12, []string{"inbox/cast/", "inbox/"}, []string{"a", "b"}, "warn"}
	for _, ok := range []string{"https://model-api.runcomfy.net/", "http://127.0.0.1:80", "http://[::1]:80", "http://host.docker.internal:99", "http://localhost"} {
		vars["URL"] = ok
		got, want = append(got, env.BaseURL("URL")), append(want, strings.TrimSuffix(ok, "/"))
	}
	if diff := cmp.Diff(want, got); diff != "" || env.Err() != nil {
		t.Errorf("mistakes %v, want none; values (-want +got):\n%s", env.Err(), diff)
	}
}
