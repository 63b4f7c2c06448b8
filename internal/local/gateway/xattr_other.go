//go:build !linux

package gateway

// extendedAttributes says whether files in a folder can have them. macOS keeps
// them on every file system, beside the file where it must.
func extendedAttributes(string) bool { return true }
