package cpu

import (
	"errors"
	"fmt"
	"strings"

	"hearth/internal/device"
)

// A level is a set of kernels that some processors can run.
type level struct {
	name    string
	title   string // for people
	missing string // what this processor lacks for it; "" if nothing
	kernels kernels
}

func portableLevel() level { return level{name: "portable", title: "portable Go", kernels: portable()} }

// pickLevel chooses the named level, or the best one if name is empty. A level counts only when its kernels give right
// results here: what a processor announces is not always what it does. note tells of a level that was passed over.
func pickLevel(name string, all []level) (l level, note string, err error) {
	if name == "" {
		var notes []string
		for i := len(all) - 1; i > 0; i-- {
			err := all[i].usable()
			if err == nil {
				return all[i], strings.Join(notes, "; "), nil
			}
			if !errors.Is(err, device.ErrNotSupported) {
				notes = append(notes, err.Error())
			}
		}
		return all[0], strings.Join(notes, "; "), nil
	}
	var names []string
	for _, l := range all {
		if l.name == name {
			return l, "", l.usable()
		}
		names = append(names, l.name)
	}
	return level{}, "", fmt.Errorf("%q is no level of kernels for this processor: want %s", name, strings.Join(names, " or "))
}

// usable says why the level cannot be used, wrapping device.ErrNotSupported where the processor lacks something.
func (l *level) usable() error {
	if l.missing != "" {
		return device.Refuse(fmt.Errorf("%s needs %s, which this processor lacks", l.name, l.missing))
	}
	if err := selfTest(&l.kernels); err != nil {
		return fmt.Errorf("%s failed its self-test: %w", l.name, err)
	}
	return nil
}
