// SPDX-License-Identifier: Apache-2.0

//go:build storage_1_43

package main

import (
	"errors"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
)

type (
	Store        = storage.Store
	StoreOptions = storage.StoreOptions
)

func effectiveOptions() (StoreOptions, error) {
	return storage.DefaultStoreOptionsAutoDetectUID()
}

func check(arguments) (any, error) {
	return nil, failed("unsupported", "containers/storage %s can't check a store", storageVersion)
}

func reexecuted() bool { return reexec.Init() }

func getStore(options StoreOptions) (Store, error) { return storage.GetStore(options) }

func isUnknown(err error) bool {
	return errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrLayerUnknown)
}
