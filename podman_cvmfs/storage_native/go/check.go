// SPDX-License-Identifier: Apache-2.0

//go:build !storage_1_43

package main

// check has the library examine the stores. Of an additional store it reads layers' and images'
// data items; with digests also every layer's files, which it packs again as they were pulled.
func check(args arguments) (any, error) {
	store, err := storeOf(args)
	if err != nil {
		return nil, err
	}
	report, err := store.Check(&CheckOptions{
		LayerDigests: args.Digests,
		LayerData:    true,
		ImageData:    true,
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"layers": texts(report.Layers, report.ROLayers),
		"images": texts(report.Images, report.ROImages),
	}, nil
}

func texts(reports ...map[string][]error) map[string][]string {
	found := map[string][]string{}
	for _, report := range reports {
		for id, problems := range report {
			for _, problem := range problems {
				found[id] = append(found[id], problem.Error())
			}
		}
	}
	return found
}
