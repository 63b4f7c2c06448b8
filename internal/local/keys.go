package local

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/private"
	"github.com/lipdrop/lipdrop/internal/template"
)

// Keys are the credentials of a local stack. They are random for each state folder,
// and only the owner of the folder can read them.
type Keys struct {
	// SecretKey is the secret key of AccessKey. With these two keys, a person may do
	// everything.
	SecretKey string `json:"secretKey"`

	// Functions are the secret keys of the functions. The access key of a function
	// is its name.
	Functions map[string]string `json:"functions"`

	// Token is the API token that the stack's secret holds and that the fake RunComfy accepts.
	Token string `json:"token"`

	// Outputs is the first part of the path of each output of the fake RunComfy. It is
	// secret: as at RunComfy, whoever knows the URL of an output can read the output.
	Outputs string `json:"outputs"`

	// Webhook is the secret in the header WebhookKeyHeader of each request to the URL
	// Options.Webhook.
	Webhook string `json:"webhook"`
}

func keysFile(dir string) string { return filepath.Join(dir, "keys.json") }

// ReadKeys reads the keys in a state folder.
func ReadKeys(dir string) (Keys, error) {
	var k Keys
	err := private.ReadJSON(keysFile(dir), &k)
	return k, err
}

// ensureKeys returns the keys in a state folder. It first adds the missing keys.
func ensureKeys(dir string) (Keys, error) {
	k, err := ReadKeys(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Keys{}, err
	}
	if k.Functions == nil {
		k.Functions = map[string]string{}
	}
	missing := false
	ensure := func(key string) string {
		if key != "" {
			return key
		}
		missing = true
		return rand.Text()
	}
	k.SecretKey, k.Token, k.Outputs, k.Webhook = ensure(k.SecretKey), ensure(k.Token), ensure(k.Outputs), ensure(k.Webhook)
	for name := range template.LogicalIDs {
		k.Functions[name] = ensure(k.Functions[name])
	}
	if !missing {
		return k, nil
	}
	return k, private.Replace(keysFile(dir), bucket.JSON(k, "  "), 0o600)
}
