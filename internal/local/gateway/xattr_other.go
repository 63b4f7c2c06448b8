//go:build !linux

package gateway

// extendedAttributes reports whether files in a folder can have extended attributes. On
// macOS, they can on every file system.
func extendedAttributes(string) bool { return true }
