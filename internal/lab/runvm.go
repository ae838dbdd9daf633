package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"crosstap/internal/lab/vm"
	"crosstap/internal/obs"
)

// RunVM is the body of a VM's process: it runs the programs that VMEnv describes until ctx ends and then writes
// their vm.Report to out.
func RunVM(ctx context.Context, out io.Writer) error {
	text := os.Getenv(VMEnv)
	if text == "" {
		return errors.New("lab vm: it is started by the demo, not by hand")
	}
	cfg, err := vm.Parse([]byte(text))
	if err != nil {
		return err
	}
	v, err := vm.New(cfg)
	if err != nil {
		return err
	}
	report, err := v.Run(ctx, func() error { return obs.Notify("READY=1") })
	if err != nil {
		return fmt.Errorf("lab vm: %s: %w", cfg.Name, err)
	}
	return json.NewEncoder(out).Encode(report)
}
