// Scenarios with franz-go. `franz NAME BOOTSTRAP [OPTION=VALUE ...]` runs one; it passes where it ends with 0. A line on stdout that begins
// with `@` asks for the broker to be killed or started, see ask.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	scenario  string
	bootstrap string
	options   = map[string]string{}
	answers   = bufio.NewReader(os.Stdin)
)

var scenarios = map[string]func(context.Context){
	"compressions":     compressions,
	"restarts":         restarts,
	"groups":           groups,
	"administer":       administer,
	"commit_and_abort": commitAndAbort,
	"copy_prepare":     copyPrepare,
	"copy":             copyOnce,
	"copy_check":       copyCheck,
}

func main() {
	scenario, bootstrap = os.Args[1], os.Args[2]
	for _, pair := range os.Args[3:] {
		key, value, _ := strings.Cut(pair, "=")
		options[key] = value
	}
	run, known := scenarios[scenario]
	if !known {
		fail("no scenario %s", scenario)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	run(ctx)
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

// ask has the broker killed ("kill"), started ("start"), or both ("restart").
func ask(wish string) {
	fmt.Println("@" + wish)
	answer, err := answers.ReadString('\n')
	must(err, wish)
	equal(strings.TrimSpace(answer), "done", wish)
}

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func equal[T any](actual, expected T, what string) {
	if !reflect.DeepEqual(actual, expected) {
		fail("%s: got %v, expected %v", what, actual, expected)
	}
}

func eventually(what string, condition func() bool) {
	for end := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			fail("%s: not within 60 s", what)
		}
	}
}

// name is that of a topic, group or transactional id: nobody else's, for scenarios share a broker.
func name(suffix string) string {
	if given, ok := options["name"]; ok {
		return "franz-" + given + "-" + suffix
	}
	return "franz-" + scenario + "-" + suffix
}

func client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.RetryTimeout(90 * time.Second)}, opts...)...)
	must(err, "client")
	return cl
}

func create(ctx context.Context, topic string, partitions int32) string {
	adm := kadm.NewClient(client())
	defer adm.Close()
	// Its records may be of any age.
	forever := "-1"
	_, err := adm.CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": &forever}, topic)
	must(err, "create "+topic)
	return topic
}

// send produces to given partitions and waits for all of it.
func send(ctx context.Context, records []*kgo.Record, opts ...kgo.Opt) {
	cl := client(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	defer cl.Close()
	must(cl.ProduceSync(ctx, records...).FirstErr(), "produce")
}

// readAll is every record of a topic up to its end, by partition and offset.
func readAll(ctx context.Context, topic string, opts ...kgo.Opt) []*kgo.Record {
	cl := client(append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords()}, opts...)...)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	must(err, "end of "+topic)
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		must(o.Err, "end offset")
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	byPartition := make([][]*kgo.Record, len(ends[topic]))
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		must(fetches.Err0(), "fetch")
		fetches.EachError(func(_ string, _ int32, err error) { must(err, "fetch") })
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				byPartition[r.Partition] = append(byPartition[r.Partition], r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	var all []*kgo.Record
	for _, records := range byPartition {
		all = append(all, records...)
	}
	return all
}

func values(records []*kgo.Record) []string {
	all := make([]string, 0, len(records))
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return all
}
