// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/sirupsen/logrus"
)

// maxLog is how many lines are kept for one answer; the library can be talkative.
const maxLog = 1000

type logLine struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// logKeeper collects what the library logs. With calls in several threads a line may come with
// another call's answer.
type logKeeper struct {
	lock  sync.Mutex
	lines []logLine
}

var kept logKeeper

func init() {
	logrus.SetOutput(io.Discard)
	logrus.AddHook(&kept)
	// An error that would end the process is an answer like any other.
	logrus.StandardLogger().ExitFunc = func(code int) {
		panic(fmt.Sprintf("the library wants to exit with status %d", code))
	}
}

func (keeper *logKeeper) Levels() []logrus.Level {
	return logrus.AllLevels
}

func (keeper *logKeeper) Fire(entry *logrus.Entry) error {
	keeper.lock.Lock()
	defer keeper.lock.Unlock()
	if len(keeper.lines) < maxLog {
		keeper.lines = append(keeper.lines, logLine{entry.Level.String(), entry.Message})
	}
	return nil
}

func drainLog() []logLine {
	kept.lock.Lock()
	defer kept.lock.Unlock()
	lines := kept.lines
	kept.lines = nil
	if lines == nil {
		lines = []logLine{}
	}
	return lines
}
