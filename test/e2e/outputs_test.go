//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"crosstap/internal/collect/bus"
	"crosstap/internal/serve/api"
	"crosstap/internal/testkit"
)

// TestOutputs runs a server with outputs to Kafka and to NATS JetStream: every record that it collected arrives at both, and the books say so.
func TestOutputs(t *testing.T) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "flows"))
	must(t, err)
	t.Cleanup(kafka.Close)
	stream, err := bus.Serve("127.0.0.1:0", t.TempDir(), 1<<30)
	must(t, err)
	t.Cleanup(stream.Close)
	dir := t.TempDir()
	config := filepath.Join(dir, "crosstap.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `data: %s
http: 127.0.0.1:0
flows: [tcp://127.0.0.1:0]
outputs:
  - name: kafka
    kafka: {brokers: [%q], topic: flows}
  - name: stream
    jetstream: {servers: [%q], subject: crosstap.flows, stream: FLOWS, create: true}
`, filepath.Join(dir, "data"), kafka.ListenAddrs()[0], stream.URL()), 0o600))
	r := start(t, nil, "serve", "--config", config)
	flows, console := r.waitFor(`flows="?\[(\S+?)\]"? `), r.waitFor(`console=(http://[^ /]+)`)

	const n = 5000
	c, err := net.Dial("tcp", flows)
	must(t, err)
	_, err = c.Write(ipfixTemplate())
	must(t, err)
	for i := 0; i < n; i += 250 {
		_, err = c.Write(ipfixRecords(i, 250, time.Now().UnixMilli()))
		must(t, err)
	}
	must(t, c.Close())

	if got := kafkaRecords(t, kafka, n); got != n {
		t.Errorf("Kafka has %d records, want %d", got, n)
	}
	testkit.Eventually(t, "the stream has all records", func() bool { return streamRecords(t, stream.URL()) >= n })
	if got := streamRecords(t, stream.URL()); got != n {
		t.Errorf("the stream has %d records, want %d", got, n)
	}
	var st api.Status
	testkit.Eventually(t, "the books are closed", func() bool {
		return ask(t, console, "status", &st) && len(st.Outputs) == 2 && st.Outputs[0].Sent == n && st.Outputs[1].Sent == n
	})
	for _, o := range st.Outputs {
		if o.In != n || o.Held != 0 {
			t.Errorf("%+v", o)
		}
	}
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.exit(0)
}

// kafkaRecords reads n records of the topic, and counts them.
func kafkaRecords(t *testing.T, c *kfake.Cluster, n int) (got int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("flows"))
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for got < n {
		f := client.PollFetches(ctx)
		must(t, f.Err())
		got += f.NumRecords()
	}
	return got
}

// streamRecords adds up the records of all messages.
func streamRecords(t *testing.T, url string) (got int) {
	t.Helper()
	nc, err := nats.Connect(url)
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := js.Stream(ctx, "FLOWS")
	if err != nil {
		return 0
	}
	info, err := st.Info(ctx)
	must(t, err)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; seq++ {
		m, err := st.GetMsg(ctx, seq)
		must(t, err)
		k, err := strconv.Atoi(m.Header.Get("Crosstap-Records"))
		must(t, err)
		got += k
	}
	return got
}
