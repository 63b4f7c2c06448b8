// Package rapidtest runs property tests with a fixed seed, so that no test
// fails by chance.
package rapidtest

import (
	"flag"
	"os"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Check is rapid.Check with the same seed in every run. The flag -rapid.seed or the
// variable RAPID_SEED sets another seed; 0 stands for a random seed.
func Check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	fixSeed()
	rapid.Check(t, property)
}

// Seed returns the seed that is set for Check, for a test that makes its own random choices. If it
// is 0, Check uses a random seed instead, but Seed returns 0.
func Seed() uint64 {
	fixSeed()
	return flag.Lookup("rapid.seed").Value.(flag.Getter).Get().(uint64)
}

var fixSeed = sync.OnceFunc(func() {
	_, given := os.LookupEnv("RAPID_SEED")
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.seed" })
	if given {
		return
	}
	if err := flag.Set("rapid.seed", "1"); err != nil {
		panic(err) // rapid has renamed its flag
	}
})
