// SPDX-License-Identifier: Apache-2.0

// A window onto containers/storage for podman_cvmfs.storage_native.
//
// One package, two artefacts: a shared library with the three functions exported below, and
// (-buildmode=pie) a program that answers the same requests line by line on standard input.
// Requests and answers are JSON:
//
//	{"call": "images", "arguments": {"store": 1}}
//	{"result": [..], "log": [{"level", "message"}]}
//	{"error": {"kind", "message"}, "log": [..]}
//
// generation_*.go holds what differs between versions of the library; a build tag chooses one.
package main

// #include <stdlib.h>
import "C"

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// abi is raised whenever a request, an answer or an exported function changes its meaning.
// podman_cvmfs/storage_native/artefact.py has the same number.
const abi = 1

// maxRequest is the size in bytes above which a request is refused.
const maxRequest = 16 << 20

// storageVersion is the version of containers/storage; the build sets it.
var storageVersion = "unknown"

type request struct {
	Call      string    `json:"call"`
	Arguments arguments `json:"arguments"`
}

type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

type answer struct {
	Result any       `json:"result,omitempty"`
	Error  *failure  `json:"error,omitempty"`
	Log    []logLine `json:"log"`
}

//export podman_cvmfs_abi
func podman_cvmfs_abi() C.int {
	return abi
}

// podman_cvmfs_call answers one request of the given length in bytes. The answer is a string of
// the caller's, to be freed with podman_cvmfs_free.
//
//export podman_cvmfs_call
func podman_cvmfs_call(text *C.char, length C.size_t) *C.char {
	if length > maxRequest {
		return C.CString(string(encode(nil, tooLarge())))
	}
	return C.CString(string(answerTo(C.GoBytes(unsafe.Pointer(text), C.int(length)))))
}

//export podman_cvmfs_free
func podman_cvmfs_free(text *C.char) {
	C.free(unsafe.Pointer(text))
}

func tooLarge() error {
	return failed("request", "a request of more than %d bytes", maxRequest)
}

func answerTo(text []byte) []byte {
	return encode(answered(text))
}

// answered decodes and does what is asked; a panic in the library becomes an error.
func answered(text []byte) (result any, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			result, err = nil, failed("panic", "%v", reason)
		}
	}()
	var asked request
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return nil, failed("request", "malformed request: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, failed("request", "malformed request: more than one document")
	}
	call, known := calls[asked.Call]
	if !known {
		return nil, failed("request", "unknown call %q", asked.Call)
	}
	return call(asked.Arguments)
}

func encode(result any, err error) []byte {
	reply := answer{Result: result, Log: drainLog()}
	if err != nil {
		reply.Result, reply.Error = nil, &failure{kindOf(err), err.Error()}
	}
	text, err := json.Marshal(reply)
	if err != nil {
		text, _ = json.Marshal(answer{Error: &failure{"encoding", err.Error()}, Log: []logLine{}})
	}
	return text
}

// serve answers the lines of input until it ends.
func serve(input io.Reader, output io.Writer) error {
	lines := bufio.NewReaderSize(input, maxRequest)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		var reply []byte
		if err == bufio.ErrBufferFull {
			for err == bufio.ErrBufferFull {
				_, err = lines.ReadSlice('\n')
			}
			reply = encode(nil, tooLarge())
		} else {
			reply = answerTo(line)
		}
		if err != nil {
			return err
		}
		if _, err := output.Write(append(reply, '\n')); err != nil {
			return err
		}
	}
}

func main() {
	// The library starts this program again for work in another root or namespace.
	if reexecuted() {
		return
	}
	// Whatever the library prints must not come between the answers.
	private, err := syscall.Dup(1)
	if err == nil {
		syscall.CloseOnExec(private)
		err = syscall.Dup3(2, 1, 0)
	}
	if err == nil {
		err = serve(os.Stdin, os.NewFile(uintptr(private), "answers"))
	}
	closeAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
