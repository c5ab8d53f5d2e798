// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"

	digest "github.com/opencontainers/go-digest"
)

// arguments are those of all calls; each uses the few it needs.
type arguments struct {
	Store     int64    `json:"store"`
	Stores    []string `json:"stores"`
	GraphRoot string   `json:"graph_root"`
	RunRoot   string   `json:"run_root"`
	Image     string   `json:"image"`
	Key       string   `json:"key"`
	Digest    string   `json:"digest"`
	Layer     string   `json:"layer"`
	Digests   bool     `json:"digests"`
}

// calls is everything that can be asked. Nothing here writes to an additional store, takes a
// lock for longer than the call, or enters a user namespace.
var calls map[string]func(arguments) (any, error)

func init() {
	calls = map[string]func(arguments) (any, error){
		"version":          version,
		"config":           config,
		"open":             open,
		"close":            closeOne,
		"close_all":        func(arguments) (any, error) { return closeAll(), nil },
		"images":           images,
		"layers":           layers,
		"lookup":           lookup,
		"images_by_digest": imagesByDigest,
		"big_data":         bigData,
		"image_size":       imageSize,
		"mount":            mount,
		"unmount":          unmount,
		"check":            check,
		// Only there to show that a panic comes back as an error.
		"panic": func(arguments) (any, error) { panic("asked to") },
	}
}

// kindedError is an error of our own, with the kind that the caller is told.
type kindedError struct {
	kind    string
	message string
}

func (err *kindedError) Error() string { return err.message }

func failed(kind, format string, values ...any) error {
	return &kindedError{kind, fmt.Sprintf(format, values...)}
}

func kindOf(err error) string {
	var ours *kindedError
	switch {
	case errors.As(err, &ours):
		return ours.kind
	case isUnknown(err):
		return "unknown"
	case errors.Is(err, os.ErrNotExist):
		return "missing"
	case errors.Is(err, os.ErrPermission):
		return "permission"
	}
	return "storage"
}

// Handles, not pointers, go to the caller: a stale one is an error and no crash.
var (
	storesLock sync.Mutex
	stores     = map[int64]Store{}
	lastStore  int64
)

func storeOf(args arguments) (Store, error) {
	storesLock.Lock()
	defer storesLock.Unlock()
	store, known := stores[args.Store]
	if !known {
		return nil, failed("request", "no open store has the number %d", args.Store)
	}
	return store, nil
}

func version(arguments) (any, error) {
	return map[string]any{
		"abi":     abi,
		"storage": storageVersion,
		"go":      runtime.Version(),
		"pid":     os.Getpid(),
	}, nil
}

func config(arguments) (any, error) {
	options, err := effectiveOptions()
	if err != nil {
		return nil, err
	}
	driverOptions := options.GraphDriverOptions
	if driverOptions == nil {
		driverOptions = []string{}
	}
	return map[string]any{
		"graph_root": options.GraphRoot,
		"run_root":   options.RunRoot,
		"driver":     options.GraphDriverName,
		"options":    driverOptions,
	}, nil
}

// open opens additional stores beside the graph root named, which is written to.
func open(args arguments) (any, error) {
	if args.GraphRoot == "" || args.RunRoot == "" || len(args.Stores) == 0 {
		return nil, failed("request", "open needs stores, graph_root and run_root")
	}
	options := StoreOptions{
		RunRoot:         args.RunRoot,
		GraphRoot:       args.GraphRoot,
		GraphDriverName: "overlay",
	}
	for _, path := range args.Stores {
		option := "overlay.imagestore=" + path
		options.GraphDriverOptions = append(options.GraphDriverOptions, option)
	}
	store, err := getStore(options)
	if err != nil {
		return nil, err
	}
	storesLock.Lock()
	defer storesLock.Unlock()
	for number, known := range stores {
		if known == store {
			return number, nil
		}
	}
	lastStore++
	stores[lastStore] = store
	return lastStore, nil
}

func closeOne(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	storesLock.Lock()
	delete(stores, args.Store)
	storesLock.Unlock()
	_, err = store.Shutdown(true)
	store.Free()
	return true, err
}

// closeAll closes every store and tells how many there were.
func closeAll() int {
	storesLock.Lock()
	numbers := make([]int64, 0, len(stores))
	for number := range stores {
		numbers = append(numbers, number)
	}
	storesLock.Unlock()
	for _, number := range numbers {
		_, _ = closeOne(arguments{Store: number})
	}
	return len(numbers)
}

type imageRecord struct {
	ID       string          `json:"id"`
	Digest   string          `json:"digest"`
	Names    []string        `json:"names"`
	Layer    string          `json:"layer"`
	Created  string          `json:"created"`
	BigData  []bigDataRecord `json:"big_data"`
	ReadOnly bool            `json:"read_only"`
}

type bigDataRecord struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

func images(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	all, err := store.Images()
	if err != nil {
		return nil, err
	}
	records := make([]imageRecord, 0, len(all))
	for _, image := range all {
		record := imageRecord{
			ID:       image.ID,
			Digest:   image.Digest.String(),
			Names:    append([]string{}, image.Names...),
			Layer:    image.TopLayer,
			Created:  image.Created.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"),
			BigData:  []bigDataRecord{},
			ReadOnly: image.ReadOnly,
		}
		sort.Strings(record.Names)
		for _, key := range image.BigDataNames {
			item := bigDataRecord{key, image.BigDataSizes[key], image.BigDataDigests[key].String()}
			record.BigData = append(record.BigData, item)
		}
		records = append(records, record)
	}
	return records, nil
}

type layerRecord struct {
	ID               string `json:"id"`
	Parent           string `json:"parent"`
	DiffDigest       string `json:"diff_digest"`
	DiffSize         int64  `json:"diff_size"`
	CompressedDigest string `json:"compressed_digest"`
	CompressedSize   int64  `json:"compressed_size"`
	Compression      int    `json:"compression"`
	ReadOnly         bool   `json:"read_only"`
}

func layers(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	all, err := store.Layers()
	if err != nil {
		return nil, err
	}
	records := make([]layerRecord, 0, len(all))
	for _, layer := range all {
		records = append(records, layerRecord{
			ID:               layer.ID,
			Parent:           layer.Parent,
			DiffDigest:       layer.UncompressedDigest.String(),
			DiffSize:         layer.UncompressedSize,
			CompressedDigest: layer.CompressedDigest.String(),
			CompressedSize:   layer.CompressedSize,
			Compression:      int(layer.CompressionType),
			ReadOnly:         layer.ReadOnly,
		})
	}
	return records, nil
}

// lookup finds the ID of an image by a name or by (the beginning of) an ID.
func lookup(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	image, err := store.Image(args.Image)
	if err != nil {
		return nil, err
	}
	return image.ID, nil
}

// imagesByDigest finds the IDs of the images with a manifest of the digest.
func imagesByDigest(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	wanted, err := digest.Parse(args.Digest)
	if err != nil {
		return nil, failed("request", "%q is not a digest: %v", args.Digest, err)
	}
	found, err := store.ImagesByDigest(wanted)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, image := range found {
		ids = append(ids, image.ID)
	}
	return ids, nil
}

// bigData is the content of an item, in base64 as encoding/json writes bytes.
func bigData(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	content, err := store.ImageBigData(args.Image, args.Key)
	if content == nil {
		content = []byte{}
	}
	return content, err
}

func imageSize(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	return store.ImageSize(args.Image)
}

// mount mounts an image under a new layer of its own in the graph root: MountImage refuses
// images of additional stores.
func mount(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	image, err := store.Image(args.Image)
	if err != nil {
		return nil, err
	}
	layer, err := store.CreateLayer("", image.TopLayer, nil, "", true, nil)
	if err != nil {
		return nil, err
	}
	path, err := store.Mount(layer.ID, "")
	if err != nil {
		if again := store.DeleteLayer(layer.ID); again != nil {
			err = fmt.Errorf("%w (and its layer remains: %v)", err, again)
		}
		return nil, err
	}
	return map[string]any{"layer": layer.ID, "path": path}, nil
}

func unmount(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	if _, err := store.Unmount(args.Layer, true); err != nil {
		return nil, err
	}
	return true, store.DeleteLayer(args.Layer)
}
