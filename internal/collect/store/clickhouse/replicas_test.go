package clickhouse

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"crosstap/internal/testkit"
)

// Debian's ClickHouse is of 2018. It replicates and has ON CLUSTER, but none of the types and settings below, so it runs our statements without
// them: engines, paths, macros, keys, shards and the views between tables are those that a cluster gets.
var tooNew = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`, INDEX \w+ \w+ TYPE bloom_filter\([\d.]+\) GRANULARITY \d+`), ""},
	{regexp.MustCompile(` CODEC\([^()]*(\([^()]*\))?[^()]*\)`), ""},
	{regexp.MustCompile(`LowCardinality\(String\)`), "String"},
	{regexp.MustCompile(`\bIPv6\b`), "FixedString(16)"},
	{regexp.MustCompile(`DateTime64\(3, 'UTC'\)|DateTime\('UTC'\)`), "DateTime"},
	{regexp.MustCompile(`toDateTime64\(.*\) AS hour`), "toStartOfHour(t_end) AS hour"},
	{regexp.MustCompile(`toUnixTimestamp64Milli\(hour\)`), "toUInt32(hour)"},
	{regexp.MustCompile(`TTL \S.*?(SETTINGS|$)`), "$1"},
	{regexp.MustCompile(`ttl_only_drop_parts = 1, `), ""},
}

// oldServers are two replicas of one shard, with a ZooKeeper.
type oldServers struct {
	dir  string
	port [2]int
	cmd  [2]*exec.Cmd
}

func (o *oldServers) start(t *testing.T, i int) {
	t.Helper()
	cmd := exec.Command("clickhouse-server", "--config-file="+filepath.Join(o.dir, fmt.Sprint(i), "config.xml"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.cmd[i] = cmd
	release := testkit.Guard(t, cmd.Process.Pid)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); release() })
	o.eventually(t, i, "SELECT 1", "1")
}

func (o *oldServers) ask(i int, query string) (string, error) {
	out, err := exec.Command("clickhouse-client", "--port", fmt.Sprint(o.port[i]), "--query", query).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (o *oldServers) must(t *testing.T, i int, query string) {
	t.Helper()
	if out, err := o.ask(i, query); err != nil {
		text, _ := os.ReadFile(filepath.Join(o.dir, fmt.Sprint(i), "err"))
		t.Fatalf("%s: %s\n%.2000s", query, out, text)
	}
}

func (o *oldServers) eventually(t *testing.T, i int, query, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if got, _ = o.ask(i, query); got == want {
			return
		}
	}
	t.Fatalf("replica %d: %s: %s, want %s", i, query, got, want)
}

func startOld(t *testing.T) *oldServers {
	t.Helper()
	const zookeeper = "/usr/share/java/zookeeper.jar"
	if os.Getenv("CROSSTAP_REPLICAS") == "" {
		t.Skip("two servers and a ZooKeeper: set CROSSTAP_REPLICAS=1, with Debian's packages clickhouse-server, clickhouse-client and zookeeper")
	}
	for _, tool := range []string{"clickhouse-server", "clickhouse-client", "java"} {
		testkit.Tool(t, tool)
	}
	o := &oldServers{dir: t.TempDir()}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(o.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keeper := testkit.Port(t)
	write("zoo.cfg", fmt.Sprintf("tickTime=2000\ndataDir=%s/zk\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", o.dir, keeper))
	zk := exec.Command("java", "-Xmx256m", "-cp", zookeeper, "-Dzookeeper.log.dir="+o.dir, "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(o.dir, "zoo.cfg"))
	if err := zk.Start(); err != nil {
		t.Fatal(err)
	}
	release := testkit.Guard(t, zk.Process.Pid)
	t.Cleanup(func() { _ = zk.Process.Kill(); _ = zk.Wait(); release() })
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", keeper))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("ZooKeeper does not start")
		}
	}
	write("users.xml", `<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>`)
	o.port = [2]int{testkit.Port(t), testkit.Port(t)}
	for i := range o.port {
		dir := filepath.Join(o.dir, fmt.Sprint(i))
		for _, name := range []string{"data", "tmp", "fmt"} {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write(fmt.Sprintf("%d/config.xml", i), fmt.Sprintf(`<yandex><logger><level>warning</level><log>%[1]s/log</log><errorlog>%[1]s/err</errorlog></logger>
<tcp_port>%[2]d</tcp_port><interserver_http_port>%[3]d</interserver_http_port><interserver_http_host>127.0.0.1</interserver_http_host><listen_host>127.0.0.1</listen_host>
<path>%[1]s/data/</path><tmp_path>%[1]s/tmp/</tmp_path><format_schema_path>%[1]s/fmt/</format_schema_path><users_config>%[4]s/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database><mark_cache_size>67108864</mark_cache_size>
<zookeeper><node><host>127.0.0.1</host><port>%[5]d</port></node></zookeeper><macros><shard>1</shard><replica>r%[6]d</replica></macros>
<remote_servers><main><shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>%[7]d</port></replica><replica><host>127.0.0.1</host><port>%[8]d</port></replica></shard></main></remote_servers>
<distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl></yandex>`, dir, o.port[i], testkit.Port(t), o.dir, keeper, i, o.port[0], o.port[1]))
		o.start(t, i)
		o.eventually(t, i, "SELECT count() FROM system.zookeeper WHERE path = '/' AND name = 'zookeeper'", "1")
	}
	return o
}

// TestReplicas runs the statements for a replicated cluster on two replicas: they make the tables on both by ON CLUSTER, what one stores the other has, also
// when it was away, rows and the counts that the view makes of them; and a block that comes again through the other replica is not stored twice.
func TestReplicas(t *testing.T) {
	o := startOld(t)
	d := ddl{Config{Database: "crosstap", Cluster: "main", Replicated: true, KeepFor: 30 * 24 * time.Hour, KeepRollups: 400 * 24 * time.Hour}}
	o.must(t, 0, "CREATE DATABASE IF NOT EXISTS `crosstap`"+d.on())
	made := 0
	for _, s := range append(d.made("migrations", "version UInt32", "MergeTree", "", "ORDER BY version", "version"), append(d.first(), d.second()...)...) {
		if strings.HasPrefix(s, "ALTER TABLE") {
			continue // of settings that are younger
		}
		for _, r := range tooNew {
			s = r.what.ReplaceAllString(s, r.with)
		}
		o.must(t, 0, s)
		made++
	}
	for i := range o.port {
		o.eventually(t, i, "SELECT count() FROM system.tables WHERE database = 'crosstap' AND name NOT LIKE '.%'", fmt.Sprint(made))
		o.eventually(t, i, "SELECT count() FROM system.replicas WHERE database = 'crosstap' AND total_replicas = 2 AND active_replicas = 2 AND NOT is_readonly AND position(zookeeper_path, '/clickhouse/tables/1/crosstap/') = 1",
			fmt.Sprint(made/2))
	}
	rows := func(from, n int) string {
		return fmt.Sprintf("(segment, flow_id, t_end, octets) SELECT 5001, number, toDateTime('2026-01-02 03:00:00') + number, 100 FROM (SELECT number FROM system.numbers LIMIT %d, %d)", from, n)
	}
	check := func(what string, n int) {
		t.Helper()
		for i := range o.port {
			o.eventually(t, i, "SELECT count(), sum(octets) FROM crosstap.flows_local", fmt.Sprintf("%d\t%d", n, 100*n))
			o.eventually(t, i, "SELECT sum(rows) FROM crosstap.hours", fmt.Sprint(n))
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
	o.must(t, 0, "INSERT INTO crosstap.flows_local "+rows(0, 5000))
	check("stored by one", 5000)
	o.must(t, 1, "INSERT INTO crosstap.flows_local "+rows(0, 5000))
	check("the same again, by the other", 5000)
	if err := o.cmd[1].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.cmd[1].Wait()
	o.must(t, 0, "INSERT INTO crosstap.flows_local "+rows(5000, 7000))
	o.eventually(t, 0, "SELECT count() FROM crosstap.flows", "12000")
	o.start(t, 1)
	check("what was stored while one was away", 12000)
}
