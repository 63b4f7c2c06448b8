//go:build !linux

package gateway

// extendedAttributes reports whether files in a folder can have extended attributes. On
// macOS, files of every file system can.
func extendedAttributes(string) bool { return true }
