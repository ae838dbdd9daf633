package bus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/encoding/protowire"

	"crosstap/internal/collect/internal/protocheck"
	"crosstap/internal/collect/output"
	"crosstap/internal/testkit"
)

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, "flows")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// kafkaSink returns a sink that produces to the cluster.
func kafkaSink(t *testing.T, c *kfake.Cluster, change func(*KafkaConfig)) *Kafka {
	t.Helper()
	cfg := DefaultKafkaConfig()
	cfg.Brokers, cfg.Topic, cfg.Linger = c.ListenAddrs(), "flows", time.Millisecond
	if change != nil {
		change(&cfg)
	}
	k, err := NewKafka(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// consume reads n records of the topic.
func consume(t *testing.T, c *kfake.Cluster, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("flows"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		f := client.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(out), n, err)
		}
		out = append(out, f.Records()...)
	}
	return out
}

// What is sent arrives once, and protoc's reading of the format decodes it; records of one exporter are in one partition, in order.
func TestKafka(t *testing.T) {
	file := protocheck.Flow(t)
	f := func(compression, acks string) {
		t.Helper()
		c := cluster(t)
		r := run(t, t.Context(), kafkaSink(t, c, func(k *KafkaConfig) { k.Key, k.Compression, k.Acks = ByExporter, compression, acks }))
		for i := range 4 {
			r.in <- records(i*250, 250)
		}
		r.end(t, 1000, 0)
		partition, last, seen := map[string]int32{}, map[string]int{}, map[int]bool{}
		for _, m := range consume(t, c, 1000) {
			flow := file.Read(t, "Flow", m.Value)
			v, _ := flow["src_port"].(float64) // 0 is left out
			n := int(v)
			if seen[n] || flow["packets"] != fmt.Sprint(n+1) || flow["observer"] != "port1" || string(m.Key) != fmt.Sprintf("192.0.2.%d", 1+n%2) {
				t.Fatalf("%s: %+v", m.Key, flow)
			}
			seen[n] = true
			if p, ok := partition[string(m.Key)]; ok && p != m.Partition || ok && last[string(m.Key)] > n {
				t.Fatalf("%s is in partitions %d and %d, %d after %d", m.Key, p, m.Partition, n, last[string(m.Key)])
			}
			partition[string(m.Key)], last[string(m.Key)] = m.Partition, n
		}
		if st := r.State(); st.Messages != 1000 || st.Bytes == 0 {
			t.Errorf("%+v", st)
		}
	}
	f("zstd", "all")
	f("lz4", "leader")
	f("none", "all")
}

// goflow2's message has its length before it, as goflow2 itself sends it.
func TestKafkaGoflow2(t *testing.T) {
	file := protocheck.Goflow2(t)
	c := cluster(t)
	r := run(t, t.Context(), kafkaSink(t, c, func(k *KafkaConfig) { k.Format, k.Key = Goflow2, NoKey }))
	r.in <- records(0, 1)
	r.end(t, 1, 0)
	m := consume(t, c, 1)[0]
	body, n := protowire.ConsumeBytes(m.Value)
	if n != len(m.Value) || len(m.Key) != 0 {
		t.Fatalf("%d of %d bytes, key %q", n, len(m.Value), m.Key)
	}
	want := map[string]any{
		"type": "IPFIX", "sampling_rate": "1", "sampler_address": "wAACAQ==", "src_addr": "CgAAAQ==", "dst_addr": "CgAAAg==", "bytes": "60", "packets": "1", "proto": 17.,
		"dst_port": 53., "time_received_ns": "1772600769000000000", "time_flow_start_ns": "1772600767000000000", "time_flow_end_ns": "1772600768000000000",
	}
	if diff := cmp.Diff(want, file.Read(t, "FlowMessage", body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A broker that fails after it has stored a batch is asked again, and stores it once.
func TestKafkaRetries(t *testing.T) {
	c := cluster(t)
	failures := 0
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if failures++; failures > 2 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse) //nolint:forcetypeassert // of a produce request
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.NotLeaderForPartition.Code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
	r := run(t, t.Context(), kafkaSink(t, c, nil))
	r.in <- records(0, 100)
	r.end(t, 100, 0)
	if got := len(consume(t, c, 100)); got != 100 || failures < 3 {
		t.Errorf("%d records, %d requests", got, failures)
	}
}

// Without a broker nothing grows: the sink's buffer fills, the output's queue fills, and the rest is counted as dropped. The line
// is never held up, and at the end everything is in the books.
func TestKafkaAway(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := DefaultKafkaConfig()
	cfg.Brokers, cfg.Topic, cfg.Buffer = []string{"127.0.0.1:1"}, "flows", 200
	k, err := NewKafka(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o, err := output.New(output.Config{Name: "away", Queue: 500}, k)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { o.Run(ctx); close(done) }()
	for i := range 100 {
		o.Offer(records(i*100, 100), time.Now().UnixNano())
	}
	for deadline := time.Now().Add(time.Minute); k.State().Error == "" && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	s := o.Status(time.Now().Add(time.Minute).UnixNano())
	if s.Book.In != 10000 || s.Book.Out != 0 || s.Book.Held > 900 || s.Lag < time.Minute || s.State.Error == "" {
		t.Errorf("%+v", s)
	}
	o.Close()
	cancel()
	<-done
	s = o.Status(0)
	if err := s.Book.Balance(); err != nil || s.Book.Held != 0 {
		t.Errorf("%v: %+v", err, s.Book)
	}
}
