package controlapi

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// ReadInventory reads the inventory of the Platform resources in files, without a control line. A platform that does not answer is in
// the answer with its error.
func ReadInventory(ctx context.Context, files []File, log *slog.Logger) (Inventory, error) {
	doc, connect := Inventory{Platforms: []Platform{}}, Connect(log)
	for _, f := range files {
		set, err := policy.Parse(f.Name, []byte(f.Text))
		if err != nil {
			return doc, err
		}
		for _, r := range set.Platforms {
			one, err := readPlatform(ctx, r, connect)
			if err != nil {
				return doc, err
			}
			doc.Platforms = append(doc.Platforms, one)
		}
	}
	return doc, nil
}

func readPlatform(ctx context.Context, r *policy.Platform, connect func(*policy.Platform) (platform.Platform, error)) (Platform, error) {
	p, err := connect(r)
	if err != nil {
		return Platform{}, err
	}
	s, err := p.Read(ctx)
	if err != nil {
		s = platform.NewSnapshot(r.Name)
		s.Lost, s.AtNS = err, time.Now().UnixNano()
	}
	if c, ok := p.(interface{ Close() error }); ok {
		err = c.Close()
	} else {
		err = nil
	}
	return view(s), errors.Join(err)
}
