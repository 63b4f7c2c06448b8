package gateway

import (
	"os"
	"syscall"
)

// extendedAttributes reports whether files in a folder can have extended
// attributes.
func extendedAttributes(dir string) bool {
	file, err := os.CreateTemp(dir, ".xattr-")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(file.Name()) }()
	defer func() { _ = file.Close() }()
	return syscall.Setxattr(file.Name(), "user.lipdrop", []byte("1"), 0) == nil
}
