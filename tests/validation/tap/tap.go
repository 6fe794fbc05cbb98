// Package tap writes what the Test Anything Protocol, version 13, wants. It has the part of mndrix/tap-go's interface
// that the validation programs use: Debian has no package of that one.
package tap

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// T counts the points of one program. A T of Todo counts on the one that it came from.
type T struct {
	points *int
	todo   bool
}

func New() *T {
	return &T{points: new(int)}
}

// Header begins. A plan of 0 is written at the end, by AutoPlan.
func (t *T) Header(plan int) {
	fmt.Println("TAP version 13")
	if plan > 0 {
		fmt.Printf("1..%d\n", plan)
	}
}

func (t *T) AutoPlan() {
	fmt.Printf("1..%d\n", *t.points)
}

func (t *T) point(ok bool, directive, text string) {
	*t.points++
	not := ""
	if !ok {
		not = "not "
	}
	if t.todo {
		directive = "# TODO "
	}
	fmt.Printf("%sok %d %s%s\n", not, *t.points, directive, text)
}

// Ok tells what it was given.
func (t *T) Ok(ok bool, text string) bool {
	t.point(ok, "- ", text)
	return ok
}

func (t *T) Pass(text string) {
	t.point(true, "- ", text)
}

func (t *T) Fail(text string) {
	t.point(false, "- ", text)
}

func (t *T) Skip(points int, text string) {
	for ; points > 0; points-- {
		t.point(true, "# SKIP ", text)
	}
}

// Todo is for points that may fail.
func (t *T) Todo() *T {
	return &T{points: t.points, todo: true}
}

func (t *T) Diagnostic(text string) {
	fmt.Println("# " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n# "))
}

func (t *T) Diagnosticf(format string, a ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, a...))
}

// YAML says more about the last point. JSON is YAML.
func (t *T) YAML(about interface{}) error {
	text, err := json.MarshalIndent(about, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "  ---\n  %s\n  ...\n", text)
	return nil
}
