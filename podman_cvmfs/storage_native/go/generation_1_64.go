// SPDX-License-Identifier: Apache-2.0

//go:build storage_1_64

package main

import (
	"errors"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
)

type (
	Store        = storage.Store
	StoreOptions = storage.StoreOptions
	CheckOptions = storage.CheckOptions
)

func effectiveOptions() (StoreOptions, error) { return storage.DefaultStoreOptions() }

func reexecuted() bool { return reexec.Init() }

func getStore(options StoreOptions) (Store, error) { return storage.GetStore(options) }

func isUnknown(err error) bool {
	return errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrLayerUnknown)
}
